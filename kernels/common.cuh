// What the row kernels share: 16-byte pieces of rows, and the contract's row sum by one warp.
//
// Arithmetic: every rounding is written out (__fmaf_rn, __fadd_rn, ...) or plain + - * / compiled with
// --fmad=false, so that nvcc and the emulator's g++ give the bits of docs/ARITHMETIC.md.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

constexpr unsigned WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

using bf16 = __nv_bfloat16;

// Elements in 16 bytes: what one lane reads at a time.
template <typename T>
constexpr unsigned PIECE = 16 / sizeof(T);

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(bf16 x) { return __bfloat162float(x); }

template <typename T>
__device__ __forceinline__ T narrow(float x);
template <>
__device__ __forceinline__ float narrow<float>(float x) {
  return x;
}
template <>
__device__ __forceinline__ bf16 narrow<bf16>(float x) {
  return __float2bfloat16_rn(x);
}

// Consecutive elements of a row, widened.
template <unsigned N>
struct Piece {
  float at[N];
};

// Whether rows of `columns` elements from `base` on all start at a multiple of 16 bytes.
template <typename T>
__device__ __forceinline__ bool rows_aligned(const T* base, uint32_t columns) {
  return reinterpret_cast<uintptr_t>(base) % 16 == 0 && columns % PIECE<T> == 0;
}

// Reads `count` elements from `from` on, at most a piece; the others become 0. `aligned` says that
// `from` is at a multiple of 16 bytes, so that a whole piece is one load.
template <typename T>
__device__ __forceinline__ Piece<PIECE<T>> load(const T* from, uint32_t count, bool aligned) {
  Piece<PIECE<T>> piece;
  if (aligned && count >= PIECE<T>) {
    const uint4 raw = *reinterpret_cast<const uint4*>(from);
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (unsigned k = 0; k < PIECE<T>; k++) {
      // bf16 is the upper half of an f32; the first of two is in the lower half of the word.
      const uint32_t bits = sizeof(T) == 4 ? words[k % 4]
                            : k % 2 == 0   ? words[k / 2] << 16
                                           : words[k / 2] & 0xffff0000u;
      piece.at[k] = __uint_as_float(bits);
    }
  } else {
#pragma unroll
    for (unsigned k = 0; k < PIECE<T>; k++) piece.at[k] = k < count ? widen(from[k]) : 0.0f;
  }
  return piece;
}

// Writes the first `count` elements of a piece, rounded; `aligned` as for load.
template <typename T>
__device__ __forceinline__ void store(T* to, const Piece<PIECE<T>>& piece, uint32_t count,
                                      bool aligned) {
  if (aligned && count >= PIECE<T>) {
    alignas(16) T whole[PIECE<T>];
#pragma unroll
    for (unsigned k = 0; k < PIECE<T>; k++) whole[k] = narrow<T>(piece.at[k]);
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(whole);
  } else {
#pragma unroll
    for (unsigned k = 0; k < PIECE<T>; k++)
      if (k < count) to[k] = narrow<T>(piece.at[k]);
  }
}

// The butterfly of 32 N partials, of which lane l has N l .. N l + N - 1; every lane gets the sum.
template <unsigned N>
__device__ __forceinline__ float butterfly(Piece<N> partial) {
#pragma unroll
  for (unsigned lanes = WARP / 2; lanes >= 1; lanes /= 2)
#pragma unroll
    for (unsigned k = 0; k < N; k++)
      partial.at[k] = __fadd_rn(partial.at[k], __shfl_xor_sync(ALL_LANES, partial.at[k], lanes));
#pragma unroll
  for (unsigned width = N / 2; width >= 1; width /= 2)
#pragma unroll
    for (unsigned k = 0; k < width; k++)
      partial.at[k] = __fadd_rn(partial.at[k], partial.at[k + width]);
  return partial.at[0];
}

// The row sum of a row of `columns` elements, with 32 N partials, by one warp: lane l has partials
// N l .. N l + N - 1. `step(i, count, partial)` adds elements i .. i + count to the first `count`
// of its lane's partials.
template <unsigned N, typename Step>
__device__ __forceinline__ float row_sum(uint32_t columns, unsigned lane, Step step) {
  Piece<N> partial;
#pragma unroll
  for (unsigned k = 0; k < N; k++) partial.at[k] = 0.0f;
  for (uint32_t i = N * lane; i < columns; i += N * WARP) {
    const uint32_t rest = columns - i;
    step(i, rest < N ? rest : N, partial);
  }
  return butterfly(partial);
}
