//! Softmax and cross-entropy: a row is read once from memory, then stays in the second cache.
//!
//! In f32 the exponentials wait in place of the logits for the sum that they are divided by; bf16
//! could not hold them, so they are computed again.

use half::bf16;

use super::Cpu;
use super::activation::Activation;
use super::lanes::Lanes;
use super::level::at_level;
use super::math::RowSum;
use super::math::exp;
use super::math::log;
use crate::ops::OpError;
use crate::ops::cross_entropy::Forward;
use crate::ops::cross_entropy::ForwardBackward;
use crate::ops::cross_entropy::Kernel;
use crate::ops::expect_tokens;
use crate::ops::host;
use crate::ops::host_mut;
use crate::tensor::DType;

impl Kernel for Cpu {
    fn cross_entropy_forward(&self, args: Forward<'_>) -> Result<(), OpError> {
        match args.logits.dtype() {
            DType::Bf16 => self.cross_entropy_forward_of::<bf16>(args),
            _ => self.cross_entropy_forward_of::<f32>(args),
        }
    }

    fn cross_entropy_forward_backward(&self, args: ForwardBackward<'_>) -> Result<(), OpError> {
        match args.logits.dtype() {
            DType::Bf16 => self.cross_entropy_forward_backward_of::<bf16>(args),
            _ => self.cross_entropy_forward_backward_of::<f32>(args),
        }
    }
}

impl Cpu {
    fn cross_entropy_forward_of<E: Logit>(&self, args: Forward<'_>) -> Result<(), OpError> {
        let [n, v] = [args.logits.shape()[0], args.logits.shape()[1]];
        let losses: &mut [f32] = host_mut("cross_entropy::forward losses", args.losses)?;
        let logits: &[E] = host("cross_entropy::forward logits", args.logits)?;
        let targets: &[u32] = host("cross_entropy::forward targets", args.targets)?;
        expect_tokens("cross_entropy::forward targets", targets, v)?;
        let (level, task) = (self.level(), self.rows_per_task(n, v));
        let items = losses.chunks_mut(task).zip(targets.chunks(task));
        let items = items.zip(logits.chunks((task * v).max(1)));
        self.for_each(n * v, items, |((losses, targets), logits)| {
            at_level!(level, forward<E: Logit>(losses: &mut [f32], logits: &[E], targets: &[u32], v: usize));
        });
        Ok(())
    }

    fn cross_entropy_forward_backward_of<E: Logit>(
        &self,
        args: ForwardBackward<'_>,
    ) -> Result<(), OpError> {
        let [n, v] = [args.logits.shape()[0], args.logits.shape()[1]];
        let losses: &mut [f32] = host_mut("cross_entropy::forward_backward losses", args.losses)?;
        let logits: &mut [E] = host_mut("cross_entropy::forward_backward logits", args.logits)?;
        let targets: &[u32] = host("cross_entropy::forward_backward targets", args.targets)?;
        expect_tokens("cross_entropy::forward_backward targets", targets, v)?;
        let (level, scale, task) = (self.level(), args.scale, self.rows_per_task(n, 2 * v));
        let items = losses.chunks_mut(task).zip(targets.chunks(task));
        let items = items.zip(logits.chunks_mut((task * v).max(1)));
        self.for_each(2 * n * v, items, |((losses, targets), logits)| {
            at_level!(level, forward_backward<E: Logit>(losses: &mut [f32], logits: &mut [E], targets: &[u32], v: usize, scale: f32));
        });
        Ok(())
    }
}

/// # Safety
/// `V`'s instruction set is available; targets are below `v`.
#[inline(always)]
unsafe fn forward<V: Lanes, E: Logit>(losses: &mut [f32], logits: &[E], targets: &[u32], v: usize) {
    let rows = logits.chunks_exact(v).zip(targets);
    for (loss, (x, &target)) in losses.iter_mut().zip(rows) {
        // SAFETY: rows of `v` elements; the rest is this function's contract.
        unsafe {
            let max = row_max::<V, E>(x.as_ptr(), v);
            let sum = E::sum_exp::<V>(x.as_ptr(), v, max);
            *loss = (max + log(sum)) - x[target as usize].value();
        }
    }
}

