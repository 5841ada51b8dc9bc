//! The chains of matrix products (docs/ARITHMETIC.md, section 4), one element at a time.

use half::bf16;
use neuroshard::ops::Precision;

/// One output of a product: `start`, then a chain over pairs of factors in order.
pub struct Chain {
    precision: Precision,
    value: f32,
    /// The even element of a pair, rounded, until its odd partner comes.
    even: Option<(f32, f32)>,
}

impl Chain {
    pub fn new(precision: Precision, start: f32) -> Self {
        Self { precision, value: start, even: None }
    }

    pub fn add(&mut self, a: f32, b: f32) {
        if self.precision == Precision::F32 {
            self.value = a.mul_add(b, self.value);
            return;
        }
        let odd = (round(a), round(b));
        match self.even.take() {
            None => self.even = Some(odd),
            Some(even) => {
                self.value = fma_flushed(odd.0, odd.1, self.value);
                self.value = fma_flushed(even.0, even.1, self.value);
            }
        }
    }

    /// The value; a last single element has an odd partner of zero.
    pub fn end(mut self) -> f32 {
        if self.even.is_some() {
            self.add(0.0, 0.0);
        }
        self.value
    }
}

/// The product of two vectors, from 0.
pub fn dot(precision: Precision, a: &[f32], b: &[f32]) -> f32 {
    let mut chain = Chain::new(precision, 0.0);
    a.iter().zip(b).for_each(|(&a, &b)| chain.add(a, b));
    chain.end()
}

/// `x` as a product of this precision reads it; NaN stays NaN.
fn round(x: f32) -> f32 {
    bf16::from_f32(x).to_f32()
}

/// `a * b + acc` with subnormal inputs and results taken as zeros of their sign. A result is
/// subnormal if it is so after rounding to 24 bits with an exponent that has no lower end.
pub fn fma_flushed(a: f32, b: f32, acc: f32) -> f32 {
    let zeroed = |x: f32| if x.is_subnormal() { 0.0f32.copysign(x) } else { x };
    let [a, b, acc] = [a, b, acc].map(zeroed);
    let sum = a.mul_add(b, acc);
    if sum.abs() > f32::MIN_POSITIVE {
        return sum;
    }
    // Near the border the f64 sum is exact (bf16 factors have 8 bits), or so far from a tie that
    // its own rounding does not matter.
    const RAISE: f64 = (1u64 << 60) as f64;
    let exact = f64::from(a) * f64::from(b) + f64::from(acc);
    let subnormal = ((exact * RAISE) as f32).abs() < f32::MIN_POSITIVE * RAISE as f32;
    if subnormal { 0.0f32.copysign(sum) } else { sum }
}

/// Bounds how far a chain of `sum_abs = sum |a·b|` over `k` elements may lie from the exact sum.
///
/// `k` roundings of half an ulp (Higham 2002, section 3.1: gamma_k); in bf16 each factor is off by
/// up to 2^-8 of itself (8 bits, nearest), and each flush by up to the smallest normal number.
pub fn bound(precision: Precision, k: usize, sum_abs: f64) -> f64 {
    let k = k as f64 + 1.0;
    let chain = k * f64::from(f32::EPSILON) / 2.0;
    let floor = f64::from(f32::MIN_POSITIVE);
    match precision {
        Precision::F32 => 1.01 * chain * sum_abs + k * floor * f64::from(f32::EPSILON),
        Precision::Tc(_) => unreachable!("has a bound of its own"),
        Precision::Bf16 => 1.01 * (chain + 2.0 / 256.0 + 1.0 / 65536.0) * sum_abs + 4.0 * k * floor,
    }
}
