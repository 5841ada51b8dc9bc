//! Vectors of f32 of each instruction set behind one trait.
//!
//! Elementwise results do not depend on the number of lanes; sums use `math::RowSum`, whose order
//! does not either. Methods are `#[inline(always)]` without `#[target_feature]`, so that they
//! inline into a shell that has the features (see `level::at_level!`). Closures would not: write
//! loops.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
pub use portable::Portable;

use half::bf16;

/// Some f32 lanes of an instruction set.
///
/// # Safety
///
/// The contract of every method: the implementor's instruction set is available, and pointers are
/// valid for the elements that the method names (no alignment asked).
#[allow(clippy::missing_safety_doc, reason = "one contract for all, on the trait")]
pub trait Lanes: Copy {
    /// Number of lanes: 8 or 16.
    const LEN: usize;
    /// All lanes equal to `x`.
    unsafe fn splat(x: f32) -> Self;
    /// `LEN` elements from `src` on.
    unsafe fn load(src: *const f32) -> Self;
    /// `count <= LEN` elements from `src` on, then zeros.
    unsafe fn load_first(src: *const f32, count: usize) -> Self;
    /// Writes `LEN` elements.
    unsafe fn store(self, dst: *mut f32);
    /// Writes the first `count <= LEN` lanes.
    unsafe fn store_first(self, dst: *mut f32, count: usize);
    /// Writes `LEN` elements past the caches; `dst` is aligned to the vector.
    unsafe fn stream(self, dst: *mut f32);
    /// Sum.
    unsafe fn add(self, rhs: Self) -> Self;
    /// Difference.
    unsafe fn sub(self, rhs: Self) -> Self;
    /// Product.
    unsafe fn mul(self, rhs: Self) -> Self;
    /// IEEE quotient.
    unsafe fn div(self, rhs: Self) -> Self;
    /// `self * a + b`, rounded once.
    unsafe fn fma(self, a: Self, b: Self) -> Self;
    /// `self * a + b`, rounded once, where a subnormal `b` and a subnormal result are zero, as in
    /// `vdpbf16ps`; `self` and `a` are not subnormal. Between `flush::enter` and `flush::leave`
    /// only: the vector types leave the flushing to the MXCSR register.
    #[inline(always)]
    unsafe fn fma_flushed(self, a: Self, b: Self) -> Self {
        // SAFETY: by the trait's contract.
        unsafe { self.fma(a, b) }
    }
    /// IEEE square root.
    unsafe fn sqrt(self) -> Self;
    /// `self > rhs ? self : rhs` (so `rhs` where either is NaN).
    unsafe fn max(self, rhs: Self) -> Self;
    /// `a < b ? yes : no`, lane by lane.
    unsafe fn select_less(a: Self, b: Self, yes: Self, no: Self) -> Self;
    /// For lanes `1.5 * 2^23 + n`: `2^n`, n in -126..=127.
    unsafe fn exponent_of_shifted(self) -> Self;
    /// Sum of the lanes: lane l with l + LEN/2, then LEN/4, … 1.
    unsafe fn butterfly(self) -> f32;
    /// Largest lane, none of which is NaN.
    unsafe fn max_lane(self) -> f32;
    /// Lane 0.
    unsafe fn first(self) -> f32;
    /// Rounded to bf16 (nearest even) and kept as f32; subnormal results become zeros.
    unsafe fn bf16(self) -> Self;
    /// Rounded to bf16 (nearest even) and kept as f32; subnormal results stay, NaN stays NaN: the
    /// `bf(x)` of docs/ARITHMETIC.md, section 16.
    unsafe fn nearest_bf16(self) -> Self;
    /// `LEN` elements from `src` on, widened.
    unsafe fn load_bf16(src: *const bf16) -> Self;
    /// `count <= LEN` elements from `src` on, widened, then zeros.
    unsafe fn load_bf16_first(src: *const bf16, count: usize) -> Self;
    /// Writes `LEN` elements rounded as [`Self::nearest_bf16`] does.
    unsafe fn store_bf16(self, dst: *mut bf16);
    /// Writes the first `count <= LEN` lanes rounded as [`Self::nearest_bf16`] does.
    unsafe fn store_bf16_first(self, dst: *mut bf16, count: usize);
    /// Writes a block of `rows` rows by `columns` columns (both at most `LEN`) transposed:
    /// `columns` rows of `LEN` elements, those past `rows` zero. With `BF16` rounded on the way.
    unsafe fn transpose<const BF16: bool>(
        src: *const f32,
        src_stride: usize,
        extents: (usize, usize),
        dst: *mut f32,
        dst_stride: usize,
    );
    /// Asks for the cache line at `at`, which may be any address.
    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        let _ = at;
    }
}

