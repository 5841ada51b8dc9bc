// RMSNorm, plain and fused with the residual; f32 (docs/ARITHMETIC.md, section 5) and bf16 (16.5).
// Launcher: src/backend/cuda/rmsnorm.rs. One warp per row.

#include "rows.cuh"
#include "tensor_core.cuh"

namespace {

// 1 / sqrt(mean of squares + eps) of this warp's row.
template <class T>
__device__ __forceinline__ float inverse_root(float (&squares)[RUN<T>], int columns, float eps) {
  return 1.0f / sqrtf(warp_butterfly(squares) / (float)columns + eps);
}

template <class T, bool ALIGNED, bool RESIDUAL>
__device__ __forceinline__ void forward(T* out, float* rstd, T* sum, const T* residual,
                                        const T* inp, const float* weight, int64_t rows,
                                        int columns, float eps) {
  int64_t row = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  int lane = threadIdx.x % 32;
  if (row >= rows) return;
  out += row * columns, inp += row * columns;
  if (RESIDUAL) sum += row * columns, residual += row * columns;
  float squares[RUN<T>] = {};
  for (int first = lane * RUN<T>; first < columns; first += 32 * RUN<T>) {
    float x[RUN<T>] = {};
    load_run<T, ALIGNED>(x, inp, first, columns);
    if (RESIDUAL) {
      float r[RUN<T>] = {};
      load_run<T, ALIGNED>(r, residual, first, columns);
#pragma unroll
      for (int i = 0; i < RUN<T>; i++) x[i] = widen(round_to<T>(r[i] + x[i]));
      store_run<T, ALIGNED>(sum, x, first, columns);
    }
#pragma unroll
    for (int i = 0; i < RUN<T>; i++) {
      if (ALIGNED || first + i < columns) squares[i] = fmaf(x[i], x[i], squares[i]);
    }
  }
  float r = inverse_root<T>(squares, columns, eps);
  if (lane == 0) rstd[row] = r;
  // This lane's own elements: they are still in the caches.
  const T* from = RESIDUAL ? sum : inp;
  for (int first = lane * RUN<T>; first < columns; first += 32 * RUN<T>) {
    float x[RUN<T>] = {};
    load_run<T, ALIGNED>(x, from, first, columns);
#pragma unroll
    for (int i = 0; i < RUN<T>; i++) {
      if (ALIGNED || first + i < columns) x[i] = (x[i] * r) * weight[first + i];
    }
    store_run<T, ALIGNED>(out, x, first, columns);
  }
}

// Rows in a group of weight gradients, and its partials: constants of the contract in `tc`.
constexpr int GROUP = 64, PARTIALS = 8;

// Gradient of one row; adds the row's part of dweight to `dweight`, which may be null.
template <class T, bool ALIGNED>
__device__ __forceinline__ void backward_row(T* dinp, float* dweight, const T* dout, const T* inp,
                                             const float* weight, float rstd, int columns) {
  int lane = threadIdx.x % 32;
  float dots[RUN<T>] = {};
  for (int first = lane * RUN<T>; first < columns; first += 32 * RUN<T>) {
    float x[RUN<T>] = {}, g[RUN<T>] = {};
    load_run<T, ALIGNED>(x, inp, first, columns);
    load_run<T, ALIGNED>(g, dout, first, columns);
#pragma unroll
    for (int i = 0; i < RUN<T>; i++) {
      if (ALIGNED || first + i < columns) dots[i] = fmaf(g[i] * weight[first + i], x[i], dots[i]);
    }
  }
  float dot = warp_butterfly(dots);
  float scale = ((rstd * rstd) * rstd) * (dot / (float)columns);
  for (int first = lane * RUN<T>; first < columns; first += 32 * RUN<T>) {
    float x[RUN<T>] = {}, g[RUN<T>] = {}, d[RUN<T>] = {};
    load_run<T, ALIGNED>(x, inp, first, columns);
    load_run<T, ALIGNED>(g, dout, first, columns);
    load_run<T, ALIGNED>(d, dinp, first, columns);
#pragma unroll
    for (int i = 0; i < RUN<T>; i++) {
      if (!(ALIGNED || first + i < columns)) continue;
      if (dweight) dweight[first + i] = fmaf(g[i], x[i] * rstd, dweight[first + i]);
      d[i] = d[i] + fmaf(g[i] * weight[first + i], rstd, -(x[i] * scale));
    }
    store_run<T, ALIGNED>(dinp, d, first, columns);
  }
}

template <class T, bool ALIGNED>
__device__ __forceinline__ void backward_input(T* dinp, const T* dout, const T* inp,
                                               const float* weight, const float* rstd,
                                               int64_t rows, int columns) {
  int64_t row = (int64_t)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (row >= rows) return;
  int64_t at = row * columns;
  backward_row<T, ALIGNED>(dinp + at, nullptr, dout + at, inp + at, weight, rstd[row], columns);
}

// One block of eight warps per group of 64 rows. Warp w takes rows w, w + 8, … and keeps their
// weight gradients in shared memory: its partial of the contract. `sums` is (groups, columns).
template <bool ALIGNED>
__device__ __forceinline__ void backward_groups(bf16* dinp, float* sums, const bf16* dout,
                                                const bf16* inp, const float* weight,
                                                const float* rstd, int64_t rows, int columns) {
  DYNAMIC_SHARED(float, partials);
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  float* mine = partials + (int64_t)warp * columns;
  // Each lane clears and adds to its own columns only.
  for (int first = lane * RUN<bf16>; first < columns; first += 32 * RUN<bf16>) {
    for (int i = first; i < min(first + RUN<bf16>, columns); i++) mine[i] = 0.0f;
  }
  for (int r = warp; r < GROUP; r += PARTIALS) {
    int64_t row = (int64_t)blockIdx.x * GROUP + r, at = row * columns;
    if (row >= rows) break;
    backward_row<bf16, ALIGNED>(dinp + at, mine, dout + at, inp + at, weight, rstd[row], columns);
  }
  __syncthreads();
  for (int column = threadIdx.x; column < columns; column += blockDim.x) {
    const float* p = partials + column;
    int64_t c = columns;
    float even = (p[0] + p[4 * c]) + (p[2 * c] + p[6 * c]);
    float odd = (p[c] + p[5 * c]) + (p[3 * c] + p[7 * c]);
    sums[blockIdx.x * c + column] = even + odd;
  }
}

}  // namespace

