//! Flushing subnormal numbers to zero, for products in the bf16 profile only.
//!
//! `vdpbf16ps` takes subnormal inputs as zero and flushes subnormal results. Levels without it run
//! FMAs with the MXCSR register's FTZ and DAZ bits set; the portable level computes the same.

use super::level::Isa;
use super::level::Level;

/// Runs `f` with subnormal numbers flushed by the hardware, where `level` is one that has it.
///
/// `f` must do its arithmetic in functions that are not inlined here (a level's shells are not:
/// they have target features of their own), so that no instruction moves across the switch.
pub(super) fn with<R>(level: Level, f: impl FnOnce() -> R) -> R {
    match level.0 {
        Isa::Portable => f(),
        #[cfg(target_arch = "x86_64")]
        _ => {
            let _restore = Mxcsr::flushing();
            f()
        }
    }
}

/// The register's former value, put back when dropped (so also when unwinding).
#[cfg(target_arch = "x86_64")]
struct Mxcsr(u32);

#[cfg(target_arch = "x86_64")]
impl Mxcsr {
    fn flushing() -> Self {
        let mut before = 0u32;
        // SAFETY: stores the register to a local variable.
        unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &raw mut before, options(nostack)) };
        Self::set(before | FLUSH_TO_ZERO | DENORMALS_ARE_ZERO);
        Self(before)
    }

    fn set(value: u32) {
        // SAFETY: loads the register from a local variable; only the two bits above differ from
        // the value that was there, so no exception is unmasked and rounding is unchanged.
        unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &raw const value, options(nostack)) };
    }
}

#[cfg(target_arch = "x86_64")]
impl Drop for Mxcsr {
    fn drop(&mut self) {
        Self::set(self.0);
    }
}

/// `x * a + acc` in software: subnormal `acc` and results become zeros of their sign.
///
/// The hardware judges after rounding to 24 bits as if the exponent had no lower end. So a sum
/// that IEEE rounds up to the smallest normal number is still flushed if it lies below it by more
/// than half of such a step; near there the sum is exact in f64.
#[inline]
pub(super) fn fma(x: f32, a: f32, acc: f32) -> f32 {
    let acc = zero_if_subnormal(acc);
    let sum = x.mul_add(a, acc);
    if sum.abs() > f32::MIN_POSITIVE {
        return sum;
    }
    if sum.abs() == f32::MIN_POSITIVE {
        let exact = f64::from(x) * f64::from(a) + f64::from(acc);
        let half_step = f64::from(f32::MIN_POSITIVE) * f64::from(f32::EPSILON) / 4.0;
        if exact.abs() < f64::from(f32::MIN_POSITIVE) - half_step {
            return 0.0f32.copysign(sum);
        }
    }
    zero_if_subnormal(sum)
}

/// A zero of the same sign for a subnormal number, any other number as it is.
#[inline(always)]
fn zero_if_subnormal(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(x) } else { x }
}

/// `x` rounded to bf16, nearest even, kept as f32; subnormal numbers become zeros of their sign,
/// NaN stays NaN. No branches, so that loops over it become vector code.
#[inline(always)]
pub(super) fn bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let bits = if x.is_nan() { bits | 0x0040_0000 } else { nearest } & 0xffff_0000;
    let subnormal = bits & 0x7f80_0000 == 0;
    f32::from_bits(if subnormal { bits & 0x8000_0000 } else { bits })
}

#[cfg(target_arch = "x86_64")]
const FLUSH_TO_ZERO: u32 = 1 << 15;
#[cfg(target_arch = "x86_64")]
const DENORMALS_ARE_ZERO: u32 = 1 << 6;
