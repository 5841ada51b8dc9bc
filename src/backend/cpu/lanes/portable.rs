//! Lanes in plain Rust: the canonical level.

use half::bf16;

use super::Lanes;

/// Lanes in plain Rust.
#[derive(Clone, Copy)]
pub struct Portable([f32; 16]);

impl Portable {
    /// These lanes.
    #[inline(always)]
    pub(in crate::backend::cpu) fn of(lanes: [f32; 16]) -> Self {
        Self(lanes)
    }

    /// The lanes.
    #[inline(always)]
    pub(in crate::backend::cpu) fn lanes(self) -> [f32; 16] {
        self.0
    }
}

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
        Self(std::array::from_fn(|i| crate::backend::cpu::flush::fma(self.0[i], a.0[i], b.0[i])))
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
        Self(self.0.map(crate::backend::cpu::flush::bf16))
    }
    #[inline(always)]
    unsafe fn nearest_bf16(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(upper_half(x) & 0xffff_0000)))
    }
    #[inline(always)]
    unsafe fn load_bf16(src: *const bf16) -> Self {
        // SAFETY: 16 readable elements by the trait's contract.
        let x = unsafe { src.cast::<[bf16; 16]>().read_unaligned() };
        Self(x.map(|x| f32::from_bits(u32::from(x.to_bits()) << 16)))
    }
    #[inline(always)]
    unsafe fn load_bf16_first(src: *const bf16, count: usize) -> Self {
        let mut a = [bf16::ZERO; 16];
        // SAFETY: `count` readable elements by the trait's contract; 16 in the array.
        unsafe {
            std::ptr::copy_nonoverlapping(src, a.as_mut_ptr(), count);
            Self::load_bf16(a.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(self, dst: *mut bf16) {
        let x = self.0.map(|x| bf16::from_bits((upper_half(x) >> 16) as u16));
        // SAFETY: 16 writable elements by the trait's contract.
        unsafe { dst.cast::<[bf16; 16]>().write_unaligned(x) }
    }
    #[inline(always)]
    unsafe fn store_bf16_first(self, dst: *mut bf16, count: usize) {
        let x = self.0.map(|x| bf16::from_bits((upper_half(x) >> 16) as u16));
        // SAFETY: `count` writable elements by the trait's contract.
        unsafe { std::ptr::copy_nonoverlapping(x.as_ptr(), dst, count) }
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
                    *dst.add(c * dst_stride + r) =
                        if BF16 { crate::backend::cpu::flush::bf16(x) } else { x };
                }
            }
        }
    }
}

/// Bits whose upper half is `x` as a bf16, nearest even; NaN stays NaN. No branches, so that loops
/// over it become vector code.
#[inline(always)]
fn upper_half(x: f32) -> u32 {
    let bits = x.to_bits();
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    if x.is_nan() { bits | 0x0040_0000 } else { nearest }
}
