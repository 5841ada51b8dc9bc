//! Activations in memory, f32 or bf16: widened where they are loaded, rounded where they are stored
//! (docs/ARITHMETIC.md, section 16.1). Bodies that are generic over them serve all profiles.

use half::bf16;

use super::lanes::Lanes;
use super::split::put;
use crate::tensor::Element;

/// A type of activations.
///
/// # Safety
/// The contract of the unsafe methods: `V`'s instruction set is available, and pointers are valid
/// for the elements that the method names (no alignment asked).
#[allow(clippy::missing_safety_doc, reason = "one contract for all, on the trait")]
pub(super) trait Activation: Element {
    /// Whether stores can go past the caches.
    const STREAMS: bool;
    /// The nearest to `x`.
    fn nearest(x: f32) -> Self;
    /// Its value.
    fn value(self) -> f32;
    /// The nearest to every lane, kept as f32.
    unsafe fn rounded<V: Lanes>(x: V) -> V;
    /// `V::LEN` elements from `src` on.
    unsafe fn load<V: Lanes>(src: *const Self) -> V;
    /// `count <= V::LEN` elements from `src` on, then zeros.
    unsafe fn load_first<V: Lanes>(src: *const Self, count: usize) -> V;
    /// Writes `V::LEN` elements.
    unsafe fn store<V: Lanes>(x: V, dst: *mut Self);
    /// Writes the first `count <= V::LEN` lanes.
    unsafe fn store_first<V: Lanes>(x: V, dst: *mut Self, count: usize);
    /// Writes `V::LEN` elements, past the caches if `STREAM` and [`Self::STREAMS`]; then `dst` is
    /// aligned to the vector, and [`super::split::fence`] must follow.
    unsafe fn put<V: Lanes, const STREAM: bool>(x: V, dst: *mut Self);
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "each by the trait's contract alone")]
impl Activation for f32 {
    const STREAMS: bool = true;
    #[inline(always)]
    fn nearest(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn value(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn rounded<V: Lanes>(x: V) -> V {
        x
    }
    #[inline(always)]
    unsafe fn load<V: Lanes>(src: *const Self) -> V {
        unsafe { V::load(src) }
    }
    #[inline(always)]
    unsafe fn load_first<V: Lanes>(src: *const Self, count: usize) -> V {
        unsafe { V::load_first(src, count) }
    }
    #[inline(always)]
    unsafe fn store<V: Lanes>(x: V, dst: *mut Self) {
        unsafe { x.store(dst) }
    }
    #[inline(always)]
    unsafe fn store_first<V: Lanes>(x: V, dst: *mut Self, count: usize) {
        unsafe { x.store_first(dst, count) }
    }
    #[inline(always)]
    unsafe fn put<V: Lanes, const STREAM: bool>(x: V, dst: *mut Self) {
        unsafe { put::<V, STREAM>(x, dst) }
    }
}

#[allow(clippy::undocumented_unsafe_blocks, reason = "each by the trait's contract alone")]
impl Activation for bf16 {
    const STREAMS: bool = false;
    #[inline(always)]
    fn nearest(x: f32) -> Self {
        let bits = x.to_bits();
        let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
        let bits = if x.is_nan() { bits | 0x0040_0000 } else { nearest };
        bf16::from_bits((bits >> 16) as u16)
    }
    #[inline(always)]
    fn value(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
    #[inline(always)]
    unsafe fn rounded<V: Lanes>(x: V) -> V {
        unsafe { x.nearest_bf16() }
    }
    #[inline(always)]
    unsafe fn load<V: Lanes>(src: *const Self) -> V {
        unsafe { V::load_bf16(src) }
    }
    #[inline(always)]
    unsafe fn load_first<V: Lanes>(src: *const Self, count: usize) -> V {
        unsafe { V::load_bf16_first(src, count) }
    }
    #[inline(always)]
    unsafe fn store<V: Lanes>(x: V, dst: *mut Self) {
        unsafe { x.store_bf16(dst) }
    }
    #[inline(always)]
    unsafe fn store_first<V: Lanes>(x: V, dst: *mut Self, count: usize) {
        unsafe { x.store_bf16_first(dst, count) }
    }
    #[inline(always)]
    unsafe fn put<V: Lanes, const STREAM: bool>(x: V, dst: *mut Self) {
        unsafe { x.store_bf16(dst) }
    }
}

/// `out = inp`, rounded to `To` where that is narrower.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
pub(super) unsafe fn convert<V: Lanes, To: Activation, From: Activation>(
    out: &mut [To],
    inp: &[From],
) {
    let len = out.len();
    assert_eq!(len, inp.len(), "one shape");
    let (out, inp) = (out.as_mut_ptr(), inp.as_ptr());
    // SAFETY: both arrays have `len` elements; the rest is this function's contract.
    unsafe {
        let mut i = 0;
        while i + V::LEN <= len {
            To::store(From::load::<V>(inp.add(i)), out.add(i));
            i += V::LEN;
        }
        let rest = len - i;
        To::store_first(From::load_first::<V>(inp.add(i), rest), out.add(i), rest);
    }
}