/// # Safety
/// `V`'s instruction set is available; targets are below `v`.
#[inline(always)]
unsafe fn forward_backward<V: Lanes, E: Logit>(
    losses: &mut [f32],
    logits: &mut [E],
    targets: &[u32],
    v: usize,
    scale: f32,
) {
    let rows = logits.chunks_exact_mut(v).zip(targets);
    for (loss, (x, &target)) in losses.iter_mut().zip(rows) {
        let logit = x[target as usize].value();
        // SAFETY: rows of `v` elements; the rest is this function's contract.
        unsafe {
            let max = row_max::<V, E>(x.as_ptr(), v);
            let sum = E::gradients::<V>(x, target as usize, max, scale);
            *loss = (max + log(sum)) - logit;
        }
    }
}

/// A type of logits: how their row is summed, and how it becomes its gradient.
///
/// # Safety
/// The contract of both methods: `V`'s instruction set is available, and rows have `len` elements.
#[allow(clippy::missing_safety_doc, reason = "one contract for both, on the trait")]
trait Logit: Activation {
    /// The row sum of `exp(x - max)`.
    unsafe fn sum_exp<V: Lanes>(x: *const Self, len: usize, max: f32) -> f32;
    /// The same sum; puts the gradients in place of the row.
    unsafe fn gradients<V: Lanes>(x: &mut [Self], target: usize, max: f32, scale: f32) -> f32;
}

impl Logit for f32 {
    #[inline(always)]
    unsafe fn sum_exp<V: Lanes>(x: *const Self, len: usize, max: f32) -> f32 {
        // SAFETY: by the trait's contract.
        unsafe { sum_exp::<V, f32, 16>(x, None, len, max) }
    }
    #[inline(always)]
    unsafe fn gradients<V: Lanes>(x: &mut [Self], target: usize, max: f32, scale: f32) -> f32 {
        let (row, len) = (x.as_mut_ptr(), x.len());
        // SAFETY: by the trait's contract.
        let sum = unsafe {
            let sum = sum_exp::<V, f32, 16>(row, Some(row), len, max);
            multiply::<V>(row, len, scale / sum);
            sum
        };
        x[target] -= scale;
        sum
    }
}

impl Logit for bf16 {
    #[inline(always)]
    unsafe fn sum_exp<V: Lanes>(x: *const Self, len: usize, max: f32) -> f32 {
        // SAFETY: by the trait's contract.
        unsafe { sum_exp::<V, bf16, 256>(x, None, len, max) }
    }
    #[inline(always)]
    unsafe fn gradients<V: Lanes>(x: &mut [Self], target: usize, max: f32, scale: f32) -> f32 {
        let (row, len, logit) = (x.as_mut_ptr(), x.len(), x[target].value());
        // SAFETY: by the trait's contract.
        let (sum, at_target) = unsafe {
            let sum = sum_exp::<V, bf16, 256>(row, None, len, max);
            exp_times::<V>(row, len, max, scale / sum);
            (sum, exp(V::splat(logit - max)).first())
        };
        x[target] = bf16::nearest(at_target * (scale / sum) - scale);
        sum
    }
}

/// Largest of `len > 0` elements; some number if one of them is NaN.
///
/// # Safety
/// `V`'s instruction set is available; `x` points to `len` elements.
#[inline(always)]
unsafe fn row_max<V: Lanes, E: Activation>(x: *const E, len: usize) -> f32 {
    // SAFETY: offsets stay below `len`; the rest is this function's contract.
    unsafe {
        let mut max = [V::splat(f32::NEG_INFINITY); 4];
        let mut i = 0;
        while i + 4 * V::LEN <= len {
            for (k, max) in max.iter_mut().enumerate() {
                *max = max.max(E::load(x.add(i + k * V::LEN)));
            }
            i += 4 * V::LEN;
        }
        let mut max = max[0].max(max[1]).max(max[2].max(max[3]));
        while i + V::LEN <= len {
            max = max.max(E::load(x.add(i)));
            i += V::LEN;
        }
        let mut max = max.max_lane();
        while i < len {
            let x = (*x.add(i)).value();
            max = if x > max { x } else { max };
            i += 1;
        }
        max
    }
}

