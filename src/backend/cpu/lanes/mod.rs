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
