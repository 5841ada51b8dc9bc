// Fill, add, rounding, and the search for a value that is no number. Contract:
// src/ops/elementwise.rs; launcher: src/backend/cuda/elementwise.rs. Copies are the driver's.
// One thread per run of 16 bytes of the wider tensor; `_any` for places that are not so aligned.

#include "rows.cuh"
#include "table.cuh"

namespace {

__device__ __forceinline__ int64_t thread() {
  return (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
}

// Elements from `first` on, as an int: what load_run compares with.
__device__ __forceinline__ int rest(int64_t count, int64_t first, int most) {
  return count - first < most ? (int)(count - first) : most;
}

template <class T> __device__ __forceinline__ void fill(T* out, float value, int64_t count) {
  int64_t i = thread();
  if (i < count) out[i] = round_to<T>(value);
}

// out += inp, for the run that begins at `first`.
template <class T, bool ALIGNED>
__device__ __forceinline__ void add(T* out, const T* inp, int64_t count, int64_t first) {
  if (first >= count) return;
  float x[RUN<T>] = {}, y[RUN<T>] = {};
  int left = rest(count, first, RUN<T>);
  if (ALIGNED && left == RUN<T>) {
    load_run<T, true>(x, out + first, 0, left);
    load_run<T, true>(y, inp + first, 0, left);
  } else {
    load_run<T, false>(x, out + first, 0, left);
    load_run<T, false>(y, inp + first, 0, left);
  }
#pragma unroll
  for (int i = 0; i < RUN<T>; i++) x[i] = x[i] + y[i];
  if (ALIGNED && left == RUN<T>) store_run<T, true>(out + first, x, 0, left);
  else store_run<T, false>(out + first, x, 0, left);
}

// What is added to what.
struct Part {
  float* out;
  const float* inp;
  uint64_t count;
  uint32_t first, unused;
};

// Index of the first element that is infinite or NaN into `*found`, which begins at `count`.
template <class T>
__device__ __forceinline__ void first_non_finite(unsigned long long* found, const T* inp,
                                                 int64_t count) {
  for (int64_t i = thread(); i < count; i += (int64_t)gridDim.x * blockDim.x) {
    if ((__float_as_int(widen(inp[i])) & 0x7f800000) == 0x7f800000) {
      atomicMin(found, (unsigned long long)i);
      return;
    }
  }
}

}  // namespace

#define ELEMENTWISE(T, NAME)                                                                     \
  extern "C" __global__ void elementwise_fill_##NAME(T* out, float value, int64_t count) {       \
    fill<T>(out, value, count);                                                                  \
  }                                                                                              \
  extern "C" __global__ void elementwise_add_##NAME(T* out, const T* inp, int64_t count) {       \
    add<T, true>(out, inp, count, thread() * RUN<T>);                                            \
  }                                                                                              \
  extern "C" __global__ void elementwise_add_##NAME##_any(T* out, const T* inp, int64_t count) { \
    add<T, false>(out, inp, count, thread() * RUN<T>);                                           \
  }                                                                                              \
  extern "C" __global__ void elementwise_first_non_finite_##NAME(unsigned long long* found,      \
                                                                 const T* inp, int64_t count) {  \
    first_non_finite<T>(found, inp, count);                                                      \
  }
ELEMENTWISE(float, f32)
ELEMENTWISE(bf16, bf16)

// One thread block per 4,096 elements of a part.
extern "C" __global__ void elementwise_add_parts_f32(const Part* table, int parts) {
  Part part = find(table, parts);
  int64_t start = (int64_t)(blockIdx.x - part.first) * BLOCK;
  int count = rest((int64_t)part.count, start, BLOCK);
  float* out = part.out + start;
  const float* inp = part.inp + start;
  bool aligned = ((uint64_t)out | (uint64_t)inp) % 16 == 0;
  for (int first = threadIdx.x * RUN<float>; first < count; first += blockDim.x * RUN<float>) {
    if (aligned) add<float, true>(out, inp, count, first);
    else add<float, false>(out, inp, count, first);
  }
}

// One thread per element.
extern "C" __global__ void elementwise_round(bf16* out, const float* inp, int64_t count) {
  int64_t i = thread();
  if (i < count) out[i] = to_bf16(inp[i]);
}
extern "C" __global__ void elementwise_widen(float* out, const bf16* inp, int64_t count) {
  int64_t i = thread();
  if (i < count) out[i] = widen(inp[i]);
}
