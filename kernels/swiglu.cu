// SwiGLU over rows [F gate | F up]; f32 (docs/ARITHMETIC.md, section 8) and bf16 (16.6).
// Launcher: src/backend/cuda/swiglu.rs. One thread per run of 16 bytes, or per element (`_any`).

#include "rows.cuh"

namespace {

__device__ __forceinline__ float sigmoid(float g) { return 1.0f / (1.0f + exact_exp(-g)); }

template <class T, bool ALIGNED>
__device__ __forceinline__ void forward(T* out, const T* inp, int64_t rows, int ffn) {
  int per_row = (ffn + RUN<T> - 1) / RUN<T>;
  int64_t run = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (run >= rows * per_row) return;
  int64_t row = run / per_row;
  int first = run % per_row * RUN<T>;
  const T* from = inp + row * 2 * ffn;
  float gate[RUN<T>] = {}, up[RUN<T>] = {};
  load_run<T, ALIGNED>(gate, from, first, ffn);
  load_run<T, ALIGNED>(up, from + ffn, first, ffn);
#pragma unroll
  for (int i = 0; i < RUN<T>; i++) up[i] = (gate[i] * sigmoid(gate[i])) * up[i];
  store_run<T, ALIGNED>(out + row * ffn, up, first, ffn);
}

template <class T, bool ALIGNED>
__device__ __forceinline__ void backward(T* dinp, const T* dout, const T* inp, int64_t rows,
                                         int ffn) {
  int per_row = (ffn + RUN<T> - 1) / RUN<T>;
  int64_t run = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (run >= rows * per_row) return;
  int64_t row = run / per_row;
  int first = run % per_row * RUN<T>;
  const T* from = inp + row * 2 * ffn;
  float gate[RUN<T>] = {}, up[RUN<T>] = {}, d[RUN<T>] = {};
  load_run<T, ALIGNED>(gate, from, first, ffn);
  load_run<T, ALIGNED>(up, from + ffn, first, ffn);
  load_run<T, ALIGNED>(d, dout + row * ffn, first, ffn);
#pragma unroll
  for (int i = 0; i < RUN<T>; i++) {
    float g = gate[i], s = sigmoid(g);
    gate[i] = (d[i] * up[i]) * (s * fmaf(g, 1.0f - s, 1.0f));
    up[i] = d[i] * (g * s);
  }
  T* to = dinp + row * 2 * ffn;
  store_run<T, ALIGNED>(to, gate, first, ffn);
  store_run<T, ALIGNED>(to + ffn, up, first, ffn);
}

}  // namespace

#define SWIGLU(T, NAME, SUFFIX, ALIGNED)                                                         \
  extern "C" __global__ void swiglu_forward_##NAME##SUFFIX(T* out, const T* inp, int64_t rows,   \
                                                           int ffn) {                            \
    forward<T, ALIGNED>(out, inp, rows, ffn);                                                    \
  }                                                                                              \
  extern "C" __global__ void swiglu_backward_##NAME##SUFFIX(T* dinp, const T* dout,              \
                                                            const T* inp, int64_t rows,          \
                                                            int ffn) {                           \
    backward<T, ALIGNED>(dinp, dout, inp, rows, ffn);                                            \
  }
SWIGLU(float, f32, , true)
SWIGLU(float, f32, _any, false)
SWIGLU(bf16, bf16, , true)
SWIGLU(bf16, bf16, _any, false)
