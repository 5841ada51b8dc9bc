//! Rows of a table, chosen by token; backward adds rows back, in token order.
//!
//! Bits: forward copies; backward is, for each table element, a chain of additions over the
//! tokens that name its row, in ascending position, starting from the value there.

use super::{Kernels, OpError, activation, expect_dtype, expect_shape, matrix};
use crate::tensor::DType;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Arguments of [`forward`].
#[derive(Debug)]
pub struct Forward<'a> {
    /// `(N, C)`, overwritten; of the table's type.
    pub out: ViewMut<'a>,
    /// `(N)` of `u32`, each below `V`.
    pub tokens: View<'a>,
    /// `(V, C)`, f32 or bf16.
    pub table: View<'a>,
}

/// Arguments of [`backward`].
#[derive(Debug)]
pub struct Backward<'a> {
    /// `(V, C)`, f32, added to.
    pub dtable: ViewMut<'a>,
    /// `(N)` of `u32`, each below `V`.
    pub tokens: View<'a>,
    /// `(N, C)`, f32 or bf16.
    pub dout: View<'a>,
}

/// `out[n] = table[tokens[n]]`.
pub fn forward(kernels: &dyn Kernels, args: Forward<'_>) -> Result<(), OpError> {
    let [n, c] = matrix("embedding::forward out", &args.out.shape())?;
    let [v, _] = matrix("embedding::forward table", &args.table.shape())?;
    expect_shape("embedding::forward table", &args.table.shape(), &[v, c])?;
    expect_shape("embedding::forward tokens", &args.tokens.shape(), &[n])?;
    let dtype = activation("embedding::forward table", args.table.dtype())?;
    expect_dtype("embedding::forward out", args.out.dtype(), dtype)?;
    expect_dtype("embedding::forward tokens", args.tokens.dtype(), DType::U32)?;
    kernels.embedding_forward(args)
}

/// `dtable[tokens[n]] += dout[n]`, n ascending.
pub fn backward(kernels: &dyn Kernels, args: Backward<'_>) -> Result<(), OpError> {
    let [n, c] = matrix("embedding::backward dout", &args.dout.shape())?;
    let [v, _] = matrix("embedding::backward dtable", &args.dtable.shape())?;
    expect_shape("embedding::backward dtable", &args.dtable.shape(), &[v, c])?;
    expect_shape("embedding::backward tokens", &args.tokens.shape(), &[n])?;
    activation("embedding::backward dout", args.dout.dtype())?;
    expect_dtype("embedding::backward dtable", args.dtable.dtype(), DType::F32)?;
    expect_dtype("embedding::backward tokens", args.tokens.dtype(), DType::U32)?;
    kernels.embedding_backward(args)
}

/// What a backend supplies. Shapes and types have been checked; a token past the table is an error.
pub trait Kernel {
    /// See [`forward`].
    fn embedding_forward(&self, args: Forward<'_>) -> Result<(), OpError>;
    /// See [`backward`].
    fn embedding_backward(&self, args: Backward<'_>) -> Result<(), OpError>;
}