#[cfg(test)]
mod tests {
    use super::super::level::Level;
    use super::super::level::at_level;
    use super::*;

    /// Rounds each number, stores it as bf16, and loads it again; in parts if `count` says so.
    ///
    /// # Safety
    /// `V`'s instruction set is available.
    #[inline(always)]
    unsafe fn there_and_back<V: Lanes>(x: &[f32], count: usize) -> (Vec<f32>, Vec<bf16>, Vec<f32>) {
        let (mut rounded, mut wide) = (vec![0.0; x.len()], vec![0.0; x.len()]);
        let mut narrow = vec![bf16::ZERO; x.len()];
        let step = if count == 0 { V::LEN } else { count };
        for i in (0..x.len() / step).map(|i| i * step) {
            // SAFETY: whole steps within all three.
            unsafe {
                let (at, to) = (x.as_ptr().add(i), narrow.as_mut_ptr().add(i));
                if count == 0 {
                    V::load(at).nearest_bf16().store(rounded.as_mut_ptr().add(i));
                    V::load(at).store_bf16(to);
                    V::load_bf16(to).store(wide.as_mut_ptr().add(i));
                } else {
                    let lanes = V::load_first(at, count);
                    lanes.nearest_bf16().store_first(rounded.as_mut_ptr().add(i), count);
                    lanes.store_bf16_first(to, count);
                    let back = V::load_bf16_first(to, count);
                    back.store_first(wide.as_mut_ptr().add(i), count);
                    assert_eq!(
                        back.butterfly().is_nan(),
                        x[i..i + count].iter().any(|x| x.is_nan())
                    );
                }
            }
        }
        (rounded, narrow, wide)
    }

    #[test]
    fn bf16_is_that_of_half_at_every_level() {
        // Ties, subnormal numbers, infinities, NaN with payloads, and the neighbours of each.
        let upper =
            (0..=0xffffu32).step_by(3).chain([0x7f80, 0x7f7f, 0xff80, 0x7fc0, 0, 1, 0x8000]);
        let lower = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
        let mut bits: Vec<u32> = upper.flat_map(|u| lower.map(|l| u << 16 | l)).collect();
        // Infinities of both signs in one vector would sum to NaN.
        bits.retain(|b| b & 0x7fff_ffff < 0x7f00_0000 || b & 0x7fff_ffff > 0x7f80_0000);
        bits.resize(bits.len().next_multiple_of(16 * 3 * 5), 0);
        let x: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b)).collect();
        let want: Vec<u16> = x.iter().map(|&x| bf16::from_f32(x).to_bits()).collect();
        for level in Level::available() {
            for count in [0, 1, 3, 5] {
                let x = &x[..];
                let (rounded, narrow, wide) = at_level!(level, there_and_back(x: &[f32], count: usize) -> (Vec<f32>, Vec<bf16>, Vec<f32>));
                for (i, &want) in want.iter().enumerate() {
                    let got = [
                        rounded[i].to_bits(),
                        u32::from(narrow[i].to_bits()) << 16,
                        wide[i].to_bits(),
                    ];
                    assert_eq!(got, [u32::from(want) << 16; 3], "{level}: {:x}", bits[i]);
                }
            }
        }
    }
}
