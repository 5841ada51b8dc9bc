//! RMSNorm: a row is read once from memory and twice from the first cache.

mod backward;
mod chain;
mod forward;
mod groups;

use half::bf16;

use super::Cpu;
use super::activation::Activation;
use super::lanes::Lanes;
use super::level::at_level;
use super::math::RowSum;
use super::split::streams;
use crate::ops::OpError;
use crate::ops::host;
use crate::ops::host_mut;
use crate::ops::rmsnorm::Backward;
use crate::ops::rmsnorm::Forward;
use crate::ops::rmsnorm::ForwardResidual;
use crate::ops::rmsnorm::Kernel;
use crate::tensor::DType;
use backward::Rows;
use forward::normalize_rows;
use forward::normalize_sums;

impl Kernel for Cpu {
    fn rmsnorm_forward(&self, args: Forward<'_>) -> Result<(), OpError> {
        match args.inp.dtype() {
            DType::Bf16 => self.rmsnorm_forward_of::<bf16>(args),
            _ => self.rmsnorm_forward_of::<f32>(args),
        }
    }

    fn rmsnorm_forward_residual(&self, args: ForwardResidual<'_>) -> Result<(), OpError> {
        match args.inp.dtype() {
            DType::Bf16 => self.rmsnorm_forward_residual_of::<bf16>(args),
            _ => self.rmsnorm_forward_residual_of::<f32>(args),
        }
    }

    fn rmsnorm_backward(&self, args: Backward<'_>) -> Result<(), OpError> {
        match args.inp.dtype() {
            DType::Bf16 => self.rmsnorm_backward_of::<bf16>(args),
            _ => self.rmsnorm_backward_of::<f32>(args),
        }
    }
}

impl Cpu {
    fn rmsnorm_forward_of<E: Normal>(&self, args: Forward<'_>) -> Result<(), OpError> {
        let [n, c] = [args.inp.shape()[0], args.inp.shape()[1]];
        let out: &mut [E] = host_mut("rmsnorm::forward out", args.out)?;
        let rstd: &mut [f32] = host_mut("rmsnorm::forward rstd", args.rstd)?;
        let inp: &[E] = host("rmsnorm::forward inp", args.inp)?;
        let weight: &[f32] = host("rmsnorm::forward weight", args.weight)?;
        if c == 0 {
            rstd.fill(f32::NAN);
            return Ok(());
        }
        let (level, eps, stream) = (self.level(), args.eps, streams(out, c));
        let task = self.rows_per_task(n, 2 * c);
        let items = out.chunks_mut(task * c).zip(rstd.chunks_mut(task)).zip(inp.chunks(task * c));
        self.for_each(2 * n * c, items, |((out, rstd), inp)| {
            at_level!(level, normalize_rows<E: Normal>(out: &mut [E], rstd: &mut [f32], inp: &[E], weight: &[f32], eps: f32, stream: bool));
        });
        Ok(())
    }

    fn rmsnorm_forward_residual_of<E: Normal>(
        &self,
        args: ForwardResidual<'_>,
    ) -> Result<(), OpError> {
        let [n, c] = [args.inp.shape()[0], args.inp.shape()[1]];
        let out: &mut [E] = host_mut("rmsnorm::forward_residual out", args.out)?;
        let rstd: &mut [f32] = host_mut("rmsnorm::forward_residual rstd", args.rstd)?;
        let sum: &mut [E] = host_mut("rmsnorm::forward_residual sum", args.sum)?;
        let residual: &[E] = host("rmsnorm::forward_residual residual", args.residual)?;
        let inp: &[E] = host("rmsnorm::forward_residual inp", args.inp)?;
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
            at_level!(level, normalize_sums<E: Normal>(out: &mut [E], sum: &mut [E], rstd: &mut [f32], residual: &[E], inp: &[E], weight: &[f32], eps: f32, stream: bool));
        });
        Ok(())
    }

    fn rmsnorm_backward_of<E: Normal>(&self, args: Backward<'_>) -> Result<(), OpError> {
        let [n, c] = [args.inp.shape()[0], args.inp.shape()[1]];
        let dinp: &mut [E] = host_mut("rmsnorm::backward dinp", args.dinp)?;
        let dweight: &mut [f32] = host_mut("rmsnorm::backward dweight", args.dweight)?;
        let dout: &[E] = host("rmsnorm::backward dout", args.dout)?;
        let inp: &[E] = host("rmsnorm::backward inp", args.inp)?;
        let weight: &[f32] = host("rmsnorm::backward weight", args.weight)?;
        let rstd: &[f32] = host("rmsnorm::backward rstd", args.rstd)?;
        if n == 0 || c == 0 {
            return Ok(());
        }
        E::backward(self, dweight, Rows { dinp, dout, inp, rstd, weight });
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

/// A type of activations: how its rows are summed.
trait Normal: Activation {
    /// The row sum of `terms`, each by an FMA into its partial.
    ///
    /// # Safety
    /// `V`'s instruction set is available; `terms` has `len` elements.
    unsafe fn row_sum<V: Lanes>(terms: impl Terms<V>, len: usize) -> f32;
    /// Gradients of `rows`, of which there is at least one, with at least one column.
    fn backward(cpu: &Cpu, dweight: &mut [f32], rows: Rows<'_, Self>);
}

impl Normal for f32 {
    #[inline(always)]
    unsafe fn row_sum<V: Lanes>(terms: impl Terms<V>, len: usize) -> f32 {
        // SAFETY: by the trait's contract.
        unsafe { row_sum::<V, 16>(terms, len) }
    }
    fn backward(cpu: &Cpu, dweight: &mut [f32], rows: Rows<'_, Self>) {
        chain::backward(cpu, dweight, rows);
    }
}

impl Normal for bf16 {
    #[inline(always)]
    unsafe fn row_sum<V: Lanes>(terms: impl Terms<V>, len: usize) -> f32 {
        // SAFETY: by the trait's contract.
        unsafe { row_sum::<V, 32>(terms, len) }
    }
    fn backward(cpu: &Cpu, dweight: &mut [f32], rows: Rows<'_, Self>) {
        groups::backward(cpu, dweight, rows);
    }
}

/// The contract's row sum of `8 * N` partials, each term by an FMA into its partial.
///
/// # Safety
/// `V`'s instruction set is available; `terms` has `len` elements.
#[inline(always)]
unsafe fn row_sum<V: Lanes, const N: usize>(terms: impl Terms<V>, len: usize) -> f32 {
    // SAFETY: indices stay below `len`; the rest is this function's contract.
    unsafe {
        let mut sum: RowSum<V, N> = RowSum::zero();
        let mut i = 0;
        while i + RowSum::<V, N>::PARTIALS <= len {
            for k in 0..RowSum::<V, N>::REGISTERS {
                let [a, b] = terms.at(i + k * V::LEN);
                *sum.at(k) = a.fma(b, *sum.at(k));
            }
            i += RowSum::<V, N>::PARTIALS;
        }
        let mut k = 0;
        while i + V::LEN <= len {
            let [a, b] = terms.at(i);
            *sum.at(k) = a.fma(b, *sum.at(k));
            i += V::LEN;
            k += 1;
        }
        if i < len {
            let [a, b] = terms.first_at(i, len - i);
            *sum.at(k) = a.fma(b, *sum.at(k));
        }
        sum.total()
    }
}
