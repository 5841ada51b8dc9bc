//! Which product: what a plan is made for.

use std::fmt;

use crate::backend::cuda::matmul::Layout;
use crate::backend::cuda::matmul::Product;
use crate::ops::matmul::Start;

/// Everything about a product but where it is. Inputs are bf16; outputs are f32 for gradients of
/// weights and bf16 otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::backend::cuda) struct Shape {
    /// Which operands lie along k.
    pub layout: Layout,
    /// M, N and K.
    pub extents: [usize; 3],
    /// Whether the chain is added to what is there (docs/ARITHMETIC.md, 16.4).
    pub start: Start,
}

impl Shape {
    /// Of `product`.
    pub fn of(product: &Product) -> Self {
        Self { layout: product.layout, extents: product.extents, start: product.start }
    }

    /// Whether outputs are f32.
    pub fn is_f32(&self) -> bool {
        self.layout == Layout::BackwardWeight
    }

    /// Bytes of all outputs.
    pub fn out_bytes(&self) -> usize {
        self.extents[0] * self.extents[1] * if self.is_f32() { 4 } else { 2 }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let layout = match self.layout {
            Layout::Forward => "forward",
            Layout::BackwardInput => "backward_input",
            Layout::BackwardWeight => "backward_weight",
        };
        let added = if self.start == Start::Existing { ", added" } else { "" };
        let [m, n, k] = self.extents;
        write!(f, "matmul {layout} {m} x {n} x {k}{added}")
    }
}
