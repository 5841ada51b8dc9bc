// RMSNorm. Contract: src/ops/rmsnorm.rs, docs/ARITHMETIC.md 5 (f32) and 16.5 (bf16); launcher:
// src/backend/cuda/rmsnorm.rs.
#include "common.cuh"

// One warp per row: threadIdx.x is the lane, threadIdx.y the row within the block. The row is read
// again for the output: it is in the L1 cache by then.
template <typename T>
__device__ __forceinline__ void rmsnorm_forward(T* out, float* rstd, const T* inp,
                                                const float* weight, float eps, uint32_t rows,
                                                uint32_t columns) {
  constexpr unsigned N = PIECE<T>;
  const uint32_t row = blockIdx.x * blockDim.y + threadIdx.y;
  if (row >= rows) return;
  const unsigned lane = threadIdx.x;
  out += size_t(row) * columns;
  inp += size_t(row) * columns;
  const bool aligned = rows_aligned(inp, columns) && rows_aligned(out, columns);

  const float sum = row_sum<N>(columns, lane, [&](uint32_t i, uint32_t count, Piece<N>& partial) {
    const Piece<N> x = load(inp + i, count, aligned);
#pragma unroll
    for (unsigned k = 0; k < N; k++)
      if (k < count) partial.at[k] = __fmaf_rn(x.at[k], x.at[k], partial.at[k]);
  });
  const float mean = __fdiv_rn(sum, float(columns));
  const float scale = __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, eps)));
  if (lane == 0) rstd[row] = scale;

  for (uint32_t i = N * lane; i < columns; i += N * WARP) {
    const uint32_t rest = columns - i;
    const uint32_t count = rest < N ? rest : N;
    Piece<N> x = load(inp + i, count, aligned);
#pragma unroll
    for (unsigned k = 0; k < N; k++) {
      const float w = k < count ? weight[i + k] : 0.0f;
      x.at[k] = __fmul_rn(__fmul_rn(x.at[k], scale), w);
    }
    store(out + i, x, count, aligned);
  }
}

extern "C" __global__ void rmsnorm_forward_f32(float* out, float* rstd, const float* inp,
                                               const float* weight, float eps, uint32_t rows,
                                               uint32_t columns) {
  rmsnorm_forward(out, rstd, inp, weight, eps, rows, columns);
}

extern "C" __global__ void rmsnorm_forward_bf16(bf16* out, float* rstd, const bf16* inp,
                                                const float* weight, float eps, uint32_t rows,
                                                uint32_t columns) {
  rmsnorm_forward(out, rstd, inp, weight, eps, rows, columns);
}
