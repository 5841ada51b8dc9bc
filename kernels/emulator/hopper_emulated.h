// What kernels/hopper.cuh offers, under the emulator: the same names by functions of hopper.cc.
#pragma once

#define HOPPER 1

namespace hopper {

inline void barrier_init(uint64_t* barrier, uint32_t arrivals) {
  cuda_cpu::barrier_init(barrier, arrivals);
}
inline void barrier_arrive(uint64_t* barrier) { cuda_cpu::barrier_arrive(barrier, 0); }
inline void barrier_expect(uint64_t* barrier, uint32_t bytes) {
  cuda_cpu::barrier_arrive(barrier, bytes);
}
inline void barrier_wait(uint64_t* barrier, uint32_t phase, cuda_cpu::Place at = CUDA_CPU_HERE) {
  cuda_cpu::barrier_wait(at, barrier, phase);
}
inline void barriers_made() {}

inline void fetch_box(void* to, const void* map, uint64_t* barrier, int x, int y, int z) {
  cuda_cpu::fetch_box(to, map, barrier, x, y, z);
}
inline void acquire_map(const void*) {}

template <int N> inline void give_registers() {}
template <int N> inline void take_registers() {}
template <int N> inline void settle(float (&)[N]) {}

inline void wgmma_begin() {}
inline void wgmma_commit() { cuda_cpu::wgmma_commit(); }
template <int N> inline void wgmma_wait() { cuda_cpu::wgmma_wait(N); }

template <int TA, int TB, int N>
inline void wgmma(float (&d)[N], uint64_t a, uint64_t b, cuda_cpu::Place at) {
  cuda_cpu::wgmma(at, d, 2 * N, nullptr, a, TA, b, TB);
}
template <int TB, int N>
inline void wgmma(float (&d)[N], const uint32_t (&a)[4], uint64_t b, cuda_cpu::Place at) {
  cuda_cpu::wgmma(at, d, 2 * N, a, 0, false, b, TB);
}
template <int TA, int TB>
inline void wgmma_m64n128k16(float (&d)[64], uint64_t a, uint64_t b,
                             cuda_cpu::Place at = CUDA_CPU_HERE) {
  wgmma<TA, TB>(d, a, b, at);
}
template <int TA, int TB>
inline void wgmma_m64n64k16(float (&d)[32], uint64_t a, uint64_t b,
                            cuda_cpu::Place at = CUDA_CPU_HERE) {
  wgmma<TA, TB>(d, a, b, at);
}
template <int TB>
inline void wgmma_m64n128k16(float (&d)[64], const uint32_t (&a)[4], uint64_t b,
                             cuda_cpu::Place at = CUDA_CPU_HERE) {
  wgmma<TB>(d, a, b, at);
}
template <int TB>
inline void wgmma_m64n64k16(float (&d)[32], const uint32_t (&a)[4], uint64_t b,
                            cuda_cpu::Place at = CUDA_CPU_HERE) {
  wgmma<TB>(d, a, b, at);
}

}  // namespace hopper