/// The row sum of `exp(x - max)` with `8 * N` partials; its terms are also written to `out` if there
/// is one.
///
/// # Safety
/// `V`'s instruction set is available; `x` and `out` point to `len` elements.
#[inline(always)]
unsafe fn sum_exp<V: Lanes, E: Activation, const N: usize>(
    x: *const E,
    out: Option<*mut f32>,
    len: usize,
    max: f32,
) -> f32 {
    // SAFETY: offsets stay below `len`; the rest is this function's contract.
    unsafe {
        let max = V::splat(max);
        let mut sum: RowSum<V, N> = RowSum::zero();
        let mut i = 0;
        // A constant number of additions in a turn, so that few partials stay in registers.
        while i + RowSum::<V, N>::PARTIALS <= len {
            for k in 0..RowSum::<V, N>::REGISTERS {
                let at = i + k * V::LEN;
                let e = exp(E::load::<V>(x.add(at)).sub(max));
                if let Some(out) = out {
                    e.store(out.add(at));
                }
                *sum.at(k) = sum.at(k).add(e);
            }
            i += RowSum::<V, N>::PARTIALS;
        }
        let mut k = 0;
        while i < len {
            let count = V::LEN.min(len - i);
            let whole = count == V::LEN;
            let lanes: V = if whole { E::load(x.add(i)) } else { E::load_first(x.add(i), count) };
            let e = exp(lanes.sub(max));
            let e = if whole { e } else { first_or_zero(e, count) };
            if let Some(out) = out {
                e.store_first(out.add(i), count);
            }
            *sum.at(k) = sum.at(k).add(e);
            i += count;
            k += 1;
        }
        sum.total()
    }
}

/// The first `count` lanes of `x`, then zeros.
///
/// # Safety
/// `V`'s instruction set is available; `count <= V::LEN`.
#[inline(always)]
unsafe fn first_or_zero<V: Lanes>(x: V, count: usize) -> V {
    let mut lanes = [0.0f32; MAX_LANES];
    assert!(V::LEN <= MAX_LANES);
    // SAFETY: the array has room for a whole vector; the rest is this function's contract.
    unsafe {
        x.store_first(lanes.as_mut_ptr(), count);
        V::load(lanes.as_ptr())
    }
}

/// `x = bf(exp(x - max) * factor)`.
///
/// # Safety
/// `V`'s instruction set is available; `x` points to `len` elements.
#[inline(always)]
unsafe fn exp_times<V: Lanes>(x: *mut bf16, len: usize, max: f32, factor: f32) {
    // SAFETY: offsets stay below `len`; the rest is this function's contract.
    unsafe {
        let (max, factor) = (V::splat(max), V::splat(factor));
        let mut i = 0;
        while i + V::LEN <= len {
            exp(V::load_bf16(x.add(i)).sub(max)).mul(factor).store_bf16(x.add(i));
            i += V::LEN;
        }
        let rest = len - i;
        let last = V::load_bf16_first(x.add(i), rest);
        exp(last.sub(max)).mul(factor).store_bf16_first(x.add(i), rest);
    }
}

/// `x = x * factor`.
///
/// # Safety
/// `V`'s instruction set is available; `x` points to `len` elements.
#[inline(always)]
unsafe fn multiply<V: Lanes>(x: *mut f32, len: usize, factor: f32) {
    // SAFETY: offsets stay below `len`; the rest is this function's contract.
    unsafe {
        let factor = V::splat(factor);
        let mut i = 0;
        while i + V::LEN <= len {
            V::load(x.add(i)).mul(factor).store(x.add(i));
            i += V::LEN;
        }
        let rest = len - i;
        V::load_first(x.add(i), rest).mul(factor).store_first(x.add(i), rest);
    }
}

/// Lanes of the widest vector.
const MAX_LANES: usize = 16;
