// CUDA C++ on a CPU: put before an unchanged .cu file with g++ -include, so that it compiles as C++.
//
// Each thread of a block is a fiber; scheduler.cc runs them, warp.cc does what warps do together, and
// tensor_core.cc what tensor cores compute. Types and roundings of bf16 and f16 are those of NVIDIA's
// own headers in their host form. What differs from one GPU to another (rsqrtf, __expf, ...) is left
// out on purpose: a kernel whose bits are defined cannot use it, and does not compile here.
#pragma once
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <cfloat>
#include <climits>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#undef __align__
#define CUDA_CPU_SHIM 1
#ifndef CUDA_CPU_LIST_KERNELS  // scripts/build-emulator.sh looks for the word in preprocessed files
#define __global__
#endif
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// A section of its own, which is poisoned before each block.
#define __shared__ static __attribute__((section("cuda_shared")))

namespace cuda_cpu {

// Where in a .cu file something was called.
struct Place {
  const char* file;
  int line;
};
#define CUDA_CPU_HERE \
  cuda_cpu::Place { __builtin_FILE(), __builtin_LINE() }

// This fiber's coordinates.
uint3 thread_index();
uint3 block_index();
dim3 block_extent();
dim3 grid_extent();
int lane();

// Barriers. `count` 0 means all threads of the block that have not ended.
void barrier(Place, int id, int count);
void sync_warp(Place, uint32_t mask);

// What the lanes in `mask` do together.
uint64_t shuffle(Place, const char* name, uint32_t mask, uint64_t value, int source);
uint32_t ballot(Place, const char* name, uint32_t mask, bool vote);
enum class Reduce { Add, Min, Max, And, Or, Xor };
uint32_t reduce(Place, const char* name, uint32_t mask, uint32_t value, Reduce, bool is_signed);
uint32_t active_mask();
void ldmatrix(Place, int matrices, bool transposed, uint32_t* to, const void* row);
void mma_m16n8k16_bf16(Place, float* d, const uint32_t* a, const uint32_t* b);

// cp.async: bytes land only when waited for, so that a missing wait reads poison.
void copy_async(Place, void* to, const void* from, int bytes, int valid_bytes);
void copy_async_commit();
void copy_async_wait(int pending_groups);

// Hopper: barriers in shared memory, boxes of tensor maps, products of warp groups.
void barrier_init(uint64_t* barrier, uint32_t arrivals);
void barrier_arrive(uint64_t* barrier, uint32_t expected_bytes);
void barrier_wait(Place, uint64_t* barrier, uint32_t phase);
void fetch_box(void* to, const void* map, uint64_t* barrier, int x, int y, int z);
// `a`: the left factor in registers, or null.
void wgmma(Place, float* d, int columns, const uint32_t* a, uint64_t a_operand, bool a_across,
           uint64_t b, bool b_across);
void wgmma_commit();
void wgmma_wait(int pending_groups);

// Shared memory.
unsigned char* dynamic_shared();
uint32_t shared_offset(const void*);

// Around an atomic operation: one thread's come before another's.
void atomic_enter(void*);
void atomic_leave(void*);

template <class T>
inline uint64_t to_bits(T value) {
  static_assert(sizeof(T) <= 8, "at most 8 bytes are shuffled");
  uint64_t bits = 0;
  __builtin_memcpy(&bits, &value, sizeof(T));
  return bits;
}
template <class T>
inline T from_bits(uint64_t bits) {
  T value;
  __builtin_memcpy(&value, &bits, sizeof(T));
  return value;
}

// Kernels by name. A signature has a letter for each parameter: p pointer, u 32-bit integer, U 64-bit
// integer (signed or not), f float, ? anything else.
using Launcher = void (*)(void** parameters);
void register_kernel(const char* name, Launcher, const char* signature);

template <class T>
constexpr char letter() {
  return std::is_pointer_v<T>                           ? 'p'
         : std::is_same_v<T, float>                     ? 'f'
         : !std::is_integral_v<T>                       ? '?'
         : sizeof(T) == 8                               ? 'U'
         : sizeof(T) == 4                               ? 'u'
                                                        : '?';
}
template <class... A>
struct Signature {
  static constexpr char text[sizeof...(A) + 1] = {letter<std::remove_cv_t<A>>()..., 0};
};
template <class... A, size_t... I>
inline void call(void (*kernel)(A...), void** parameters, std::index_sequence<I...>) {
  kernel(*(std::remove_cv_t<A>*)parameters[I]...);
}
template <class... A>
inline void call(void (*kernel)(A...), void** parameters) {
  call(kernel, parameters, std::index_sequence_for<A...>{});
}
template <class... A>
constexpr const char* signature(void (*)(A...)) {
  return Signature<A...>::text;
}
struct Registration {
  Registration(const char* name, Launcher launcher, const char* signature) {
    register_kernel(name, launcher, signature);
  }
};
#define CUDA_CPU_KERNEL(kernel)                                                    \
  static cuda_cpu::Registration cuda_cpu_registration_##kernel(                    \
      #kernel, [](void** parameters) { cuda_cpu::call(kernel, parameters); },      \
      cuda_cpu::signature(kernel));

}  // namespace cuda_cpu

#include "intrinsics.h"
