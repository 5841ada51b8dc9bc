// How fast a device multiplies and adds at most: independent chains in registers, without memory.
//
// Launcher: src/backend/cuda/ceiling.rs. A result is stored only where it is a number that cannot
// come out, so that the compiler must compute it and nothing is written.

#include "tensor_core.cuh"

namespace {

// Enough to hide the latency of an FMA, and of an mma.sync with four warps on each scheduler.
constexpr int CHAINS = 8;
constexpr float NEVER = -1.0f;

}  // namespace

extern "C" __global__ void __launch_bounds__(128) ceiling_fma(float* out, int turns, float x,
                                                              float y) {
  float chains[CHAINS];
#pragma unroll
  for (int i = 0; i < CHAINS; i++) chains[i] = (float)(threadIdx.x + i);
#pragma unroll 16
  for (int turn = 0; turn < turns; turn++) {
#pragma unroll
    for (int i = 0; i < CHAINS; i++) chains[i] = fmaf(chains[i], x, y);
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < CHAINS; i++) sum += chains[i];
  if (sum == NEVER) out[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(128) ceiling_mma(float* out, int turns,
                                                              uint32_t pair) {
  float chains[CHAINS][4] = {};
  uint32_t a[4] = {pair, pair, pair, pair};
#pragma unroll 4
  for (int turn = 0; turn < turns; turn++) {
#pragma unroll
    for (int i = 0; i < CHAINS; i++) mma_m16n8k16(chains[i], a, pair, pair);
  }
  float sum = 0.0f;
#pragma unroll
  for (int i = 0; i < CHAINS; i++) sum += (chains[i][0] + chains[i][1]) + (chains[i][2] + chains[i][3]);
  if (sum == NEVER) out[blockIdx.x] = sum;
}
