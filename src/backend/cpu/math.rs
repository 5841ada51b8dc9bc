//! The contract's exponential, logarithm and row sum. `docs/ARITHMETIC.md` gives the formulas.
//!
//! Every level runs the same multiplications, additions and FMAs in the same order, so results
//! agree to the bit. Largest error seen against f64: 1 ulp (see `tests/ops`).

use super::lanes::Lanes;

/// `exp(x)`: +0 below -87, +infinity above 88, NaN for NaN.
///
/// Range reduction by `n = round(x / ln 2)` with a two-part ln 2, then Cephes' polynomial of
/// degree 7 in Horner form with FMAs, then the exponent by integer addition.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
pub unsafe fn exp<V: Lanes>(x: V) -> V {
    // SAFETY: by this function's contract.
    unsafe {
        let magic = V::splat(ROUND);
        let shifted = V::splat(std::f32::consts::LOG2_E).fma(x, magic);
        let n = shifted.sub(magic);
        let r = n.fma(V::splat(-LN2_HI), x);
        let r = n.fma(V::splat(-LN2_LO), r);
        let mut p = V::splat(EXP[0]);
        p = p.fma(r, V::splat(EXP[1]));
        p = p.fma(r, V::splat(EXP[2]));
        p = p.fma(r, V::splat(EXP[3]));
        p = p.fma(r, V::splat(EXP[4]));
        p = p.fma(r, V::splat(EXP[5]));
        let y = p.fma(r.mul(r), r).add(V::splat(1.0));
        let y = y.mul(shifted.exponent_of_shifted());
        let y = V::select_less(x, V::splat(EXP_LOWEST), V::splat(0.0), y);
        V::select_less(V::splat(EXP_HIGHEST), x, V::splat(f32::INFINITY), y)
    }
}

/// [`exp`] of one number, in plain Rust: the same bits.
pub fn exp_scalar(x: f32) -> f32 {
    // SAFETY: plain Rust has no requirement on the CPU.
    unsafe { exp(super::lanes::Portable::splat(x)).first() }
}

/// `2^max(-125, x)` below 128, for scores of the `tc` profile; NaN for NaN.
///
/// `x = n + f` with |f| <= 1/2, a polynomial of degree 4 in f, then the exponent by integer
/// addition (docs/ARITHMETIC.md, 16.7).
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
pub unsafe fn exp2<V: Lanes>(x: V) -> V {
    // SAFETY: by this function's contract.
    unsafe {
        let magic = V::splat(ROUND);
        let x = V::splat(EXP2_LOWEST).max(x);
        let shifted = x.add(magic);
        let f = x.sub(shifted.sub(magic));
        let mut p = V::splat(EXP2[0]);
        p = p.fma(f, V::splat(EXP2[1]));
        p = p.fma(f, V::splat(EXP2[2]));
        p = p.fma(f, V::splat(EXP2[3]));
        p = p.fma(f, V::splat(1.0));
        p.mul(shifted.exponent_of_shifted())
    }
}

/// Natural logarithm of a positive normal number; +infinity for it, NaN for NaN.
///
/// `x = m * 2^e` with m in [sqrt(1/2), sqrt(2)), then Cephes' polynomial in m - 1 with FMAs.
/// Compiled within a level's shell its FMAs are instructions; elsewhere they are calls.
#[inline(always)]
pub fn log(x: f32) -> f32 {
    if x.is_nan() || x == f32::INFINITY {
        return x;
    }
    let bits = x.to_bits().wrapping_sub(SQRT_HALF_BITS);
    let e = (bits as i32 >> 23) as f32;
    let m = f32::from_bits((bits & 0x007f_ffff) + SQRT_HALF_BITS) - 1.0;
    let z = m * m;
    let mut p = LOG[0];
    for c in &LOG[1..] {
        p = p.mul_add(m, *c);
    }
    let y = (p * m) * z;
    let y = e.mul_add(LN2_LO, y);
    let y = z.mul_add(-0.5, y);
    e.mul_add(LN2_HI, m + y)
}

/// Number of interleaved partial sums in [`RowSum`] by default: a constant of the contract.
pub const PARTIALS: usize = 128;

/// The contract's row sum in the making, of `8 * N` partials: element `i` of a row goes to partial
/// `i % (8 * N)`.
///
/// Partials live in [`Self::REGISTERS`] registers, [`Self::at`] of which holds partials
/// `k * V::LEN ..`; [`Self::total`] is the butterfly: of 128, partial p with p + 64, then 32, 16,
/// … 1.
#[derive(Clone, Copy)]
pub struct RowSum<V, const N: usize = 16>([V; N]);

impl<V: Lanes, const N: usize> RowSum<V, N> {
    /// Partials.
    pub const PARTIALS: usize = 8 * N;
    /// Registers in use.
    pub const REGISTERS: usize = Self::PARTIALS / V::LEN;

    /// All partials +0.
    ///
    /// # Safety
    /// `V`'s instruction set is available.
    #[inline(always)]
    pub unsafe fn zero() -> Self {
        // SAFETY: by this function's contract.
        Self([unsafe { V::splat(0.0) }; N])
    }

    /// Register `k`, to read or to add to.
    #[inline(always)]
    pub fn at(&mut self, k: usize) -> &mut V {
        &mut self.0[k]
    }

    /// The sum of the partials by the butterfly.
    ///
    /// # Safety
    /// `V`'s instruction set is available.
    #[inline(always)]
    pub unsafe fn total(mut self) -> f32 {
        let mut width = Self::REGISTERS;
        while width > 1 {
            width /= 2;
            for k in 0..width {
                // SAFETY: by this function's contract.
                self.0[k] = unsafe { self.0[k].add(self.0[k + width]) };
            }
        }
        // SAFETY: by this function's contract.
        unsafe { self.0[0].butterfly() }
    }
}

