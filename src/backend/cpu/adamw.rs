//! AdamW: one pass over the four arrays of every tensor; seven numbers of memory traffic for each
//! element, and half a one where there is a copy.

use half::bf16;

use super::Cpu;
use super::activation::convert;
use super::lanes::Lanes;
use super::level::at_level;
use crate::ops::OpError;
use crate::ops::adamw::Kernel;
use crate::ops::adamw::Scalars;
use crate::ops::adamw::Tensors;
use crate::ops::host;
use crate::ops::host_mut;

impl Kernel for Cpu {
    fn adamw_update(&self, tensors: &mut [Tensors<'_>], scalars: &Scalars) -> Result<(), OpError> {
        let len = tensors.iter().map(|t| t.param.shape().len()).sum::<usize>();
        let task = self.rows_per_task(len.div_ceil(CHUNK), CHUNK) * CHUNK;
        let mut parts = Vec::new();
        for tensor in tensors {
            let param: &mut [f32] = host_mut("adamw::update param", tensor.param.reborrow())?;
            let m: &mut [f32] = host_mut("adamw::update m", tensor.m.reborrow())?;
            let v: &mut [f32] = host_mut("adamw::update v", tensor.v.reborrow())?;
            let grad: &[f32] = host("adamw::update grad", tensor.grad)?;
            let copy = tensor.copy.as_mut().map(|copy| copy.reborrow());
            let copy = copy.map(|copy| host_mut::<bf16>("adamw::update copy", copy)).transpose()?;
            let mut copies = copy.map(|copy| copy.chunks_mut(task));
            let items = param.chunks_mut(task).zip(m.chunks_mut(task));
            let items = items.zip(v.chunks_mut(task).zip(grad.chunks(task)));
            for ((param, m), (v, grad)) in items {
                let copy = copies.as_mut().and_then(Iterator::next);
                parts.push(Part { param, m, v, grad, copy, decay: tensor.decay });
            }
        }
        let level = self.level();
        self.for_each(len, parts.into_iter(), |mut part| {
            let part = &mut part;
            at_level!(level, update(part: &mut Part<'_>, scalars: &Scalars));
        });
        Ok(())
    }
}

/// Some elements of one tensor.
struct Part<'a> {
    param: &'a mut [f32],
    m: &'a mut [f32],
    v: &'a mut [f32],
    grad: &'a [f32],
    copy: Option<&'a mut [bf16]>,
    decay: f32,
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn update<V: Lanes>(part: &mut Part<'_>, scalars: &Scalars) {
    // The copy is made of what has just been written, while that is in the first cache.
    let pieces = part.param.chunks_mut(PIECE).zip(part.m.chunks_mut(PIECE));
    let pieces = pieces.zip(part.v.chunks_mut(PIECE).zip(part.grad.chunks(PIECE)));
    let mut copies = part.copy.as_mut().map(|copy| copy.chunks_mut(PIECE));
    for ((param, m), (v, grad)) in pieces {
        // SAFETY: by this function's contract.
        unsafe {
            step::<V>(param, m, v, grad, scalars, part.decay);
            if let Some(copy) = copies.as_mut().and_then(Iterator::next) {
                convert::<V, bf16, f32>(copy, param);
            }
        }
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn step<V: Lanes>(
    param: &mut [f32],
    m: &mut [f32],
    v: &mut [f32],
    grad: &[f32],
    scalars: &Scalars,
    decay: f32,
) {
    let len = param.len();
    assert!(m.len() == len && v.len() == len && grad.len() == len, "one shape");
    let (param, m, v) = (param.as_mut_ptr(), m.as_mut_ptr(), v.as_mut_ptr());
    let grad = grad.as_ptr();
    // SAFETY: all four arrays have `len` elements; the rest is this function's contract.
    unsafe {
        let all = Broadcast::<V>::of(scalars, decay);
        let mut i = 0;
        while i + V::LEN <= len {
            let old = [V::load(param.add(i)), V::load(m.add(i)), V::load(v.add(i))];
            let [new, new_m, new_v] = all.step(old, V::load(grad.add(i)));
            new.store(param.add(i));
            new_m.store(m.add(i));
            new_v.store(v.add(i));
            i += V::LEN;
        }
        let rest = len - i;
        let first = |p: *mut f32| p.add(i).cast_const();
        let old = [
            V::load_first(first(param), rest),
            V::load_first(first(m), rest),
            V::load_first(first(v), rest),
        ];
        let [new, new_m, new_v] = all.step(old, V::load_first(grad.add(i), rest));
        new.store_first(param.add(i), rest);
        new_m.store_first(m.add(i), rest);
        new_v.store_first(v.add(i), rest);
    }
}

/// The scalars in every lane.
struct Broadcast<V> {
    grad_scale: V,
    beta1: V,
    one_minus_beta1: V,
    beta2: V,
    one_minus_beta2: V,
    minus_step_size: V,
    inv_sqrt_bias2: V,
    eps: V,
    decay: V,
}

impl<V: Lanes> Broadcast<V> {
    /// # Safety
    /// `V`'s instruction set is available.
    #[inline(always)]
    unsafe fn of(scalars: &Scalars, decay: f32) -> Self {
        // SAFETY: by this function's contract.
        unsafe {
            Self {
                grad_scale: V::splat(scalars.grad_scale),
                beta1: V::splat(scalars.beta1),
                one_minus_beta1: V::splat(scalars.one_minus_beta1),
                beta2: V::splat(scalars.beta2),
                one_minus_beta2: V::splat(scalars.one_minus_beta2),
                minus_step_size: V::splat(-scalars.step_size),
                inv_sqrt_bias2: V::splat(scalars.inv_sqrt_bias2),
                eps: V::splat(scalars.eps),
                decay: V::splat(decay),
            }
        }
    }

    /// New weight and moments.
    ///
    /// # Safety
    /// `V`'s instruction set is available.
    #[inline(always)]
    unsafe fn step(&self, [param, m, v]: [V; 3], grad: V) -> [V; 3] {
        // SAFETY: by this function's contract.
        unsafe {
            let g = grad.mul(self.grad_scale);
            let m = self.beta1.fma(m, self.one_minus_beta1.mul(g));
            let v = self.beta2.fma(v, self.one_minus_beta2.mul(g).mul(g));
            let denom = v.sqrt().mul(self.inv_sqrt_bias2).add(self.eps);
            let param = self.minus_step_size.fma(m.div(denom), param.mul(self.decay));
            [param, m, v]
        }
    }
}

/// Tasks are multiples of this: whole cache lines, and whole pages.
const CHUNK: usize = 1024;
/// Elements updated before their copy is made.
const PIECE: usize = CHUNK;
