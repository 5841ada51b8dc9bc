//! Vectors of f32 of each instruction set behind one trait.
//!
//! Elementwise results do not depend on the number of lanes; sums use `math::RowSum`, whose order
//! does not either. Methods are `#[inline(always)]` without `#[target_feature]`, so that they
//! inline into a shell that has the features (see `level::at_level!`). Closures would not: write
//! loops.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

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

/// Lanes in plain Rust.
#[derive(Clone, Copy)]
pub struct Portable([f32; 16]);

macro_rules! portable_binary {
    ($($name:ident => |$a:ident, $b:ident| $value:expr;)*) => {$(
        #[inline(always)]
        unsafe fn $name(self, rhs: Self) -> Self {
            Self(std::array::from_fn(|i| { let ($a, $b) = (self.0[i], rhs.0[i]); $value }))
        }
    )*};
}

#[allow(clippy::missing_safety_doc, reason = "see the trait")]
impl Lanes for Portable {
    const LEN: usize = 16;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self([x; 16])
    }
    #[inline(always)]
    unsafe fn load(src: *const f32) -> Self {
        // SAFETY: 16 readable elements by the trait's contract.
        Self(unsafe { src.cast::<[f32; 16]>().read_unaligned() })
    }
    #[inline(always)]
    unsafe fn load_first(src: *const f32, count: usize) -> Self {
        let mut a = [0.0; 16];
        // SAFETY: `count` readable elements by the trait's contract.
        unsafe { std::ptr::copy_nonoverlapping(src, a.as_mut_ptr(), count) };
        Self(a)
    }
    #[inline(always)]
    unsafe fn store(self, dst: *mut f32) {
        // SAFETY: 16 writable elements by the trait's contract.
        unsafe { dst.cast::<[f32; 16]>().write_unaligned(self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, dst: *mut f32, count: usize) {
        // SAFETY: `count` writable elements by the trait's contract.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), dst, count) }
    }
    #[inline(always)]
    unsafe fn stream(self, dst: *mut f32) {
        // SAFETY: as `store`.
        unsafe { self.store(dst) }
    }
    portable_binary! {
        add => |a, b| a + b;
        sub => |a, b| a - b;
        mul => |a, b| a * b;
        div => |a, b| a / b;
        max => |a, b| if a > b { a } else { b };
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i].mul_add(a.0[i], b.0[i])))
    }
    #[inline(always)]
    unsafe fn fma_flushed(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| super::flush::fma(self.0[i], a.0[i], b.0[i])))
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(self.0.map(f32::sqrt))
    }
    #[inline(always)]
    unsafe fn select_less(a: Self, b: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|i| if a.0[i] < b.0[i] { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    unsafe fn exponent_of_shifted(self) -> Self {
        Self(self.0.map(|x| f32::from_bits((x.to_bits() << 23).wrapping_add(1.0f32.to_bits()))))
    }
    #[inline(always)]
    unsafe fn butterfly(self) -> f32 {
        let mut a = self.0;
        let mut width = 16;
        while width > 1 {
            width /= 2;
            for i in 0..width {
                a[i] += a[i + width];
            }
        }
        a[0]
    }
    #[inline(always)]
    unsafe fn max_lane(self) -> f32 {
        self.0.iter().fold(f32::NEG_INFINITY, |m, &x| if m > x { m } else { x })
    }
    #[inline(always)]
    unsafe fn first(self) -> f32 {
        self.0[0]
    }
    #[inline(always)]
    unsafe fn bf16(self) -> Self {
        Self(self.0.map(super::flush::bf16))
    }
    #[inline(always)]
    unsafe fn transpose<const BF16: bool>(
        src: *const f32,
        src_stride: usize,
        (rows, columns): (usize, usize),
        dst: *mut f32,
        dst_stride: usize,
    ) {
        for c in 0..columns {
            for r in 0..16 {
                // SAFETY: rows and columns are those of the trait's contract.
                unsafe {
                    let x = if r < rows { *src.add(r * src_stride + c) } else { 0.0 };
                    *dst.add(c * dst_stride + r) = if BF16 { super::flush::bf16(x) } else { x };
                }
            }
        }
    }
}

/// Lanes in one 256-bit register.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx2(pub(super) __m256);

/// Lanes in one 512-bit register.
#[cfg(target_arch = "x86_64")]
#[derive(Clone, Copy)]
pub struct Avx512(pub(super) __m512);

#[cfg(target_arch = "x86_64")]
#[allow(clippy::missing_safety_doc, reason = "see the trait")]
#[allow(clippy::undocumented_unsafe_blocks, reason = "each by the trait's contract alone")]
impl Lanes for Avx2 {
    const LEN: usize = 8;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(src: *const f32) -> Self {
        Self(unsafe { _mm256_loadu_ps(src) })
    }
    #[inline(always)]
    unsafe fn load_first(src: *const f32, count: usize) -> Self {
        Self(unsafe { _mm256_maskload_ps(src, first_lanes(count)) })
    }
    #[inline(always)]
    unsafe fn store(self, dst: *mut f32) {
        unsafe { _mm256_storeu_ps(dst, self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, dst: *mut f32, count: usize) {
        unsafe { _mm256_maskstore_ps(dst, first_lanes(count), self.0) }
    }
    #[inline(always)]
    unsafe fn stream(self, dst: *mut f32) {
        unsafe { _mm256_stream_ps(dst, self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, rhs: Self) -> Self {
        Self(unsafe { _mm256_add_ps(self.0, rhs.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, rhs: Self) -> Self {
        Self(unsafe { _mm256_sub_ps(self.0, rhs.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, rhs: Self) -> Self {
        Self(unsafe { _mm256_mul_ps(self.0, rhs.0) })
    }
    #[inline(always)]
    unsafe fn div(self, rhs: Self) -> Self {
        Self(unsafe { _mm256_div_ps(self.0, rhs.0) })
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, a.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(unsafe { _mm256_sqrt_ps(self.0) })
    }
    #[inline(always)]
    unsafe fn max(self, rhs: Self) -> Self {
        Self(unsafe { _mm256_max_ps(self.0, rhs.0) })
    }
    #[inline(always)]
    unsafe fn select_less(a: Self, b: Self, yes: Self, no: Self) -> Self {
        let less = unsafe { _mm256_cmp_ps::<_CMP_LT_OQ>(a.0, b.0) };
        Self(unsafe { _mm256_blendv_ps(no.0, yes.0, less) })
    }
    #[inline(always)]
    unsafe fn exponent_of_shifted(self) -> Self {
        unsafe {
            let n = _mm256_slli_epi32::<23>(_mm256_castps_si256(self.0));
            let one = _mm256_castps_si256(_mm256_set1_ps(1.0));
            Self(_mm256_castsi256_ps(_mm256_add_epi32(n, one)))
        }
    }
    #[inline(always)]
    unsafe fn butterfly(self) -> f32 {
        unsafe {
            let x = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps::<1>(x, x)))
        }
    }
    #[inline(always)]
    unsafe fn max_lane(self) -> f32 {
        unsafe {
            let x = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
            _mm_cvtss_f32(_mm_max_ss(x, _mm_shuffle_ps::<1>(x, x)))
        }
    }
    #[inline(always)]
    unsafe fn first(self) -> f32 {
        unsafe { _mm256_cvtss_f32(self.0) }
    }
    #[inline(always)]
    unsafe fn bf16(self) -> Self {
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0));
            let rounded = _mm256_blendv_epi8(_mm256_add_epi32(bits, half), quiet, nan);
            let rounded = _mm256_and_si256(rounded, _mm256_set1_epi32(0xffff_0000u32 as i32));
            let exponent = _mm256_and_si256(rounded, _mm256_set1_epi32(0x7f80_0000));
            let tiny = _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256());
            let sign = _mm256_set1_epi32(i32::MIN);
            let zeroed = _mm256_and_si256(rounded, sign);
            Self(_mm256_castsi256_ps(_mm256_blendv_epi8(rounded, zeroed, tiny)))
        }
    }
    #[inline(always)]
    unsafe fn transpose<const BF16: bool>(
        src: *const f32,
        src_stride: usize,
        (rows, columns): (usize, usize),
        dst: *mut f32,
        dst_stride: usize,
    ) {
        unsafe {
            let x = load_rows::<Self, 8, BF16>(src, src_stride, rows, columns).map(|x| x.0);
            // Pairs, then fours, within halves of a register; then halves.
            let mut pairs = x;
            for i in 0..4 {
                pairs[2 * i] = _mm256_unpacklo_ps(x[2 * i], x[2 * i + 1]);
                pairs[2 * i + 1] = _mm256_unpackhi_ps(x[2 * i], x[2 * i + 1]);
            }
            let mut fours = pairs;
            for i in 0..2 {
                for j in 0..2 {
                    let (a, b) = (pairs[4 * i + j], pairs[4 * i + j + 2]);
                    fours[4 * i + 2 * j] = _mm256_shuffle_ps::<0x44>(a, b);
                    fours[4 * i + 2 * j + 1] = _mm256_shuffle_ps::<0xee>(a, b);
                }
            }
            for c in 0..columns {
                let (a, b) = (fours[c % 4], fours[c % 4 + 4]);
                let x = if c < 4 {
                    _mm256_permute2f128_ps::<0x20>(a, b)
                } else {
                    _mm256_permute2f128_ps::<0x31>(a, b)
                };
                _mm256_storeu_ps(dst.add(c * dst_stride), x);
            }
        }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}

/// `rows` vectors of the first `columns` elements of rows, the rest zero.
///
/// # Safety
/// `V`'s instruction set is available; the rows are readable.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn load_rows<V: Lanes, const N: usize, const BF16: bool>(
    src: *const f32,
    src_stride: usize,
    rows: usize,
    columns: usize,
) -> [V; N] {
    // SAFETY: by this function's contract.
    unsafe {
        let mut x = [V::splat(0.0); N];
        for (r, x) in x.iter_mut().enumerate() {
            if r < rows {
                let row = src.add(r * src_stride);
                *x = if columns == V::LEN { V::load(row) } else { V::load_first(row, columns) };
                if BF16 {
                    *x = x.bf16();
                }
            }
        }
        x
    }
}

/// A mask of the first `count` of eight lanes.
///
/// # Safety
/// avx2 is available.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
unsafe fn first_lanes(count: usize) -> __m256i {
    // SAFETY: avx2 by this function's contract.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(clippy::missing_safety_doc, reason = "see the trait")]
#[allow(clippy::undocumented_unsafe_blocks, reason = "each by the trait's contract alone")]
impl Lanes for Avx512 {
    const LEN: usize = 16;
    #[inline(always)]
    unsafe fn splat(x: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    unsafe fn load(src: *const f32) -> Self {
        Self(unsafe { _mm512_loadu_ps(src) })
    }
    #[inline(always)]
    unsafe fn load_first(src: *const f32, count: usize) -> Self {
        Self(unsafe { _mm512_maskz_loadu_ps(((1u32 << count) - 1) as u16, src) })
    }
    #[inline(always)]
    unsafe fn store(self, dst: *mut f32) {
        unsafe { _mm512_storeu_ps(dst, self.0) }
    }
    #[inline(always)]
    unsafe fn store_first(self, dst: *mut f32, count: usize) {
        unsafe { _mm512_mask_storeu_ps(dst, ((1u32 << count) - 1) as u16, self.0) }
    }
    #[inline(always)]
    unsafe fn stream(self, dst: *mut f32) {
        unsafe { _mm512_stream_ps(dst, self.0) }
    }
    #[inline(always)]
    unsafe fn add(self, rhs: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, rhs.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, rhs: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, rhs.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, rhs: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, rhs.0) })
    }
    #[inline(always)]
    unsafe fn div(self, rhs: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, rhs.0) })
    }
    #[inline(always)]
    unsafe fn fma(self, a: Self, b: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, a.0, b.0) })
    }
    #[inline(always)]
    unsafe fn sqrt(self) -> Self {
        Self(unsafe { _mm512_sqrt_ps(self.0) })
    }
    #[inline(always)]
    unsafe fn max(self, rhs: Self) -> Self {
        Self(unsafe { _mm512_max_ps(self.0, rhs.0) })
    }
    #[inline(always)]
    unsafe fn select_less(a: Self, b: Self, yes: Self, no: Self) -> Self {
        let less = unsafe { _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a.0, b.0) };
        Self(unsafe { _mm512_mask_blend_ps(less, no.0, yes.0) })
    }
    #[inline(always)]
    unsafe fn exponent_of_shifted(self) -> Self {
        unsafe {
            let n = _mm512_slli_epi32::<23>(_mm512_castps_si512(self.0));
            let one = _mm512_castps_si512(_mm512_set1_ps(1.0));
            Self(_mm512_castsi512_ps(_mm512_add_epi32(n, one)))
        }
    }
    #[inline(always)]
    unsafe fn butterfly(self) -> f32 {
        unsafe {
            let upper = _mm512_extractf32x8_ps::<1>(self.0);
            Avx2(_mm256_add_ps(_mm512_castps512_ps256(self.0), upper)).butterfly()
        }
    }
    #[inline(always)]
    unsafe fn max_lane(self) -> f32 {
        unsafe {
            let upper = _mm512_extractf32x8_ps::<1>(self.0);
            Avx2(_mm256_max_ps(_mm512_castps512_ps256(self.0), upper)).max_lane()
        }
    }
    #[inline(always)]
    unsafe fn first(self) -> f32 {
        unsafe { _mm512_cvtss_f32(self.0) }
    }
    #[inline(always)]
    unsafe fn bf16(self) -> Self {
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            let rounded = _mm512_add_epi32(bits, half);
            let quiet = _mm512_set1_epi32(0x0040_0000);
            let rounded = _mm512_mask_or_epi32(rounded, nan, bits, quiet);
            let rounded = _mm512_and_si512(rounded, _mm512_set1_epi32(0xffff_0000u32 as i32));
            let tiny = _mm512_testn_epi32_mask(rounded, _mm512_set1_epi32(0x7f80_0000));
            let sign = _mm512_set1_epi32(i32::MIN);
            Self(_mm512_castsi512_ps(_mm512_mask_and_epi32(rounded, tiny, rounded, sign)))
        }
    }
    #[inline(always)]
    unsafe fn transpose<const BF16: bool>(
        src: *const f32,
        src_stride: usize,
        (rows, columns): (usize, usize),
        dst: *mut f32,
        dst_stride: usize,
    ) {
        unsafe {
            let x = load_rows::<Self, 16, BF16>(src, src_stride, rows, columns).map(|x| x.0);
            // Pairs, then fours, within quarters of a register; then quarters, then halves.
            let mut pairs = x;
            for i in 0..8 {
                pairs[2 * i] = _mm512_unpacklo_ps(x[2 * i], x[2 * i + 1]);
                pairs[2 * i + 1] = _mm512_unpackhi_ps(x[2 * i], x[2 * i + 1]);
            }
            let mut fours = pairs;
            for i in 0..4 {
                for j in 0..2 {
                    let (a, b) = (pairs[4 * i + j], pairs[4 * i + j + 2]);
                    fours[4 * i + 2 * j] = _mm512_shuffle_ps::<0x44>(a, b);
                    fours[4 * i + 2 * j + 1] = _mm512_shuffle_ps::<0xee>(a, b);
                }
            }
            for j in 0..4 {
                let x: [__m512; 4] = [fours[j], fours[j + 4], fours[j + 8], fours[j + 12]];
                let even = [
                    _mm512_shuffle_f32x4::<0x88>(x[0], x[1]),
                    _mm512_shuffle_f32x4::<0x88>(x[2], x[3]),
                ];
                let odd = [
                    _mm512_shuffle_f32x4::<0xdd>(x[0], x[1]),
                    _mm512_shuffle_f32x4::<0xdd>(x[2], x[3]),
                ];
                let columns_of_j = [
                    _mm512_shuffle_f32x4::<0x88>(even[0], even[1]),
                    _mm512_shuffle_f32x4::<0x88>(odd[0], odd[1]),
                    _mm512_shuffle_f32x4::<0xdd>(even[0], even[1]),
                    _mm512_shuffle_f32x4::<0xdd>(odd[0], odd[1]),
                ];
                for (quarter, x) in columns_of_j.into_iter().enumerate() {
                    let c = 4 * quarter + j;
                    if c < columns {
                        _mm512_storeu_ps(dst.add(c * dst_stride), x);
                    }
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn prefetch(at: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}