/// The row sum of squares of `len` elements from `x` on.
///
/// # Safety
/// `V`'s instruction set is available; `x` points to `len` readable elements.
#[inline(always)]
pub unsafe fn row_sum_squares<V: Lanes>(x: *const f32, len: usize) -> f32 {
    // SAFETY: offsets stay below `len`; the rest is this function's contract.
    unsafe {
        let mut sum: RowSum<V> = RowSum::zero();
        let mut i = 0;
        while i + PARTIALS <= len {
            for k in 0..PARTIALS / V::LEN {
                let x = V::load(x.add(i + k * V::LEN));
                *sum.at(k) = x.fma(x, *sum.at(k));
            }
            i += PARTIALS;
        }
        let mut k = 0;
        while i < len {
            let count = V::LEN.min(len - i);
            let x = V::load_first(x.add(i), count);
            *sum.at(k) = x.fma(x, *sum.at(k));
            i += count;
            k += 1;
        }
        sum.total()
    }
}

/// Adding and subtracting 1.5 * 2^23 rounds to an integer, ties to even.
const ROUND: f32 = 12_582_912.0;
const LN2_HI: f32 = 355.0 / 512.0;
#[allow(clippy::excessive_precision, reason = "constants as published")]
const LN2_LO: f32 = -2.121_944_40e-4;
/// Cephes expf: exp(r) = 1 + r + r^2 P(r) on |r| <= ln(2) / 2.
#[allow(clippy::excessive_precision, reason = "constants as published")]
const EXP: [f32; 6] = [
    1.987_569_150_0e-4,
    1.398_199_950_7e-3,
    8.333_451_907_3e-3,
    4.166_579_589_4e-2,
    1.666_666_545_9e-1,
    5.000_000_120_1e-1,
];
/// 2^f on |f| <= 1/2, but for its last coefficient, 1.
#[allow(clippy::excessive_precision, reason = "constants as in docs/ARITHMETIC.md")]
const EXP2: [f32; 4] =
    [9.582852944731712e-3, 5.590642616152763_4e-2, 2.402409911155700_7e-1, 6.931241750717163e-1];
const EXP2_LOWEST: f32 = -125.0;
const EXP_LOWEST: f32 = -87.0;
const EXP_HIGHEST: f32 = 88.0;
/// Cephes logf: log(1 + m) = m - m^2 / 2 + m^3 P(m).
#[allow(clippy::excessive_precision, reason = "constants as published")]
const LOG: [f32; 9] = [
    7.037_683_629_2e-2,
    -1.151_461_031_0e-1,
    1.167_699_874_0e-1,
    -1.242_014_084_6e-1,
    1.424_932_278_7e-1,
    -1.666_805_766_5e-1,
    2.000_071_476_5e-1,
    -2.499_999_399_3e-1,
    3.333_333_117_4e-1,
];
/// The bits of sqrt(1/2), rounded down.
const SQRT_HALF_BITS: u32 = 0x3f35_04f3;

#[cfg(test)]
mod tests {
    use super::super::lanes::Portable;
    use super::*;

    #[test]
    fn exp_is_within_an_ulp_of_f64() {
        let mut worst = 0.0f64;
        for i in -87_000..=88_000 {
            let x = (i as f32 * 1e-3).clamp(EXP_LOWEST, EXP_HIGHEST);
            // SAFETY: plain Rust has no requirement.
            let got = unsafe { exp(Portable::splat(x)).first() } as f64;
            let want = (x as f64).exp();
            worst = worst.max((got - want).abs() / want / f64::from(f32::EPSILON));
        }
        assert!(worst <= 1.0, "error of {worst} ulp");
    }

    #[test]
    fn exp_at_the_edges() {
        // SAFETY: plain Rust has no requirement.
        let exp = |x: f32| unsafe { exp(Portable::splat(x)).first() };
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-87.1).to_bits(), 0);
        assert_eq!(exp(f32::NEG_INFINITY).to_bits(), 0);
        assert_eq!(exp(88.1), f32::INFINITY);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn exp2_is_close_to_f64() {
        // SAFETY: plain Rust has no requirement.
        let exp2 = |x: f32| unsafe { exp2(Portable::splat(x)).first() };
        for i in -125_000..=127_000 {
            let x = (i as f32 * 1e-3).max(EXP2_LOWEST);
            let (got, want) = (f64::from(exp2(x)), f64::from(x).exp2());
            assert!((got - want).abs() <= 3e-6 * want, "2^{x} = {want:e}, not {got:e}");
        }
        assert_eq!((exp2(0.0), exp2(-0.0)), (1.0, 1.0));
        let lowest = 0.5f32.powi(125);
        assert_eq!((exp2(-125.0), exp2(-1e9), exp2(f32::NEG_INFINITY)), (lowest, lowest, lowest));
        assert!(exp2(f32::NAN).is_nan());
    }

    #[test]
    fn log_is_within_an_ulp_or_so_of_f64() {
        for i in 1..400_000u32 {
            let x = i as f32 * 0.01;
            let (got, want) = (f64::from(log(x)), f64::from(x).ln());
            let bound = 1.5 * f64::from(f32::EPSILON) * want.abs().max(1e-2);
            assert!((got - want).abs() <= bound, "log({x}) = {got}, not {want}");
        }
        assert_eq!(log(1.0), 0.0);
        assert_eq!(log(f32::INFINITY), f32::INFINITY);
    }
}
