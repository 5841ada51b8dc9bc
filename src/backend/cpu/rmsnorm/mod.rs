//! RMSNorm: a row is read once from memory and twice from the first cache.

mod backward;
mod forward;

use rayon::prelude::*;

use super::Cpu;
use super::lanes::Lanes;
use super::level::at_level;
use super::math::PARTIALS;
use super::math::RowSum;
use super::split::SMALL_ELEMENTS;
use super::split::streams;
use crate::ops::OpError;
use crate::ops::host;
use crate::ops::host_mut;
use crate::ops::rmsnorm::Backward;
use crate::ops::rmsnorm::Forward;
use crate::ops::rmsnorm::ForwardResidual;
use crate::ops::rmsnorm::Kernel;
use backward::Chain;
use backward::Rows;
use forward::normalize_rows;
use forward::normalize_sums;

impl Kernel for Cpu {
    fn rmsnorm_forward(&self, args: Forward<'_>) -> Result<(), OpError> {
        let [n, c] = [args.inp.shape()[0], args.inp.shape()[1]];
        let out: &mut [f32] = host_mut("rmsnorm::forward out", args.out)?;
        let rstd: &mut [f32] = host_mut("rmsnorm::forward rstd", args.rstd)?;
        let inp: &[f32] = host("rmsnorm::forward inp", args.inp)?;
        let weight: &[f32] = host("rmsnorm::forward weight", args.weight)?;
        if c == 0 {
            rstd.fill(f32::NAN);
            return Ok(());
        }
        let (level, eps, stream) = (self.level(), args.eps, streams(out, c));
        let task = self.rows_per_task(n, 2 * c);
        let items = out.chunks_mut(task * c).zip(rstd.chunks_mut(task)).zip(inp.chunks(task * c));
        self.for_each(2 * n * c, items, |((out, rstd), inp)| {
            at_level!(level, normalize_rows(out: &mut [f32], rstd: &mut [f32], inp: &[f32], weight: &[f32], eps: f32, stream: bool));
        });
        Ok(())
    }

    fn rmsnorm_forward_residual(&self, args: ForwardResidual<'_>) -> Result<(), OpError> {
        let [n, c] = [args.inp.shape()[0], args.inp.shape()[1]];
        let out: &mut [f32] = host_mut("rmsnorm::forward_residual out", args.out)?;
        let rstd: &mut [f32] = host_mut("rmsnorm::forward_residual rstd", args.rstd)?;
        let sum: &mut [f32] = host_mut("rmsnorm::forward_residual sum", args.sum)?;
        let residual: &[f32] = host("rmsnorm::forward_residual residual", args.residual)?;
        let inp: &[f32] = host("rmsnorm::forward_residual inp", args.inp)?;
        let weight: &[f32] = host("rmsnorm::forward_residual weight", args.weight)?;
        if c == 0 {
            rstd.fill(f32::NAN);
            return Ok(());
        }
        let (level, eps) = (self.level(), args.eps);
        let stream = streams(out, c) && streams(sum, c);
        let task = self.rows_per_task(n, 4 * c);
        let outputs = out.chunks_mut(task * c).zip(sum.chunks_mut(task * c));
        let inputs = residual.chunks(task * c).zip(inp.chunks(task * c));
        let items = outputs.zip(rstd.chunks_mut(task)).zip(inputs);
        self.for_each(4 * n * c, items, |(((out, sum), rstd), (residual, inp))| {
            at_level!(level, normalize_sums(out: &mut [f32], sum: &mut [f32], rstd: &mut [f32], residual: &[f32], inp: &[f32], weight: &[f32], eps: f32, stream: bool));
        });
        Ok(())
    }

    fn rmsnorm_backward(&self, args: Backward<'_>) -> Result<(), OpError> {
        let [n, c] = [args.inp.shape()[0], args.inp.shape()[1]];
        let dinp: &mut [f32] = host_mut("rmsnorm::backward dinp", args.dinp)?;
        let dweight: &mut [f32] = host_mut("rmsnorm::backward dweight", args.dweight)?;
        let dout: &[f32] = host("rmsnorm::backward dout", args.dout)?;
        let inp: &[f32] = host("rmsnorm::backward inp", args.inp)?;
        let weight: &[f32] = host("rmsnorm::backward weight", args.weight)?;
        let rstd: &[f32] = host("rmsnorm::backward rstd", args.rstd)?;
        if n == 0 || c == 0 {
            return Ok(());
        }
        let (level, threads) = (self.level(), self.threads());
        let block = backward::rows_per_block(n, c, threads);
        let inputs = dout.chunks(block * c).zip(inp.chunks(block * c)).zip(rstd.chunks(block));
        let blocks = dinp
            .chunks_mut(block * c)
            .zip(inputs)
            .map(|(dinp, ((dout, inp), rstd))| Rows { dinp, dout, inp, rstd, weight });
        let chain = Chain::new(dweight, blocks);
        if 4 * n * c <= SMALL_ELEMENTS {
            chain.work(level);
        } else {
            let workers = threads.min(n.div_ceil(block));
            let workers = (0..workers).into_par_iter().with_max_len(1);
            self.run(|| workers.for_each(|_| chain.work(level)));
        }
        Ok(())
    }
}

/// The terms `a * b` of a row sum.
///
/// # Safety
/// The contract of both methods: `V`'s instruction set is available, and the elements named are
/// within the row.
trait Terms<V: Lanes>: Copy {
    /// Factors of elements `i..i + V::LEN`.
    unsafe fn at(self, i: usize) -> [V; 2];
    /// Factors of elements `i..i + count`, then zeros.
    unsafe fn first_at(self, i: usize, count: usize) -> [V; 2];
}

/// The contract's row sum, each term by an FMA into its partial.
///
/// # Safety
/// `V`'s instruction set is available; `terms` has `len` elements.
#[inline(always)]
unsafe fn row_sum<V: Lanes>(terms: impl Terms<V>, len: usize) -> f32 {
    // SAFETY: indices stay below `len`; the rest is this function's contract.
    unsafe {
        let mut sum = RowSum::<V>::zero();
        let mut i = 0;
        while i + PARTIALS <= len {
            for k in 0..RowSum::<V>::REGISTERS {
                let [a, b] = terms.at(i + k * V::LEN);
                *sum.at(k) = a.fma(b, *sum.at(k));
            }
            i += PARTIALS;
        }
        let mut k = 0;
        while i < len {
            let count = V::LEN.min(len - i);
            let [a, b] = terms.first_at(i, count);
            *sum.at(k) = a.fma(b, *sum.at(k));
            i += count;
            k += 1;
        }
        sum.total()
    }
}
