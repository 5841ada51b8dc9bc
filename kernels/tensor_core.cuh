// What tensor cores need beside arithmetic: fragments from shared memory, copies that run beside
// computation, and the product itself. The only PTX of the mma.sync kernels; under the emulator
// the same names are functions of kernels/emulator.

#pragma once

#include "exact.cuh"

#ifdef CUDA_CPU_SHIM

#define DYNAMIC_SHARED(T, name) T* name = reinterpret_cast<T*>(cuda_cpu::dynamic_shared())

#define ldmatrix_x4(r, row) cuda_cpu::ldmatrix(CUDA_CPU_HERE, 4, false, r, row)
#define ldmatrix_x4_trans(r, row) cuda_cpu::ldmatrix(CUDA_CPU_HERE, 4, true, r, row)
#define mma_m16n8k16(d, a, b0, b1)                           \
  do {                                                       \
    uint32_t mma_b[2] = {b0, b1};                            \
    cuda_cpu::mma_m16n8k16_bf16(CUDA_CPU_HERE, d, a, mma_b); \
  } while (0)
#define cp_async_16(to, from, there) cuda_cpu::copy_async(CUDA_CPU_HERE, to, from, 16, (there) ? 16 : 0)
inline void cp_async_commit() { cuda_cpu::copy_async_commit(); }
template <int N> inline void cp_async_wait() { cuda_cpu::copy_async_wait(N); }

#else

// Dynamic shared memory as an array of T.
#define DYNAMIC_SHARED(T, name)                                   \
  extern __shared__ __align__(128) unsigned char dynamic_bytes[]; \
  T* name = reinterpret_cast<T*>(dynamic_bytes)

__device__ __forceinline__ uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

// Four 8 x 8 matrices of 16-bit elements; lanes 8i to 8i + 7 name the rows of matrix i.
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}

// The same, each matrix transposed.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row)));
}

// d (16 x 8) continued by a (16 x 16) times b (16 x 8).
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0,
                                             uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 16 bytes to shared memory, or 16 zeros; they are there after the wait that covers them.
__device__ __forceinline__ void cp_async_16(void* to, const void* from, bool there) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(shared_address(to)), "l"(from), "r"(there ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// All but the newest N groups have come.
template <int N> __device__ __forceinline__ void cp_async_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif
