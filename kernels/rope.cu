// Rotary positions in place on packed rows; f32 (docs/ARITHMETIC.md, section 6) and bf16 (16.6).
// Launcher: src/backend/cuda/rope.rs. One thread per pair (i, i + D/2) of a head.

#include "exact.cuh"

namespace {

template <class T>
__device__ __forceinline__ void rotate(T* x, const float* cos, const float* sin, int64_t pairs,
                                       int heads, int half, int width, int seq_len,
                                       int first_position, float direction) {
  int64_t pair = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (pair >= pairs) return;
  int i = pair % half, head = pair / half % heads;
  int64_t row = pair / half / heads, position = row % seq_len + first_position;
  T* at = x + row * width + head * 2 * half + i;
  float c = cos[position * half + i], s = sin[position * half + i] * direction;
  float a = widen(at[0]), b = widen(at[half]);
  at[0] = round_to<T>(fmaf(a, c, -(b * s)));
  at[half] = round_to<T>(fmaf(b, c, a * s));
}

}  // namespace

// `direction` is 1, or -1 for backward.
#define ROTATE(T, NAME)                                                                      \
  extern "C" __global__ void rope_rotate_##NAME(T* x, const float* cos, const float* sin,    \
                                                int64_t pairs, int heads, int half,          \
                                                int width, int seq_len, int first_position,  \
                                                float direction) {                           \
    rotate<T>(x, cos, sin, pairs, heads, half, width, seq_len, first_position, direction);   \
  }
ROTATE(float, f32)
ROTATE(bf16, bf16)
