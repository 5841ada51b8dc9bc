//! Softmax and cross-entropy: a row is read once from memory, then stays in the second cache.

use super::Cpu;
use super::lanes::Lanes;
use super::level::at_level;
use super::math::PARTIALS;
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

impl Kernel for Cpu {
    fn cross_entropy_forward(&self, args: Forward<'_>) -> Result<(), OpError> {
        let [n, v] = [args.logits.shape()[0], args.logits.shape()[1]];
        let losses: &mut [f32] = host_mut("cross_entropy::forward losses", args.losses)?;
        let logits: &[f32] = host("cross_entropy::forward logits", args.logits)?;
        let targets: &[u32] = host("cross_entropy::forward targets", args.targets)?;
        expect_tokens("cross_entropy::forward targets", targets, v)?;
        let (level, task) = (self.level(), self.rows_per_task(n, v));
        let items = losses.chunks_mut(task).zip(targets.chunks(task));
        let items = items.zip(logits.chunks((task * v).max(1)));
        self.for_each(n * v, items, |((losses, targets), logits)| {
            at_level!(level, forward(losses: &mut [f32], logits: &[f32], targets: &[u32], v: usize));
        });
        Ok(())
    }

    fn cross_entropy_forward_backward(&self, args: ForwardBackward<'_>) -> Result<(), OpError> {
        let [n, v] = [args.logits.shape()[0], args.logits.shape()[1]];
        let losses: &mut [f32] = host_mut("cross_entropy::forward_backward losses", args.losses)?;
        let logits: &mut [f32] = host_mut("cross_entropy::forward_backward logits", args.logits)?;
        let targets: &[u32] = host("cross_entropy::forward_backward targets", args.targets)?;
        expect_tokens("cross_entropy::forward_backward targets", targets, v)?;
        let (level, scale, task) = (self.level(), args.scale, self.rows_per_task(n, 2 * v));
        let items = losses.chunks_mut(task).zip(targets.chunks(task));
        let items = items.zip(logits.chunks_mut((task * v).max(1)));
        self.for_each(2 * n * v, items, |((losses, targets), logits)| {
            at_level!(level, forward_backward(losses: &mut [f32], logits: &mut [f32], targets: &[u32], v: usize, scale: f32));
        });
        Ok(())
    }
}

/// # Safety
/// `V`'s instruction set is available; targets are below `v`.
#[inline(always)]
unsafe fn forward<V: Lanes>(losses: &mut [f32], logits: &[f32], targets: &[u32], v: usize) {
    let rows = logits.chunks_exact(v).zip(targets);
    for (loss, (x, &target)) in losses.iter_mut().zip(rows) {
        // SAFETY: rows of `v` elements; the rest is this function's contract.
        unsafe {
            let max = row_max::<V>(x.as_ptr(), v);
            let sum = sum_exp::<V>(x.as_ptr(), None, v, max);
            *loss = (max + log(sum)) - x[target as usize];
        }
    }
}

/// # Safety
/// `V`'s instruction set is available; targets are below `v`.
#[inline(always)]
unsafe fn forward_backward<V: Lanes>(
    losses: &mut [f32],
    logits: &mut [f32],
    targets: &[u32],
    v: usize,
    scale: f32,
) {
    let rows = logits.chunks_exact_mut(v).zip(targets);
    for (loss, (x, &target)) in losses.iter_mut().zip(rows) {
        let target = target as usize;
        // SAFETY: rows of `v` elements; the rest is this function's contract.
        unsafe {
            let max = row_max::<V>(x.as_ptr(), v);
            let logit = x[target];
            let row = x.as_mut_ptr();
            let sum = sum_exp::<V>(row, Some(row), v, max);
            *loss = (max + log(sum)) - logit;
            multiply::<V>(row, v, scale / sum);
            x[target] -= scale;
        }
    }
}

/// Largest of `len > 0` elements; some number if one of them is NaN.
///
/// # Safety
/// `V`'s instruction set is available; `x` points to `len` elements.
#[inline(always)]
unsafe fn row_max<V: Lanes>(x: *const f32, len: usize) -> f32 {
    // SAFETY: offsets stay below `len`; the rest is this function's contract.
    unsafe {
        let mut max = [V::splat(f32::NEG_INFINITY); 4];
        let mut i = 0;
        while i + 4 * V::LEN <= len {
            for (k, max) in max.iter_mut().enumerate() {
                *max = max.max(V::load(x.add(i + k * V::LEN)));
            }
            i += 4 * V::LEN;
        }
        let mut max = max[0].max(max[1]).max(max[2].max(max[3]));
        while i + V::LEN <= len {
            max = max.max(V::load(x.add(i)));
            i += V::LEN;
        }
        let mut max = max.max_lane();
        while i < len {
            let x = *x.add(i);
            max = if x > max { x } else { max };
            i += 1;
        }
        max
    }
}

/// The row sum of `exp(x - max)`, which is also written to `out` if there is one.
///
/// # Safety
/// `V`'s instruction set is available; `x` and `out` point to `len` elements.
#[inline(always)]
unsafe fn sum_exp<V: Lanes>(x: *const f32, out: Option<*mut f32>, len: usize, max: f32) -> f32 {
    // SAFETY: offsets stay below `len`; the rest is this function's contract.
    unsafe {
        let max = V::splat(max);
        let mut sum = RowSum::<V>::zero();
        let mut i = 0;
        while i + PARTIALS <= len {
            for k in 0..RowSum::<V>::REGISTERS {
                let at = i + k * V::LEN;
                let e = exp(V::load(x.add(at)).sub(max));
                if let Some(out) = out {
                    e.store(out.add(at));
                }
                *sum.at(k) = sum.at(k).add(e);
            }
            i += PARTIALS;
        }
        let mut k = 0;
        while i < len {
            let count = V::LEN.min(len - i);
            let e = exp(V::load_first(x.add(i), count).sub(max));
            let e = first_or_zero(e, count);
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
