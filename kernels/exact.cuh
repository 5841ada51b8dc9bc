// The arithmetic contract in device code: docs/ARITHMETIC.md, sections 1 to 3 and 16.
//
// Compiled without contraction (--fmad=false), flushing or fast division: + - * / and sqrtf round
// to nearest even, and an FMA is one where `fmaf` is written.

#pragma once

#include <cuda_bf16.h>
#include <stdint.h>

using bf16 = __nv_bfloat16;

// Nearest even; subnormal numbers stay.
__device__ __forceinline__ bf16 to_bf16(float x) { return __float2bfloat16_rn(x); }
__device__ __forceinline__ float widen(bf16 x) { return __bfloat162float(x); }
__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ bf16 bf16_zero() { return __ushort_as_bfloat16(0); }

// `x` as an element of a tensor of T.
template <class T> __device__ __forceinline__ T round_to(float x);
template <> __device__ __forceinline__ float round_to<float>(float x) { return x; }
template <> __device__ __forceinline__ bf16 round_to<bf16>(float x) { return to_bf16(x); }

// Two bf16 values in a register, `low` in its lower half.
__device__ __forceinline__ uint32_t pack(float low, float high) {
  return (uint32_t)__bfloat16_as_ushort(to_bf16(high)) << 16 | __bfloat16_as_ushort(to_bf16(low));
}

// `a > b ? a : b`, by the contract.
__device__ __forceinline__ float larger(float a, float b) { return a > b ? a : b; }

// exp of section 3.
__device__ __forceinline__ float exact_exp(float x) {
  const float shift = 12582912.0f;  // 1.5 * 2^23
  float s = fmaf(1.44269504088896341f, x, shift), n = s - shift;
  float r = fmaf(n, -0.693359375f, x);
  r = fmaf(n, 2.12194440e-4f, r);
  float p = 1.9875691500e-4f;
  p = fmaf(p, r, 1.3981999507e-3f);
  p = fmaf(p, r, 8.3334519073e-3f);
  p = fmaf(p, r, 4.1665795894e-2f);
  p = fmaf(p, r, 1.6666665459e-1f);
  p = fmaf(p, r, 5.0000001201e-1f);
  float y = fmaf(p, r * r, r) + 1.0f;
  // 2^n as a number: y times it rounds where the exponent of y cannot simply be moved.
  // Unsigned: for x out of range it may be anything, and is not used.
  uint32_t exponent = __float_as_uint(s) - __float_as_uint(shift) + 127;
  float result = y * __uint_as_float(exponent << 23);
  if (x < -87.0f) return 0.0f;
  if (x > 88.0f) return __int_as_float(0x7f800000);
  return result;
}

// log of section 3, for positive normal x; infinity and NaN pass.
__device__ __forceinline__ float exact_log(float x) {
  if (!(x < __int_as_float(0x7f800000))) return x;
  int bits = __float_as_int(x);
  // The exponent for which 1 + m lies in [sqrt(1/2), sqrt(2)).
  int e = (bits - 0x3f3504f3) >> 23;
  float m = __int_as_float(bits - e * (1 << 23)) - 1.0f, exponent = (float)e;
  float z = m * m, p = 7.0376836292e-2f;
  p = fmaf(p, m, -1.1514610310e-1f);
  p = fmaf(p, m, 1.1676998740e-1f);
  p = fmaf(p, m, -1.2420140846e-1f);
  p = fmaf(p, m, 1.4249322787e-1f);
  p = fmaf(p, m, -1.6668057665e-1f);
  p = fmaf(p, m, 2.0000714765e-1f);
  p = fmaf(p, m, -2.4999993993e-1f);
  p = fmaf(p, m, 3.3333331174e-1f);
  float y = (p * m) * z;
  y = fmaf(exponent, -2.12194440e-4f, y);
  y = fmaf(z, -0.5f, y);
  return fmaf(exponent, 0.693359375f, m + y);
}

// exp2 of section 16.7.
__device__ __forceinline__ float exact_exp2(float x) {
  const float shift = 12582912.0f;
  x = larger(-125.0f, x);
  float s = x + shift, n = s - shift, f = x - n;
  float p = 9.582852944731712e-3f;
  p = fmaf(p, f, 5.5906426161527634e-2f);
  p = fmaf(p, f, 2.4024099111557007e-1f);
  p = fmaf(p, f, 6.931241750717163e-1f);
  p = fmaf(p, f, 1.0f);
  // A product, and not a sum of exponents, so that NaN stays NaN.
  uint32_t exponent = __float_as_uint(s) - __float_as_uint(shift) + 127;
  return p * __uint_as_float(exponent << 23);
}

const float LOG2_E = 1.44269504088896341f;