#define FORWARD(T, NAME, SUFFIX, ALIGNED)                                                         \
  extern "C" __global__ void rmsnorm_forward_##NAME##SUFFIX(                                      \
      T* out, float* rstd, const T* inp, const float* weight, int64_t rows, int columns,          \
      float eps) {                                                                                \
    forward<T, ALIGNED, false>(out, rstd, nullptr, nullptr, inp, weight, rows, columns, eps);     \
  }                                                                                               \
  extern "C" __global__ void rmsnorm_forward_residual_##NAME##SUFFIX(                             \
      T* out, float* rstd, T* sum, const T* residual, const T* inp, const float* weight,          \
      int64_t rows, int columns, float eps) {                                                     \
    forward<T, ALIGNED, true>(out, rstd, sum, residual, inp, weight, rows, columns, eps);         \
  }                                                                                               \
  extern "C" __global__ void rmsnorm_backward_input_##NAME##SUFFIX(                               \
      T* dinp, const T* dout, const T* inp, const float* weight, const float* rstd, int64_t rows, \
      int columns) {                                                                              \
    backward_input<T, ALIGNED>(dinp, dout, inp, weight, rstd, rows, columns);                     \
  }

// `_any` takes rows of any length and place, the others rows of whole runs of 16 bytes.
FORWARD(float, f32, , true)
FORWARD(float, f32, _any, false)
FORWARD(bf16, bf16, , true)
FORWARD(bf16, bf16, _any, false)

#define GROUPS(SUFFIX, ALIGNED)                                                                  \
  extern "C" __global__ void rmsnorm_backward_groups_bf16##SUFFIX(                               \
      bf16* dinp, float* sums, const bf16* dout, const bf16* inp, const float* weight,           \
      const float* rstd, int64_t rows, int columns) {                                            \
    backward_groups<ALIGNED>(dinp, sums, dout, inp, weight, rstd, rows, columns);                \
  }
GROUPS(, true)
GROUPS(_any, false)

// The same sums for rows too long for shared memory, after rmsnorm_backward_input. One thread per
// column, one row of blocks per group.
extern "C" __global__ void rmsnorm_backward_weight_groups_bf16(float* sums, const bf16* dout,
                                                               const bf16* inp, const float* rstd,
                                                               int64_t rows, int columns) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= columns) return;
  for (int64_t group = blockIdx.y; group * GROUP < rows; group += gridDim.y) {
    float p[PARTIALS] = {};
    for (int r = 0; r < GROUP && group * GROUP + r < rows; r++) {
      int64_t row = group * GROUP + r, at = row * columns + column;
      p[r % PARTIALS] = fmaf(widen(dout[at]), widen(inp[at]) * rstd[row], p[r % PARTIALS]);
    }
    sums[group * columns + column] =
        ((p[0] + p[4]) + (p[2] + p[6])) + ((p[1] + p[5]) + (p[3] + p[7]));
  }
}

// dweight += the groups' sums, a chain over groups from 0. One thread per column.
extern "C" __global__ void rmsnorm_backward_weight_bf16(float* dweight, const float* sums,
                                                        int64_t groups, int columns) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= columns) return;
  float sum = 0.0f;
  for (int64_t group = 0; group < groups; group++) sum += sums[group * columns + column];
  dweight[column] += sum;
}

// f32: a chain over rows from the value there. One thread per column.
extern "C" __global__ void rmsnorm_backward_weight_f32(float* dweight, const float* dout,
                                                       const float* inp, const float* rstd,
                                                       int64_t rows, int columns) {
  int column = blockIdx.x * blockDim.x + threadIdx.x;
  if (column >= columns) return;
  float sum = dweight[column];
  for (int64_t row = 0; row < rows; row++) {
    int64_t at = row * columns + column;
    sum = fmaf(dout[at], inp[at] * rstd[row], sum);
  }
  dweight[column] = sum;
}
