// Product chains of the profiles `f32` and `bf16` (docs/ARITHMETIC.md, section 4) by plain FMAs.

#pragma once

#include "exact.cuh"

enum class Profile { F32, Bf16 };

__device__ __forceinline__ float zero_if_subnormal(float x) {
  return fabsf(x) < 1.17549435e-38f ? copysignf(0.0f, x) : x;
}

// `x` as it enters a product.
template <Profile P> __device__ __forceinline__ float enter(float x) {
  return P == Profile::F32 ? x : zero_if_subnormal(widen(to_bf16(x)));
}

// fma° of section 4. It judges after rounding to 24 bits as if the exponent had no lower end: that is
// what the same sum gives at 2^64 times the size.
__device__ __forceinline__ float flushed_fma(float x, float a, float acc) {
  const float smallest = 1.17549435e-38f, larger_by = 18446744073709551616.0f;
  acc = zero_if_subnormal(acc);
  float sum = fmaf(x, a, acc);
  if (!(fabsf(sum) <= smallest)) return sum;
  // One factor is small where the sum is, or the other is.
  bool small = fabsf(x) < 1.0f;
  float scaled = fmaf(small ? x * larger_by : x, small ? a : a * larger_by, acc * larger_by);
  return fabsf(scaled) < smallest * larger_by ? copysignf(0.0f, sum) : sum;
}

template <Profile P> __device__ __forceinline__ float step(float x, float a, float acc) {
  return P == Profile::F32 ? fmaf(x, a, acc) : flushed_fma(x, a, acc);
}

// Where in its chain element k of `count` stands: in bf16 the odd element of a pair comes first.
template <Profile P> __device__ __forceinline__ int in_turn(int k) {
  return P == Profile::F32 ? k : k ^ 1;
}

// Elements in a chain of `count`: in bf16 a last single element has a zero beside it.
template <Profile P> __device__ __forceinline__ int chain_length(int count) {
  return P == Profile::F32 ? count : count + (count & 1);
}
