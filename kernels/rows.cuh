// Rows of a tensor in the lanes of a warp, and their sums in the contract's order.
//
// A lane holds runs of RUN<T> consecutive elements (16 bytes): run i of lane l begins at element
// (32 i + l) * RUN. So partial p of a row sum is element p % RUN of lane p / RUN: 128 partials for
// f32, 256 for bf16 (docs/ARITHMETIC.md, sections 2 and 16.3).

#pragma once

#include "exact.cuh"

template <class T> constexpr int RUN = 16 / sizeof(T);

// Elements first .. first + RUN of a row of `count` as f32; those beyond are left as they are.
// ALIGNED: every run is whole and begins at a multiple of 16 bytes.
template <class T, bool ALIGNED>
__device__ __forceinline__ void load_run(float (&x)[RUN<T>], const T* row, int first, int count) {
  if (ALIGNED) {
    uint4 bytes = *reinterpret_cast<const uint4*>(row + first);
    const T* elements = reinterpret_cast<const T*>(&bytes);
#pragma unroll
    for (int i = 0; i < RUN<T>; i++) x[i] = widen(elements[i]);
  } else {
#pragma unroll
    for (int i = 0; i < RUN<T>; i++) {
      if (first + i < count) x[i] = widen(row[first + i]);
    }
  }
}

template <class T, bool ALIGNED>
__device__ __forceinline__ void store_run(T* row, const float (&x)[RUN<T>], int first, int count) {
  if (ALIGNED) {
    uint4 bytes;
    T* elements = reinterpret_cast<T*>(&bytes);
#pragma unroll
    for (int i = 0; i < RUN<T>; i++) elements[i] = round_to<T>(x[i]);
    *reinterpret_cast<uint4*>(row + first) = bytes;
  } else {
#pragma unroll
    for (int i = 0; i < RUN<T>; i++) {
      if (first + i < count) row[first + i] = round_to<T>(x[i]);
    }
  }
}

// The butterfly over the lanes of a warp and the partials of each: every lane gets the sum.
template <int N> __device__ __forceinline__ float warp_butterfly(float (&partials)[N]) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) {
#pragma unroll
    for (int i = 0; i < N; i++) partials[i] += __shfl_xor_sync(0xffffffffu, partials[i], lanes);
  }
#pragma unroll
  for (int width = N / 2; width > 0; width /= 2) {
#pragma unroll
    for (int i = 0; i < width; i++) partials[i] += partials[i + width];
  }
  return partials[0];
}
