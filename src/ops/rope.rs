//! Rotary positions (Su et al. 2021, arXiv:2104.09864, eq. 34), in place, in the layout of
//! Hugging Face's Llama: element `i` of a head pairs with element `i + D/2`.
//!
//! ```text
//! a' = fma(a, cos, -(b * sin))      b' = fma(b, cos, a * sin)
//! ```
//!
//! with `cos` and `sin` from tables that were computed in f64 software and rounded once. Results are
//! rounded to the type of `x`.

use super::{Kernels, OpError, activation, expect_dtype, expect_shape, matrix};
use crate::tensor::DType;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Which way to rotate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// By the position's angle.
    Forward,
    /// Back, which is also the gradient: the same formulas with `sin` negated.
    Inverse,
}

/// Arguments of [`rotate`].
#[derive(Debug)]
pub struct Rotate<'a> {
    /// `(N, W)`, f32 or bf16, changed in place; the first `heads * D` columns of each row are rotated.
    pub x: ViewMut<'a>,
    /// `(P, D/2)`, f32: one row per position.
    pub cos: View<'a>,
    /// `(P, D/2)`, f32.
    pub sin: View<'a>,
    /// Heads to rotate: query and key heads, not the value heads.
    pub heads: usize,
    /// Tokens in a sequence: row `n` has position `first_position + n % seq_len`.
    pub seq_len: usize,
    /// Position of a sequence's first row.
    pub first_position: usize,
    /// Which way.
    pub direction: Direction,
}

/// Rotates the leading heads of every row by its position.
pub fn rotate(kernels: &dyn Kernels, args: Rotate<'_>) -> Result<(), OpError> {
    let [n, w] = matrix("rope::rotate x", &args.x.shape())?;
    let [positions, half] = matrix("rope::rotate cos", &args.cos.shape())?;
    expect_shape("rope::rotate sin", &args.sin.shape(), &[positions, half])?;
    activation("rope::rotate x", args.x.dtype())?;
    expect_dtype("rope::rotate cos", args.cos.dtype(), DType::F32)?;
    expect_dtype("rope::rotate sin", args.sin.dtype(), DType::F32)?;
    if args.seq_len == 0 || !n.is_multiple_of(args.seq_len) {
        let why = format!("{n} rows are not whole sequences of {} tokens", args.seq_len);
        return Err(OpError::Extent { what: "rope::rotate x", why });
    }
    if args.heads * 2 * half > w {
        let why = format!("{} heads of width {} in rows of {w}", args.heads, 2 * half);
        return Err(OpError::Extent { what: "rope::rotate heads", why });
    }
    if args.first_position + args.seq_len > positions {
        let last = args.first_position + args.seq_len - 1;
        let why = format!("position {last} in a table of {positions}");
        return Err(OpError::Extent { what: "rope::rotate first_position", why });
    }
    kernels.rope_rotate(args)
}

/// What a backend supplies. Shapes and types have been checked.
pub trait Kernel {
    /// See [`rotate`].
    fn rope_rotate(&self, args: Rotate<'_>) -> Result<(), OpError>;
}
