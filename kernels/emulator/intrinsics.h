// CUDA's built-in variables and functions, on a CPU. Part of cuda_cpu.h.
#pragma once

#define threadIdx (cuda_cpu::thread_index())
#define blockIdx (cuda_cpu::block_index())
#define blockDim (cuda_cpu::block_extent())
#define gridDim (cuda_cpu::grid_extent())
#define warpSize 32

// Together.
inline void __syncthreads(cuda_cpu::Place at = CUDA_CPU_HERE) { cuda_cpu::barrier(at, 0, 0); }
inline void __syncwarp(uint32_t mask = 0xffffffffu, cuda_cpu::Place at = CUDA_CPU_HERE) {
  cuda_cpu::sync_warp(at, mask);
}
template <class T>
inline T __shfl_sync(uint32_t mask, T value, int source, cuda_cpu::Place at = CUDA_CPU_HERE) {
  return cuda_cpu::from_bits<T>(
      cuda_cpu::shuffle(at, "__shfl_sync", mask, cuda_cpu::to_bits(value), source & 31));
}
template <class T>
inline T __shfl_xor_sync(uint32_t mask, T value, int lanes, cuda_cpu::Place at = CUDA_CPU_HERE) {
  return cuda_cpu::from_bits<T>(cuda_cpu::shuffle(at, "__shfl_xor_sync", mask,
                                                  cuda_cpu::to_bits(value),
                                                  cuda_cpu::lane() ^ (lanes & 31)));
}
template <class T>
inline T __shfl_down_sync(uint32_t mask, T value, unsigned lanes,
                          cuda_cpu::Place at = CUDA_CPU_HERE) {
  const int me = cuda_cpu::lane(), source = me + int(lanes);
  return cuda_cpu::from_bits<T>(cuda_cpu::shuffle(at, "__shfl_down_sync", mask,
                                                  cuda_cpu::to_bits(value),
                                                  source < 32 ? source : me));
}
template <class T>
inline T __shfl_up_sync(uint32_t mask, T value, unsigned lanes,
                        cuda_cpu::Place at = CUDA_CPU_HERE) {
  const int me = cuda_cpu::lane(), source = me - int(lanes);
  return cuda_cpu::from_bits<T>(cuda_cpu::shuffle(at, "__shfl_up_sync", mask,
                                                  cuda_cpu::to_bits(value),
                                                  source >= 0 ? source : me));
}
inline uint32_t __ballot_sync(uint32_t mask, int vote, cuda_cpu::Place at = CUDA_CPU_HERE) {
  return cuda_cpu::ballot(at, "__ballot_sync", mask, vote != 0);
}
inline int __any_sync(uint32_t mask, int vote, cuda_cpu::Place at = CUDA_CPU_HERE) {
  return cuda_cpu::ballot(at, "__any_sync", mask, vote != 0) != 0;
}
inline int __all_sync(uint32_t mask, int vote, cuda_cpu::Place at = CUDA_CPU_HERE) {
  return cuda_cpu::ballot(at, "__all_sync", mask, vote != 0) == mask;
}
inline uint32_t __activemask() { return cuda_cpu::active_mask(); }
#define CUDA_CPU_REDUCE(name, operation)                                                          \
  inline unsigned name(uint32_t mask, unsigned value, cuda_cpu::Place at = CUDA_CPU_HERE) {       \
    return cuda_cpu::reduce(at, #name, mask, value, cuda_cpu::Reduce::operation, false);          \
  }                                                                                               \
  inline int name(uint32_t mask, int value, cuda_cpu::Place at = CUDA_CPU_HERE) {                 \
    return int(                                                                                   \
        cuda_cpu::reduce(at, #name, mask, unsigned(value), cuda_cpu::Reduce::operation, true));   \
  }
CUDA_CPU_REDUCE(__reduce_add_sync, Add)
CUDA_CPU_REDUCE(__reduce_min_sync, Min)
CUDA_CPU_REDUCE(__reduce_max_sync, Max)
CUDA_CPU_REDUCE(__reduce_and_sync, And)
CUDA_CPU_REDUCE(__reduce_or_sync, Or)
CUDA_CPU_REDUCE(__reduce_xor_sync, Xor)
#undef CUDA_CPU_REDUCE

// Atomics: of one block's threads, since blocks run one after another.
template <class T, class F>
inline T cuda_cpu_atomic(T* at, F change) {
  cuda_cpu::atomic_enter(at);
  const T old = *at;
  *at = change(old);
  cuda_cpu::atomic_leave(at);
  return old;
}
template <class T, class U>
inline T atomicAdd(T* at, U value) {
  return cuda_cpu_atomic(at, [&](T old) { return T(old + T(value)); });
}
template <class T, class U>
inline T atomicMax(T* at, U value) {
  return cuda_cpu_atomic(at, [&](T old) { return T(value) > old ? T(value) : old; });
}
template <class T, class U>
inline T atomicMin(T* at, U value) {
  return cuda_cpu_atomic(at, [&](T old) { return T(value) < old ? T(value) : old; });
}
template <class T, class U>
inline T atomicOr(T* at, U value) {
  return cuda_cpu_atomic(at, [&](T old) { return T(old | T(value)); });
}
template <class T, class U>
inline T atomicExch(T* at, U value) {
  return cuda_cpu_atomic(at, [&](T) { return T(value); });
}
template <class T, class U, class V>
inline T atomicCAS(T* at, U compare, V value) {
  return cuda_cpu_atomic(at, [&](T old) { return old == T(compare) ? T(value) : old; });
}
inline void __threadfence() {}
inline void __threadfence_block() {}

// Loads and stores with a hint for the caches.
template <class T>
inline T __ldg(const T* from) {
  return *from;
}
template <class T>
inline T __ldcs(const T* from) {
  return *from;
}
template <class T>
inline T __ldcg(const T* from) {
  return *from;
}
template <class T>
inline void __stcs(T* to, T value) {
  *to = value;
}
template <class T>
inline void __stcg(T* to, T value) {
  *to = value;
}
#define __cvta_generic_to_shared(pointer) cuda_cpu::shared_offset(pointer)

// Arithmetic that is rounded once, to nearest even; g++ is told not to contract.
inline float __fmaf_rn(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fsqrt_rn(float a) { return __builtin_sqrtf(a); }
inline double __fma_rn(double a, double b, double c) { return __builtin_fma(a, b, c); }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline double __ddiv_rn(double a, double b) { return a / b; }
inline double __dsqrt_rn(double a) { return __builtin_sqrt(a); }
inline float __double2float_rn(double x) { return float(x); }
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline int __float2int_rn(float x) { return int(__builtin_rintf(x)); }
inline int __float2int_rz(float x) { return int(x); }
inline unsigned __float2uint_rz(float x) { return unsigned(x); }

// Bits.
inline uint32_t __float_as_uint(float x) { return cuda_cpu::from_bits<uint32_t>(cuda_cpu::to_bits(x)); }
inline int32_t __float_as_int(float x) { return cuda_cpu::from_bits<int32_t>(cuda_cpu::to_bits(x)); }
inline float __uint_as_float(uint32_t x) { return cuda_cpu::from_bits<float>(x); }
inline float __int_as_float(int32_t x) { return cuda_cpu::from_bits<float>(uint32_t(x)); }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x == 0 ? 32 : __builtin_clz(unsigned(x)); }
inline int __clzll(long long x) { return x == 0 ? 64 : __builtin_clzll((unsigned long long)(x)); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline uint64_t __umul64hi(uint64_t a, uint64_t b) {
  return uint64_t((unsigned __int128)(a) * b >> 64);
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned shift) {
  return unsigned(((uint64_t(high) << 32 | low) << (shift & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned shift) {
  return unsigned((uint64_t(high) << 32 | low) >> (shift & 31));
}
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const uint64_t both = uint64_t(y) << 32 | x;
  unsigned result = 0;
  for (int i = 0; i < 4; i++) {
    const unsigned pick = selector >> (4 * i) & 0xf;
    unsigned byte = unsigned(both >> (8 * (pick & 7))) & 0xff;
    if (pick & 8) byte = byte & 0x80 ? 0xff : 0;
    result |= byte << (8 * i);
  }
  return result;
}

template <class A, class B>
inline std::common_type_t<A, B> min(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(b) < T(a) ? T(b) : T(a);
}
template <class A, class B>
inline std::common_type_t<A, B> max(A a, B b) {
  using T = std::common_type_t<A, B>;
  return T(a) < T(b) ? T(b) : T(a);
}
