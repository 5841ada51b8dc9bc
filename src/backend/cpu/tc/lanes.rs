//! What a tensor core's sum asks of vectors beyond [`Lanes`]: exponents, cuts, sums of integers.
//!
//! Exponents are kept as the *fields* of binary32 (exponent + 127; 1 for zero and subnormal
//! numbers), in pairs of 16 bits: one word holds those of columns `j` and `j + LEN`, so that one
//! addition and one maximum serve two vectors of outputs. The field of a product is the sum of two.

use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::lanes::Portable;

/// Lanes with 32-bit integers beside them.
///
/// # Safety
/// The contract of [`Lanes`].
#[allow(clippy::missing_safety_doc, reason = "one contract for all, on the trait")]
pub(super) trait Sums: Lanes {
    /// `LEN` integers of 32 bits, or `2·LEN` of 16.
    type Int: Copy;
    /// All equal.
    unsafe fn splat_int(x: u32) -> Self::Int;
    /// `LEN` integers.
    unsafe fn load_int(src: *const u32) -> Self::Int;
    /// Writes `LEN` integers.
    unsafe fn store_int(x: Self::Int, dst: *mut u32);
    /// Sums of 16 bits.
    unsafe fn add_pairs(x: Self::Int, y: Self::Int) -> Self::Int;
    /// The larger ones of 16 bits, unsigned.
    unsafe fn max_pairs(x: Self::Int, y: Self::Int) -> Self::Int;
    /// The lower halves, and the upper ones, shifted to where binary32 has its exponent.
    unsafe fn fields(pairs: Self::Int) -> [Self::Int; 2];
    /// The exponent fields of two vectors in pairs, at least 1.
    unsafe fn pairs_of(lower: Self, upper: Self) -> Self::Int;
    /// The exponent fields in place, plus `offset`.
    unsafe fn field(self, offset: Self::Int) -> Self::Int;
    /// The larger, unsigned.
    unsafe fn max_int(x: Self::Int, y: Self::Int) -> Self::Int;
    /// Sum.
    unsafe fn add_int(x: Self::Int, y: Self::Int) -> Self::Int;
    /// Difference.
    unsafe fn sub_int(x: Self::Int, y: Self::Int) -> Self::Int;
    /// The numbers with these bits.
    unsafe fn of_bits(bits: Self::Int) -> Self;
    /// Cut toward zero; any integer for numbers that do not fit.
    unsafe fn cut(self) -> Self::Int;
    /// `(products + c) * unit`, the sum cut toward zero to 24 bits; and the lanes, as bits, where
    /// the sum overflowed or `unit` is not positive.
    unsafe fn end(products: Self::Int, c: Self::Int, unit: Self::Int) -> (Self, u32);
}

