// AdamW over many tensors in one launch, and the sums of squares of their gradients: f32 state
// (docs/ARITHMETIC.md, section 11). Launchers: src/backend/cuda/{adamw,norm}.rs.
//
// Work is cut into blocks of 4,096 elements of one tensor. A table says where tensors are; `first`
// of each is the number of its first block, ascending.

#include "exact.cuh"
#include "table.cuh"

namespace {

struct Tensors {
  float *param, *m, *v;
  const float* grad;
  // Receives the rounded weights; null where nobody wants them.
  bf16* copy;
  uint64_t count;
  float decay;
  uint32_t first;
};

// Of a sum of squares.
struct Summands {
  const float* values;
  uint64_t count;
  uint32_t first, unused;
};

}  // namespace

// One thread block per 4,096 elements.
extern "C" __global__ void adamw_update(const Tensors* table, int tensors, float grad_scale,
                                        float beta1, float one_minus_beta1, float beta2,
                                        float one_minus_beta2, float step_size,
                                        float inv_sqrt_bias2, float eps) {
  Tensors t = find(table, tensors);
  uint64_t start = (uint64_t)(blockIdx.x - t.first) * BLOCK;
  uint64_t end = start + BLOCK < t.count ? start + BLOCK : t.count;
  for (uint64_t i = start + threadIdx.x; i < end; i += blockDim.x) {
    float g = t.grad[i] * grad_scale;
    float m = fmaf(beta1, t.m[i], one_minus_beta1 * g);
    float v = fmaf(beta2, t.v[i], (one_minus_beta2 * g) * g);
    float denominator = sqrtf(v) * inv_sqrt_bias2 + eps;
    float param = fmaf(-step_size, m / denominator, t.param[i] * t.decay);
    t.m[i] = m;
    t.v[i] = v;
    t.param[i] = param;
    if (t.copy) t.copy[i] = to_bf16(param);
  }
}

// One warp per 4,096 elements; a sum per block, in the table's order.
extern "C" __global__ void norm_block_sums(float* sums, const Summands* table, int tensors) {
  Summands t = find(table, tensors);
  uint64_t start = (uint64_t)(blockIdx.x - t.first) * BLOCK;
  uint64_t end = start + BLOCK < t.count ? start + BLOCK : t.count;
  // Lane l holds partials l, l + 32, l + 64, l + 96: its loads are consecutive between lanes.
  float partials[4] = {};
#pragma unroll 2
  for (uint64_t first = start; first < end; first += 128) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      uint64_t at = first + threadIdx.x + 32 * i;
      if (at < end) partials[i] = fmaf(t.values[at], t.values[at], partials[i]);
    }
  }
  float sum = (partials[0] + partials[2]) + (partials[1] + partials[3]);
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
