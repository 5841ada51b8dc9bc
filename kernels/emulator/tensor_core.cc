// The tensor core's sum, exactly: docs/ARITHMETIC.md 16.2, after MMA-Sim (arXiv:2511.10909) and Khattak
// and Mikaitis (arXiv:2512.07004). In integers, for clarity; not for speed.
#include "scheduler.h"

namespace cuda_cpu {

TensorCore tensor_core = HOPPER;

namespace {

constexpr int LOWEST_EXPONENT = -126;
constexpr uint32_t NOT_A_NUMBER = 0x7fffffff;
constexpr uint32_t INFINITE = 0x7f800000;

// A term: significand * 2^(exponent - fraction_bits), with a sign.
struct Term {
  uint64_t significand;
  int exponent, fraction_bits;
  bool negative;
};

Term product(uint16_t a, uint16_t b) {
  const int ea = a >> 7 & 0xff, eb = b >> 7 & 0xff;
  const uint64_t sa = (a & 0x7f) | (ea ? 0x80 : 0), sb = (b & 0x7f) | (eb ? 0x80 : 0);
  const int exponent = (ea ? ea - 127 : LOWEST_EXPONENT) + (eb ? eb - 127 : LOWEST_EXPONENT);
  return {sa * sb, exponent, 14, bool((a ^ b) & 0x8000)};
}

Term addend(uint32_t c) {
  const int e = c >> 23 & 0xff;
  return {(c & 0x7fffff) | (e ? 0x800000u : 0), e ? e - 127 : LOWEST_EXPONENT, 23, bool(c >> 31)};
}

// The term in units of 2^(largest - fraction_bits), cut toward zero.
__int128 cut(const Term& term, int largest, int fraction_bits) {
  const int shift = fraction_bits + term.exponent - largest - term.fraction_bits;
  // Shifts to the left are by at most 25 - 14: no term has a larger exponent than `largest`.
  const unsigned __int128 wide = term.significand;
  const __int128 size = shift >= 0 ? wide << shift : shift <= -64 ? 0 : wide >> -shift;
  return term.negative ? -size : size;
}

// sum * 2^unit, cut toward zero to binary32.
uint32_t to_f32(__int128 sum, int unit) {
  if (sum == 0) return 0;
  const uint32_t sign = sum < 0 ? 0x80000000u : 0;
  unsigned __int128 size = sum < 0 ? -sum : sum;
  int top = 0;
  while (size >> top >> 1) top++;
  int exponent = top + unit;
  if (exponent > 127) return sign | INFINITE;
  if (exponent < LOWEST_EXPONENT) exponent = LOWEST_EXPONENT;
  const int shift = exponent - 23 - unit;
  const uint32_t significand =
      uint32_t(shift >= 0 ? (shift < 128 ? size >> shift : 0) : size << -shift);
  // A subnormal has no hidden bit: its significand is below 2^23, and its exponent field 0.
  return sign | (significand < 0x800000u ? significand
                                         : (uint32_t(exponent + 127) << 23 | (significand & 0x7fffff)));
}

bool is_nan(uint32_t x, uint32_t infinite) { return (x & 0x7fffffff) > infinite; }
bool is_infinite(uint32_t x, uint32_t infinite) { return (x & 0x7fffffff) == infinite; }

uint32_t sum_of_group(uint32_t c, const uint16_t* a, const uint16_t* b, TensorCore core) {
  bool nan = is_nan(c, INFINITE), plus = false, minus = false;
  if (is_infinite(c, INFINITE)) (c >> 31 ? minus : plus) = true;
  for (int k = 0; k < core.group; k++) {
    const uint32_t wide_a = uint32_t(a[k]) << 16, wide_b = uint32_t(b[k]) << 16;
    const bool infinite = is_infinite(wide_a, INFINITE) || is_infinite(wide_b, INFINITE);
    const bool zero = !(a[k] & 0x7fff) || !(b[k] & 0x7fff);
    nan |= is_nan(wide_a, INFINITE) || is_nan(wide_b, INFINITE) || (infinite && zero);
    if (infinite) ((a[k] ^ b[k]) & 0x8000 ? minus : plus) = true;
  }
  if (nan || (plus && minus)) return NOT_A_NUMBER;
  if (plus || minus) return minus ? 0x80000000u | INFINITE : INFINITE;

  Term terms[17];
  int largest = (terms[core.group] = addend(c)).exponent;
  for (int k = 0; k < core.group; k++) {
    terms[k] = product(a[k], b[k]);
    if (terms[k].exponent > largest) largest = terms[k].exponent;
  }
  __int128 sum = 0;
  for (int k = 0; k <= core.group; k++) sum += cut(terms[k], largest, core.fraction_bits);
  return to_f32(sum, largest - core.fraction_bits);
}

}  // namespace

float tensor_core_sum(TensorCore core, float c, const uint16_t* a, const uint16_t* b) {
  uint32_t bits = from_bits<uint32_t>(to_bits(c));
  for (int k = 0; k < 16; k += core.group) bits = sum_of_group(bits, a + k, b + k, core);
  return from_bits<float>(bits);
}

}  // namespace cuda_cpu