impl Sums for Portable {
    type Int = [u32; 16];
    #[inline(always)]
    unsafe fn splat_int(x: u32) -> [u32; 16] {
        [x; 16]
    }
    #[inline(always)]
    unsafe fn load_int(src: *const u32) -> [u32; 16] {
        // SAFETY: 16 readable integers by the trait's contract.
        unsafe { src.cast::<[u32; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store_int(x: [u32; 16], dst: *mut u32) {
        // SAFETY: 16 writable integers by the trait's contract.
        unsafe { dst.cast::<[u32; 16]>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn add_pairs(x: [u32; 16], y: [u32; 16]) -> [u32; 16] {
        // Sums of two fields stay below 2^16, so no carry crosses.
        std::array::from_fn(|i| x[i].wrapping_add(y[i]))
    }
    #[inline(always)]
    unsafe fn max_pairs(x: [u32; 16], y: [u32; 16]) -> [u32; 16] {
        std::array::from_fn(|i| {
            let (upper, lower) = ((x[i] >> 16).max(y[i] >> 16), (x[i] & 0xffff).max(y[i] & 0xffff));
            upper << 16 | lower
        })
    }
    #[inline(always)]
    unsafe fn fields(pairs: [u32; 16]) -> [[u32; 16]; 2] {
        [pairs.map(|x| x << 23), pairs.map(|x| (x & 0xffff_0000) << 7)]
    }
    #[inline(always)]
    unsafe fn pairs_of(lower: Self, upper: Self) -> [u32; 16] {
        let field = |x: f32| (x.to_bits() >> 23 & 0xff).max(1);
        std::array::from_fn(|i| field(upper.lanes()[i]) << 16 | field(lower.lanes()[i]))
    }
    #[inline(always)]
    unsafe fn field(self, offset: [u32; 16]) -> [u32; 16] {
        std::array::from_fn(|i| (self.lanes()[i].to_bits() & 0x7f80_0000).wrapping_add(offset[i]))
    }
    #[inline(always)]
    unsafe fn max_int(x: [u32; 16], y: [u32; 16]) -> [u32; 16] {
        std::array::from_fn(|i| x[i].max(y[i]))
    }
    #[inline(always)]
    unsafe fn add_int(x: [u32; 16], y: [u32; 16]) -> [u32; 16] {
        std::array::from_fn(|i| x[i].wrapping_add(y[i]))
    }
    #[inline(always)]
    unsafe fn sub_int(x: [u32; 16], y: [u32; 16]) -> [u32; 16] {
        std::array::from_fn(|i| x[i].wrapping_sub(y[i]))
    }
    #[inline(always)]
    unsafe fn of_bits(bits: [u32; 16]) -> Self {
        Self::of(bits.map(f32::from_bits))
    }
    #[inline(always)]
    unsafe fn cut(self) -> [u32; 16] {
        self.lanes().map(|x| x as i32 as u32)
    }
    #[inline(always)]
    unsafe fn end(products: [u32; 16], c: [u32; 16], unit: [u32; 16]) -> (Self, u32) {
        let mut again = 0;
        let mut out = [0.0; 16];
        for i in 0..16 {
            let (sum, overflow) = (products[i] as i32).overflowing_add(c[i] as i32);
            // Rounded to nearest, then a step back if that went away from zero.
            let near = sum as f32;
            let away = (near as i64).unsigned_abs() > u64::from(sum.unsigned_abs());
            let cut = f32::from_bits(near.to_bits() - u32::from(away));
            out[i] = cut * f32::from_bits(unit[i]);
            again |= u32::from(overflow || unit[i] as i32 <= 0) << i;
        }
        (Self::of(out), again)
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::Sums;
    use crate::backend::cpu::lanes::Avx2;
    use crate::backend::cpu::lanes::Avx512;

    #[allow(clippy::undocumented_unsafe_blocks, reason = "each by the trait's contract alone")]
    impl Sums for Avx2 {
        type Int = __m256i;
        #[inline(always)]
        unsafe fn splat_int(x: u32) -> __m256i {
            unsafe { _mm256_set1_epi32(x as i32) }
        }
        #[inline(always)]
        unsafe fn load_int(src: *const u32) -> __m256i {
            unsafe { _mm256_loadu_si256(src.cast()) }
        }
        #[inline(always)]
        unsafe fn store_int(x: __m256i, dst: *mut u32) {
            unsafe { _mm256_storeu_si256(dst.cast(), x) }
        }
        #[inline(always)]
        unsafe fn add_pairs(x: __m256i, y: __m256i) -> __m256i {
            unsafe { _mm256_add_epi16(x, y) }
        }
        #[inline(always)]
        unsafe fn max_pairs(x: __m256i, y: __m256i) -> __m256i {
            unsafe { _mm256_max_epu16(x, y) }
        }
        #[inline(always)]
        unsafe fn fields(pairs: __m256i) -> [__m256i; 2] {
            unsafe {
                let upper = _mm256_and_si256(pairs, _mm256_set1_epi32(0xffff_0000u32 as i32));
                [_mm256_slli_epi32::<23>(pairs), _mm256_slli_epi32::<7>(upper)]
            }
        }
        #[inline(always)]
        unsafe fn pairs_of(lower: Self, upper: Self) -> __m256i {
            unsafe {
                let lower = _mm256_srli_epi32::<23>(_mm256_castps_si256(lower.0));
                let upper = _mm256_srli_epi32::<7>(_mm256_castps_si256(upper.0));
                let fields = _mm256_blend_epi16::<0xaa>(lower, upper);
                let fields = _mm256_and_si256(fields, _mm256_set1_epi16(0xff));
                _mm256_max_epu16(fields, _mm256_set1_epi16(1))
            }
        }
        #[inline(always)]
        unsafe fn field(self, offset: __m256i) -> __m256i {
            unsafe {
                let mask = _mm256_set1_epi32(0x7f80_0000);
                _mm256_add_epi32(_mm256_and_si256(_mm256_castps_si256(self.0), mask), offset)
            }
        }
        #[inline(always)]
        unsafe fn max_int(x: __m256i, y: __m256i) -> __m256i {
            unsafe { _mm256_max_epu32(x, y) }
        }
        #[inline(always)]
        unsafe fn add_int(x: __m256i, y: __m256i) -> __m256i {
            unsafe { _mm256_add_epi32(x, y) }
        }
        #[inline(always)]
        unsafe fn sub_int(x: __m256i, y: __m256i) -> __m256i {
            unsafe { _mm256_sub_epi32(x, y) }
        }
        #[inline(always)]
        unsafe fn of_bits(bits: __m256i) -> Self {
            Self(unsafe { _mm256_castsi256_ps(bits) })
        }
        #[inline(always)]
        unsafe fn cut(self) -> __m256i {
            unsafe { _mm256_cvttps_epi32(self.0) }
        }
        #[inline(always)]
        unsafe fn end(products: __m256i, c: __m256i, unit: __m256i) -> (Self, u32) {
            unsafe {
                let sum = _mm256_add_epi32(products, c);
                // Rounded to nearest, then a step back if that went away from zero. What rounds
                // to 2^31 comes back negative and is done again.
                let near = _mm256_cvtepi32_ps(sum);
                let back = _mm256_abs_epi32(_mm256_cvttps_epi32(near));
                let away = _mm256_cmpgt_epi32(back, _mm256_abs_epi32(sum));
                let cut = _mm256_add_epi32(_mm256_castps_si256(near), away);
                let out = _mm256_mul_ps(_mm256_castsi256_ps(cut), _mm256_castsi256_ps(unit));
                let crossed = _mm256_xor_si256(products, sum);
                let crossed = _mm256_and_si256(crossed, _mm256_xor_si256(c, sum));
                let low = _mm256_cmpgt_epi32(_mm256_set1_epi32(1), unit);
                let again = _mm256_or_si256(_mm256_or_si256(crossed, back), low);
                (Self(out), _mm256_movemask_ps(_mm256_castsi256_ps(again)) as u32)
            }
        }
    }

    #[allow(clippy::undocumented_unsafe_blocks, reason = "each by the trait's contract alone")]
    impl Sums for Avx512 {
        type Int = __m512i;
        #[inline(always)]
        unsafe fn splat_int(x: u32) -> __m512i {
            unsafe { _mm512_set1_epi32(x as i32) }
        }
        #[inline(always)]
        unsafe fn load_int(src: *const u32) -> __m512i {
            unsafe { _mm512_loadu_si512(src.cast()) }
        }
        #[inline(always)]
        unsafe fn store_int(x: __m512i, dst: *mut u32) {
            unsafe { _mm512_storeu_si512(dst.cast(), x) }
        }
        #[inline(always)]
        unsafe fn add_pairs(x: __m512i, y: __m512i) -> __m512i {
            unsafe { _mm512_add_epi16(x, y) }
        }
        #[inline(always)]
        unsafe fn max_pairs(x: __m512i, y: __m512i) -> __m512i {
            unsafe { _mm512_max_epu16(x, y) }
        }
        #[inline(always)]
        unsafe fn fields(pairs: __m512i) -> [__m512i; 2] {
            unsafe {
                let upper = _mm512_and_si512(pairs, _mm512_set1_epi32(0xffff_0000u32 as i32));
                [_mm512_slli_epi32::<23>(pairs), _mm512_slli_epi32::<7>(upper)]
            }
        }
        #[inline(always)]
        unsafe fn pairs_of(lower: Self, upper: Self) -> __m512i {
            unsafe {
                let lower = _mm512_srli_epi32::<23>(_mm512_castps_si512(lower.0));
                let upper = _mm512_srli_epi32::<7>(_mm512_castps_si512(upper.0));
                let fields = _mm512_mask_blend_epi16(0xaaaa_aaaa, lower, upper);
                let fields = _mm512_and_si512(fields, _mm512_set1_epi16(0xff));
                _mm512_max_epu16(fields, _mm512_set1_epi16(1))
            }
        }
        #[inline(always)]
        unsafe fn field(self, offset: __m512i) -> __m512i {
            unsafe {
                let mask = _mm512_set1_epi32(0x7f80_0000);
                _mm512_add_epi32(_mm512_and_si512(_mm512_castps_si512(self.0), mask), offset)
            }
        }
        #[inline(always)]
        unsafe fn max_int(x: __m512i, y: __m512i) -> __m512i {
            unsafe { _mm512_max_epu32(x, y) }
        }
        #[inline(always)]
        unsafe fn add_int(x: __m512i, y: __m512i) -> __m512i {
            unsafe { _mm512_add_epi32(x, y) }
        }
        #[inline(always)]
        unsafe fn sub_int(x: __m512i, y: __m512i) -> __m512i {
            unsafe { _mm512_sub_epi32(x, y) }
        }
        #[inline(always)]
        unsafe fn of_bits(bits: __m512i) -> Self {
            Self(unsafe { _mm512_castsi512_ps(bits) })
        }
        #[inline(always)]
        unsafe fn cut(self) -> __m512i {
            unsafe { _mm512_cvttps_epi32(self.0) }
        }
        #[inline(always)]
        unsafe fn end(products: __m512i, c: __m512i, unit: __m512i) -> (Self, u32) {
            const TOWARD_ZERO: i32 = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
            unsafe {
                let sum = _mm512_add_epi32(products, c);
                let cut = _mm512_cvt_roundepi32_ps::<TOWARD_ZERO>(sum);
                let out = _mm512_mul_ps(cut, _mm512_castsi512_ps(unit));
                // (products ^ sum) & (c ^ sum): the sign of the sum differs from both.
                let crossed = _mm512_ternarylogic_epi32::<0x42>(products, c, sum);
                let crossed = _mm512_movepi32_mask(crossed);
                let low = _mm512_cmple_epi32_mask(unit, _mm512_setzero_si512());
                (Self(out), u32::from(crossed | low))
            }
        }
    }
}
