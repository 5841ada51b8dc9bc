//! The tensor core's sum (docs/ARITHMETIC.md, 16.2), in integers: the model that every other
//! implementation is checked against, and what the vector kernels fall back to.

use half::bf16;

use crate::ops::TensorCore;

/// Exponent of an operand that is zero or subnormal.
pub const TINY_OPERAND_EXPONENT: i32 = -126;
/// Exponent of an accumulator that is zero or subnormal.
pub const TINY_ACCUMULATOR_EXPONENT: i32 = -126;
/// Bits of a result that is no number.
pub const NOT_A_NUMBER: u32 = 0x7fff_ffff;

/// `T(c; a, b)`: `c` plus one group of products.
///
/// Groups shorter than the core's are completed with zeros, which changes nothing.
///
/// # Panics
/// If `a` and `b` differ in length, or are longer than a group (bugs of the caller).
pub fn sum(core: TensorCore, c: f32, a: &[bf16], b: &[bf16]) -> f32 {
    assert!(a.len() == b.len() && a.len() <= core.group(), "a group of products");
    let pairs = || a.iter().copied().zip(b.iter().copied());
    if let Some(result) = not_finite(c, pairs()) {
        return result;
    }
    let products = pairs().map(|(a, b)| product(a, b));
    let terms = products.chain([accumulator(c)]);
    let largest = terms.clone().map(|t| t.exponent).fold(TINY_ACCUMULATOR_EXPONENT, i32::max);
    let unit = largest - core.fraction_bits();
    rounded(terms.map(|t| t.cut(unit)).sum(), unit)
}

/// A chain of [`sum`]s over groups of `a` and `b`, ascending.
///
/// # Panics
/// If `a` and `b` differ in length (a bug of the caller).
pub fn chain(core: TensorCore, start: f32, a: &[bf16], b: &[bf16]) -> f32 {
    assert_eq!(a.len(), b.len(), "factors of products");
    let groups = a.chunks(core.group()).zip(b.chunks(core.group()));
    groups.fold(start, |c, (a, b)| sum(core, c, a, b))
}

/// `significand * 2^last`, and the exponent it counts with.
#[derive(Clone)]
struct Term {
    exponent: i32,
    significand: i64,
    last: i32,
}

impl Term {
    /// The number of whole `2^unit` in it, cut toward zero. None exceeds 2^27: `unit` follows from
    /// the largest exponent.
    fn cut(&self, unit: i32) -> i64 {
        let size = self.significand.abs();
        let shift = self.last - unit;
        let cut = match shift {
            0.. => size << shift,
            -63..0 => size >> -shift,
            _ => 0,
        };
        cut * self.significand.signum()
    }
}

/// The exact product of two finite numbers.
fn product(a: bf16, b: bf16) -> Term {
    let (x, y) = (operand(a), operand(b));
    let exponent = x.exponent + y.exponent;
    Term { exponent, significand: x.significand * y.significand, last: x.last + y.last }
}

fn operand(x: bf16) -> Term {
    let bits = x.to_bits();
    let field = i32::from(bits >> 7 & 0xff);
    let fraction = i64::from(bits & 0x7f);
    let negative = bits >> 15 == 1;
    term(field, fraction, negative, 7, TINY_OPERAND_EXPONENT)
}

fn accumulator(x: f32) -> Term {
    let bits = x.to_bits();
    let field = (bits >> 23 & 0xff) as i32;
    let fraction = i64::from(bits & 0x7f_ffff);
    term(field, fraction, bits >> 31 == 1, 23, TINY_ACCUMULATOR_EXPONENT)
}

/// A number of `width` fraction bits with the fields given; zero and subnormal ones count with
/// exponent `tiny`.
fn term(field: i32, fraction: i64, negative: bool, width: u32, tiny: i32) -> Term {
    let normal = field > 0;
    let size = fraction | i64::from(normal) << width;
    Term {
        exponent: if normal { field - BIAS } else { tiny },
        significand: if negative { -size } else { size },
        last: field.max(1) - BIAS - width as i32,
    }
}

/// What the group gives if one of its numbers is not finite.
fn not_finite(c: f32, pairs: impl Iterator<Item = (bf16, bf16)>) -> Option<f32> {
    // Products of bf16 numbers stay finite in f64; infinities and NaN pass through.
    let products = pairs.map(|(a, b)| f64::from(a) * f64::from(b));
    let (mut above, mut below, mut none) = (false, false, false);
    for x in products.chain([f64::from(c)]) {
        none |= x.is_nan();
        above |= x == f64::INFINITY;
        below |= x == f64::NEG_INFINITY;
    }
    match (none || (above && below), above, below) {
        (true, ..) => Some(f32::from_bits(NOT_A_NUMBER)),
        (_, true, _) => Some(f32::INFINITY),
        (_, _, true) => Some(f32::NEG_INFINITY),
        _ => None,
    }
}

/// `sum * 2^unit` cut toward zero to binary32.
fn rounded(sum: i64, unit: i32) -> f32 {
    let size = sum.unsigned_abs();
    if size == 0 {
        return 0.0;
    }
    let exponent = (size.ilog2() as i32 + unit).max(1 - BIAS);
    let shift = exponent - 23 - unit;
    let significand = if shift >= 0 { size >> shift } else { size << -shift } as u32;
    let magnitude = match significand >> 23 {
        _ if exponent > BIAS => f32::INFINITY.to_bits(),
        0 => significand,
        _ => ((exponent + BIAS) as u32) << 23 | significand & 0x7f_ffff,
    };
    f32::from_bits(magnitude | u32::from(sum < 0) << 31)
}

/// Of the exponent fields of binary32 and bf16.
const BIAS: i32 = 127;
