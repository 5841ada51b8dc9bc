//! Lanes of AVX2 and FMA.

use std::arch::x86_64::*;

use half::bf16;

use super::Lanes;

/// Lanes in one 256-bit register.
#[derive(Clone, Copy)]
pub struct Avx2(pub(in crate::backend::cpu) __m256);

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
            let rounded = _mm256_castps_si256(self.nearest_bf16().0);
            let exponent = _mm256_and_si256(rounded, _mm256_set1_epi32(0x7f80_0000));
            let tiny = _mm256_cmpeq_epi32(exponent, _mm256_setzero_si256());
            let sign = _mm256_set1_epi32(i32::MIN);
            let zeroed = _mm256_and_si256(rounded, sign);
            Self(_mm256_castsi256_ps(_mm256_blendv_epi8(rounded, zeroed, tiny)))
        }
    }
    #[inline(always)]
    unsafe fn nearest_bf16(self) -> Self {
        unsafe {
            let upper = _mm256_set1_epi32(0xffff_0000u32 as i32);
            Self(_mm256_castsi256_ps(_mm256_and_si256(self.upper_half(), upper)))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(src: *const bf16) -> Self {
        unsafe {
            let x = _mm256_cvtepu16_epi32(_mm_loadu_si128(src.cast()));
            Self(_mm256_castsi256_ps(_mm256_slli_epi32::<16>(x)))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_first(src: *const bf16, count: usize) -> Self {
        unsafe {
            let mut a = [bf16::ZERO; 8];
            std::ptr::copy_nonoverlapping(src, a.as_mut_ptr(), count);
            Self::load_bf16(a.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, dst: *mut bf16) {
        unsafe {
            let x = _mm256_srli_epi32::<16>(self.upper_half());
            let (low, high) = (_mm256_castsi256_si128(x), _mm256_extracti128_si256::<1>(x));
            _mm_storeu_si128(dst.cast(), _mm_packus_epi32(low, high));
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_first(self, dst: *mut bf16, count: usize) {
        unsafe {
            let mut a = [bf16::ZERO; 8];
            self.store_bf16(a.as_mut_ptr());
            std::ptr::copy_nonoverlapping(a.as_ptr(), dst, count);
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

impl Avx2 {
    /// Bits whose upper half is the number as a bf16, nearest even; NaN stays NaN.
    ///
    /// # Safety
    /// avx2 is available.
    #[inline(always)]
    unsafe fn upper_half(self) -> __m256i {
        // SAFETY: avx2 by this function's contract.
        unsafe {
            let bits = _mm256_castps_si256(self.0);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(self.0, self.0));
            _mm256_blendv_epi8(_mm256_add_epi32(bits, half), quiet, nan)
        }
    }
}

/// `rows` vectors of the first `columns` elements of rows, the rest zero.
///
/// # Safety
/// `V`'s instruction set is available; the rows are readable.
#[inline(always)]
pub(super) unsafe fn load_rows<V: Lanes, const N: usize, const BF16: bool>(
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
#[inline(always)]
unsafe fn first_lanes(count: usize) -> __m256i {
    // SAFETY: avx2 by this function's contract.
    unsafe {
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count as i32), lanes)
    }
}
