// Softmax and cross-entropy, fused: losses, and gradients in place of the logits; f32
// (docs/ARITHMETIC.md, section 9) and bf16 (16.6). Launcher: src/backend/cuda/cross_entropy.rs.
//
// One block per row: one warp in f32 (128 partials), eight in bf16 (2,048 partials). A thread comes
// back to its own elements only, so it may keep them in shared memory without a barrier (CACHED):
// then the logits are read once.

#include "rows.cuh"
#include "tensor_core.cuh"

namespace {

template <class T> constexpr int THREADS = sizeof(T) == 4 ? 32 : 256;

// `x` of all threads by the butterfly THREADS / 2, … 1, for sums (and likewise maxima).
template <int WARPS, class Join>
__device__ __forceinline__ float across_warps(float x, float* slots, Join join) {
  if (WARPS == 1) return x;
  int warp = threadIdx.x / 32;
  __syncthreads();
  slots[warp * 32 + threadIdx.x % 32] = x;
  __syncthreads();
  float joined[WARPS];
#pragma unroll
  for (int w = 0; w < WARPS; w++) joined[w] = slots[w * 32 + threadIdx.x % 32];
#pragma unroll
  for (int width = WARPS / 2; width > 0; width /= 2) {
#pragma unroll
    for (int w = 0; w < width; w++) joined[w] = join(joined[w], joined[w + width]);
  }
  return joined[0];
}

template <class T, bool ALIGNED, bool CACHED, bool GRADIENT>
__device__ __forceinline__ void row(float* losses, T* logits, const uint32_t* targets, int vocab,
                                    float scale) {
  constexpr int WARPS = THREADS<T> / 32, STRIDE = THREADS<T> * RUN<T>;
  DYNAMIC_SHARED(T, cache);
  __shared__ float slots[THREADS<T>];
  T* x_row = logits + (int64_t)blockIdx.x * vocab;
  uint32_t target = targets[blockIdx.x];
  // Only thread 0 needs it, before anything is overwritten. A target that is not there gives NaN,
  // which ends the step.
  float target_logit = 0.0f;
  if (threadIdx.x == 0) {
    target_logit = target < vocab ? widen(x_row[target]) : __int_as_float(0x7fffffff);
  }

  float highest = __int_as_float(0xff800000);
  for (int first = threadIdx.x * RUN<T>; first < vocab; first += STRIDE) {
    float x[RUN<T>] = {};
    load_run<T, ALIGNED>(x, x_row, first, vocab);
    if (CACHED) store_run<T, ALIGNED>(cache, x, first, vocab);
#pragma unroll
    for (int i = 0; i < RUN<T>; i++) {
      if (ALIGNED || first + i < vocab) highest = larger(x[i], highest);
    }
  }
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    highest = larger(highest, __shfl_xor_sync(0xffffffffu, highest, lanes));
  }
  highest = across_warps<WARPS>(highest, slots, [](float a, float b) { return larger(a, b); });

  const T* kept = CACHED ? cache : x_row;
  float sums[RUN<T>] = {};
  for (int first = threadIdx.x * RUN<T>; first < vocab; first += STRIDE) {
    float x[RUN<T>] = {};
    load_run<T, ALIGNED>(x, kept, first, vocab);
#pragma unroll
    for (int i = 0; i < RUN<T>; i++) {
      if (ALIGNED || first + i < vocab) sums[i] += exact_exp(x[i] - highest);
    }
  }
  // The butterfly begins between warps, and ends within a thread.
#pragma unroll
  for (int i = 0; i < RUN<T>; i++) {
    sums[i] = across_warps<WARPS>(sums[i], slots, [](float a, float b) { return a + b; });
  }
  float sum = warp_butterfly(sums);
  if (threadIdx.x == 0) losses[blockIdx.x] = (highest + exact_log(sum)) - target_logit;
  if (!GRADIENT) return;

  // Thread 0 has read its logit before another overwrites it: in f32 no barrier says so yet.
  __syncwarp();
  float factor = scale / sum;
  for (int first = threadIdx.x * RUN<T>; first < vocab; first += STRIDE) {
    float x[RUN<T>] = {};
    load_run<T, ALIGNED>(x, kept, first, vocab);
#pragma unroll
    for (int i = 0; i < RUN<T>; i++) {
      float d = exact_exp(x[i] - highest) * factor;
      x[i] = first + i == target ? d - scale : d;
    }
    store_run<T, ALIGNED>(x_row, x, first, vocab);
  }
}

}  // namespace

// `_cached` needs shared memory for a row; `_any` takes rows of any length.
#define CROSS_ENTROPY(T, NAME, SUFFIX, ALIGNED, CACHED)                                         \
  extern "C" __global__ void __launch_bounds__(THREADS<T>)                                      \
      cross_entropy_forward_##NAME##SUFFIX(float* losses, const T* logits,                      \
                                           const uint32_t* targets, int vocab) {                \
    row<T, ALIGNED, CACHED, false>(losses, const_cast<T*>(logits), targets, vocab, 0.0f);       \
  }                                                                                             \
  extern "C" __global__ void __launch_bounds__(THREADS<T>)                                      \
      cross_entropy_forward_backward_##NAME##SUFFIX(                                            \
          float* losses, T* logits, const uint32_t* targets, int vocab, float scale) {          \
    row<T, ALIGNED, CACHED, true>(losses, logits, targets, vocab, scale);                       \
  }
CROSS_ENTROPY(float, f32, , true, false)
CROSS_ENTROPY(float, f32, _any, false, false)
CROSS_ENTROPY(bf16, bf16, , true, false)
CROSS_ENTROPY(bf16, bf16, _cached, true, true)
CROSS_ENTROPY(bf16, bf16, _any, false, false)
