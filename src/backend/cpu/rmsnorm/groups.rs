//! Gradients of RMSNorm in bf16: weight gradients in groups of rows, each for itself.

use half::bf16;

use super::backward::Rows;
use super::backward::input_gradients;
use crate::backend::cpu::Cpu;
use crate::backend::cpu::elementwise::add;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::level::at_level;
use crate::ops::rmsnorm::GROUP_PARTIALS;
use crate::ops::rmsnorm::GROUP_ROWS;

/// Gradients of `rows`, of which there is at least one.
pub(super) fn backward(cpu: &Cpu, dweight: &mut [f32], rows: Rows<'_, bf16>) {
    let (n, c) = (rows.rstd.len(), rows.weight.len());
    let (level, groups) = (cpu.level(), n.div_ceil(GROUP_ROWS));
    let task = cpu.rows_per_task(groups, 4 * GROUP_ROWS * c);
    let mut sums = vec![0.0; groups * c];
    let items = rows.blocks(task * GROUP_ROWS).zip(sums.chunks_mut(task * c));
    cpu.for_each(4 * n * c, items, |(rows, sums)| {
        for (mut rows, sums) in rows.blocks(GROUP_ROWS).zip(sums.chunks_mut(c)) {
            let rows = &mut rows;
            at_level!(level, group(sums: &mut [f32], rows: &mut Rows<'_, bf16>));
        }
    });
    let sums = &sums[..];
    at_level!(level, add_groups(dweight: &mut [f32], sums: &[f32]));
}

/// Gradients of one group; of the weight into `sums`.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn group<V: Lanes>(sums: &mut [f32], rows: &mut Rows<'_, bf16>) {
    let c = sums.len();
    assert!(rows.weight.len() == c);
    assert!(rows.dout.len() == rows.rstd.len() * c && rows.inp.len() == rows.dout.len());
    // SAFETY: whole rows; columns stay below `c` in each of them; the rest is this function's
    // contract.
    unsafe {
        input_gradients::<V, bf16>(rows);
        let mut i = 0;
        while i + V::LEN <= c {
            weight_gradients::<V>(rows, c, i, V::LEN).store(sums.as_mut_ptr().add(i));
            i += V::LEN;
        }
        if i < c {
            let sum = weight_gradients::<V>(rows, c, i, c - i);
            sum.store_first(sums.as_mut_ptr().add(i), c - i);
        }
    }
}

/// The sums of columns `i..i + count` over the rows of a group.
///
/// # Safety
/// `V`'s instruction set is available; `count` is at most `V::LEN`; all rows have `c` columns, and
/// `i + count` is at most that.
#[inline(always)]
unsafe fn weight_gradients<V: Lanes>(rows: &Rows<'_, bf16>, c: usize, i: usize, count: usize) -> V {
    // SAFETY: columns below `c` of each row; the rest is this function's contract.
    unsafe {
        let (dout, inp) = (rows.dout.as_ptr().add(i), rows.inp.as_ptr().add(i));
        let mut partials = [V::splat(0.0); GROUP_PARTIALS];
        for (n, rstd) in rows.rstd.chunks(GROUP_PARTIALS).enumerate() {
            for (k, (partial, &rstd)) in partials.iter_mut().zip(rstd).enumerate() {
                let at = (n * GROUP_PARTIALS + k) * c;
                let [dout, x] = if count == V::LEN {
                    [V::load_bf16(dout.add(at)), V::load_bf16(inp.add(at))]
                } else {
                    let dout = V::load_bf16_first(dout.add(at), count);
                    [dout, V::load_bf16_first(inp.add(at), count)]
                };
                *partial = dout.fma(x.mul(V::splat(rstd)), *partial);
            }
        }
        let mut width = GROUP_PARTIALS;
        while width > 1 {
            width /= 2;
            for k in 0..width {
                partials[k] = partials[k].add(partials[k + width]);
            }
        }
        partials[0]
    }
}

/// `dweight = dweight + (the groups' sums, added in order from 0)`.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn add_groups<V: Lanes>(dweight: &mut [f32], sums: &[f32]) {
    let mut total = vec![0.0; dweight.len()];
    for sums in sums.chunks_exact(dweight.len()) {
        // SAFETY: by this function's contract.
        unsafe { add::<V, f32, f32>(&mut total, sums) };
    }
    // SAFETY: by this function's contract.
    unsafe { add::<V, f32, f32>(dweight, &total) };
}
