//! Lanes of AVX-512.

use std::arch::x86_64::*;

use half::bf16;

use super::Avx2;
use super::Lanes;
use super::avx2::load_rows;

/// Lanes in one 512-bit register.
#[derive(Clone, Copy)]
pub struct Avx512(pub(in crate::backend::cpu) __m512);

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
            let rounded = _mm512_castps_si512(self.nearest_bf16().0);
            let tiny = _mm512_testn_epi32_mask(rounded, _mm512_set1_epi32(0x7f80_0000));
            let sign = _mm512_set1_epi32(i32::MIN);
            Self(_mm512_castsi512_ps(_mm512_mask_and_epi32(rounded, tiny, rounded, sign)))
        }
    }
    #[inline(always)]
    unsafe fn nearest_bf16(self) -> Self {
        unsafe {
            let upper = _mm512_set1_epi32(0xffff_0000u32 as i32);
            Self(_mm512_castsi512_ps(_mm512_and_si512(self.upper_half(), upper)))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(src: *const bf16) -> Self {
        unsafe {
            let x = _mm512_cvtepu16_epi32(_mm256_loadu_si256(src.cast()));
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(x)))
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_first(src: *const bf16, count: usize) -> Self {
        unsafe {
            let x = _mm256_maskz_loadu_epi16(((1u32 << count) - 1) as u16, src.cast());
            Self(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(x))))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, dst: *mut bf16) {
        unsafe {
            let x = _mm512_srli_epi32::<16>(self.upper_half());
            _mm256_storeu_si256(dst.cast(), _mm512_cvtepi32_epi16(x));
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_first(self, dst: *mut bf16, count: usize) {
        unsafe {
            let x = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(self.upper_half()));
            _mm256_mask_storeu_epi16(dst.cast(), ((1u32 << count) - 1) as u16, x);
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

impl Avx512 {
    /// Bits whose upper half is the number as a bf16, nearest even; NaN stays NaN. (`vcvtneps2bf16`
    /// would take subnormal numbers as zero.)
    ///
    /// # Safety
    /// avx512f is available.
    #[inline(always)]
    unsafe fn upper_half(self) -> __m512i {
        // SAFETY: avx512f by this function's contract.
        unsafe {
            let bits = _mm512_castps_si512(self.0);
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(self.0, self.0);
            let rounded = _mm512_add_epi32(bits, half);
            _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x0040_0000))
        }
    }
}
