//! The `tc` profile: matrix products and attention as tensor cores compute them
//! (docs/ARITHMETIC.md, section 16).
//!
//! [`sum`] is the definition in integers. The kernels compute the same bits 8 or 16 outputs at a
//! time: packed factors carry their exponents beside them, the largest exponent of a group of
//! products gives each output's unit, products are scaled by it, cut by a conversion to integers,
//! and added there.

pub(super) mod attention;
mod burst;
mod kernel;
mod lanes;
mod pack;
mod product;
pub mod sum;

#[cfg(test)]
mod tests;

pub(super) use burst::Burst;

use super::Cpu;
use crate::ops::OpError;
use crate::ops::TensorCore;
use crate::ops::host;
use crate::ops::host_mut;
use crate::ops::matmul::BackwardInput;
use crate::ops::matmul::BackwardWeight;
use crate::ops::matmul::Forward;
use crate::ops::matmul::Start;
use product::Operand;
use product::Output;
use product::Product;

/// `out = bf(chain from +0)` of bf16 factors.
pub(super) fn forward(cpu: &Cpu, core: TensorCore, args: Forward<'_>) -> Result<(), OpError> {
    let (inner, outer) = (args.weight.shape()[1], args.weight.shape()[0]);
    let a = Operand::rows_by_k(host("matmul::forward inp", args.inp)?, inner);
    let b = Operand::rows_by_k(host("matmul::forward weight", args.weight)?, inner);
    let out = Output::bf16(host_mut("matmul::forward out", args.out)?, outer);
    cpu.run(|| Product { core, a, b, k: inner }.run(cpu.level(), &out));
    Ok(())
}

/// `dinp = bf(chain from +0)` of bf16 factors.
pub(super) fn backward_input(
    cpu: &Cpu,
    core: TensorCore,
    args: BackwardInput<'_>,
) -> Result<(), OpError> {
    let (inner, outer) = (args.weight.shape()[1], args.weight.shape()[0]);
    let a = Operand::rows_by_k(host("matmul::backward_input dout", args.dout)?, outer);
    let b = Operand::k_by_rows(host("matmul::backward_input weight", args.weight)?, inner);
    let out = Output::bf16(host_mut("matmul::backward_input dinp", args.dinp)?, inner);
    cpu.run(|| Product { core, a, b, k: outer }.run(cpu.level(), &out));
    Ok(())
}

/// `dweight = chain from +0`, or `dweight + (chain from +0)`, in f32, of bf16 factors.
pub(super) fn backward_weight(
    cpu: &Cpu,
    core: TensorCore,
    args: BackwardWeight<'_>,
) -> Result<(), OpError> {
    let (inner, outer) = (args.inp.shape()[1], args.dout.shape()[1]);
    let n = args.inp.shape()[0];
    let a = Operand::k_by_rows(host("matmul::backward_weight dout", args.dout)?, outer);
    let b = Operand::k_by_rows(host("matmul::backward_weight inp", args.inp)?, inner);
    let dweight = host_mut("matmul::backward_weight dweight", args.dweight)?;
    let out = Output::f32(dweight, inner, args.start == Start::Existing);
    cpu.run(|| Product { core, a, b, k: n }.run(cpu.level(), &out));
    Ok(())
}
