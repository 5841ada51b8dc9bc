//! Matrix products in the three layouts of forward and backward.
//!
//! Each output element is one chain over k ascending, from 0 or from the value already there
//! (see [`Precision`]); threads and tiles split outputs, never k. So a weight gradient summed over
//! several micro-batches is the one of the whole batch, bit for bit. In [`Precision::Bf16`] pairs
//! are formed from k = 0 on; a last single element pairs with an odd zero.

use super::{Kernels, OpError, Precision, expect_shape, matrix};
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Arguments of [`forward`].
#[derive(Debug)]
pub struct Forward<'a> {
    /// `(N, O)`, overwritten.
    pub out: ViewMut<'a>,
    /// `(N, I)`.
    pub inp: View<'a>,
    /// `(O, I)`.
    pub weight: View<'a>,
    /// Rounding and order.
    pub precision: Precision,
}

/// Arguments of [`backward_input`].
#[derive(Debug)]
pub struct BackwardInput<'a> {
    /// `(N, I)`, overwritten.
    pub dinp: ViewMut<'a>,
    /// `(N, O)`.
    pub dout: View<'a>,
    /// `(O, I)`.
    pub weight: View<'a>,
    /// Rounding and order.
    pub precision: Precision,
}

/// Arguments of [`backward_weight`].
#[derive(Debug)]
pub struct BackwardWeight<'a> {
    /// `(O, I)`, added to or overwritten, as `start` says.
    pub dweight: ViewMut<'a>,
    /// `(N, O)`.
    pub dout: View<'a>,
    /// `(N, I)`.
    pub inp: View<'a>,
    /// Rounding and order.
    pub precision: Precision,
    /// Where the chains start.
    pub start: Start,
}

/// Where the chains of a weight gradient start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At +0: the output is overwritten.
    Zero,
    /// At the values there: the output is added to.
    Existing,
}

/// `out[n,o] = sum_i inp[n,i] * weight[o,i]`.
pub fn forward(kernels: &dyn Kernels, args: Forward<'_>) -> Result<(), OpError> {
    let [n, i] = matrix("matmul::forward inp", &args.inp.shape())?;
    let [o, _] = matrix("matmul::forward weight", &args.weight.shape())?;
    expect_shape("matmul::forward weight", &args.weight.shape(), &[o, i])?;
    expect_shape("matmul::forward out", &args.out.shape(), &[n, o])?;
    kernels.matmul_forward(args)
}

/// `dinp[n,i] = sum_o dout[n,o] * weight[o,i]`.
pub fn backward_input(kernels: &dyn Kernels, args: BackwardInput<'_>) -> Result<(), OpError> {
    let [n, o] = matrix("matmul::backward_input dout", &args.dout.shape())?;
    let [_, i] = matrix("matmul::backward_input weight", &args.weight.shape())?;
    expect_shape("matmul::backward_input weight", &args.weight.shape(), &[o, i])?;
    expect_shape("matmul::backward_input dinp", &args.dinp.shape(), &[n, i])?;
    kernels.matmul_backward_input(args)
}

/// `dweight[o,i] = start + sum_n dout[n,o] * inp[n,i]`.
pub fn backward_weight(kernels: &dyn Kernels, args: BackwardWeight<'_>) -> Result<(), OpError> {
    let [n, o] = matrix("matmul::backward_weight dout", &args.dout.shape())?;
    let [_, i] = matrix("matmul::backward_weight inp", &args.inp.shape())?;
    expect_shape("matmul::backward_weight inp", &args.inp.shape(), &[n, i])?;
    expect_shape("matmul::backward_weight dweight", &args.dweight.shape(), &[o, i])?;
    kernels.matmul_backward_weight(args)
}

/// What a backend supplies. Shapes have been checked.
pub trait Kernel {
    /// See [`forward`].
    fn matmul_forward(&self, args: Forward<'_>) -> Result<(), OpError>;
    /// See [`backward_input`].
    fn matmul_backward_input(&self, args: BackwardInput<'_>) -> Result<(), OpError>;
    /// See [`backward_weight`].
    fn matmul_backward_weight(&self, args: BackwardWeight<'_>) -> Result<(), OpError>;
}
