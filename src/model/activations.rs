//! What forward keeps for backward, in forward order; allocated once.

use super::config::Dims;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::tensor::DType;
use crate::tensor::Tensor;

/// What one block keeps.
#[derive(Debug)]
pub struct BlockActivations {
    /// `(N, C)`: the normalized input of attention.
    pub attn_norm: Tensor,
    /// `(N)`.
    pub attn_rstd: Tensor,
    /// `(N, (H + 2K)·D)`, after rotation.
    pub qkv: Tensor,
    /// `(N, H·D)`.
    pub heads: Tensor,
    /// `(B, H, T)`.
    pub lse: Tensor,
    /// `(N, C)`: the normalized input of the feed-forward.
    pub ffn_norm: Tensor,
    /// `(N)`.
    pub ffn_rstd: Tensor,
    /// `(N, 2F)`: gate, then up.
    pub ffn_in: Tensor,
    /// `(N, F)`.
    pub swiglu: Tensor,
}

/// Everything that a micro-batch of one shape needs.
#[derive(Debug)]
pub struct Activations {
    /// Sequences (B).
    pub sequences: usize,
    /// Tokens in a sequence (T).
    pub seq_len: usize,
    /// `(N)`.
    pub tokens: Tensor,
    /// `(N)`.
    pub targets: Tensor,
    /// `(N, C)`: the residual stream at a block's start; one per block, or two in turn where only
    /// forward runs.
    pub inputs: Vec<Tensor>,
    /// `(N, C)`: the residual stream between attention and feed-forward; one per block, or two
    /// in turn where blocks are recomputed.
    pub mids: Vec<Tensor>,
    /// One per block, or one in all where blocks are recomputed.
    pub blocks: Vec<BlockActivations>,
    /// `(N, C)`: what a sublayer is about to add to the residual stream.
    pub branch: Tensor,
    /// `(N, C)`: the residual stream at its end.
    pub last: Tensor,
    /// `(N, C)`.
    pub final_norm: Tensor,
    /// `(N)`.
    pub final_rstd: Tensor,
    /// `(R, V)`: logits, then their gradients, of some rows at a time.
    pub logits: Tensor,
    /// `(N)`: loss of every token, in nats.
    pub losses: Tensor,
    /// Scratch of backward; none where only forward runs.
    pub backward: Option<BackwardScratch>,
}

/// Gradients of activations, reused by every block.
#[derive(Debug)]
pub struct BackwardScratch {
    /// `(N, C)`: the residual stream's gradient.
    pub dstream: Tensor,
    /// `(N, C)`.
    pub dnorm: Tensor,
    /// `(N, (H + 2K)·D)`.
    pub dqkv: Tensor,
    /// `(N, H·D)`.
    pub dheads: Tensor,
    /// `(N, 2F)`.
    pub dffn_in: Tensor,
    /// `(N, F)`.
    pub dswiglu: Tensor,
}

/// Which passes activations are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passes {
    /// Forward only: evaluation.
    Forward,
    /// Both, keeping every block's activations.
    Stored,
    /// Both, recomputing each block's activations in backward.
    Recomputed,
}

impl Activations {
    /// Memory for `sequences` sequences of `seq_len` tokens.
    pub fn new(
        kernels: &dyn Kernels,
        dims: &Dims,
        sequences: usize,
        seq_len: usize,
        passes: Passes,
    ) -> Result<Self, OpError> {
        let n = sequences * seq_len;
        let f32s = |shape: &[usize]| kernels.zeros(DType::F32, shape);
        let streams = |count: usize| -> Result<Vec<Tensor>, OpError> {
            (0..count).map(|_| f32s(&[n, dims.width])).collect()
        };
        let stored = passes == Passes::Stored;
        let block = || BlockActivations::new(kernels, dims, sequences, seq_len);
        Ok(Self {
            sequences,
            seq_len,
            tokens: kernels.zeros(DType::U32, &[n])?,
            targets: kernels.zeros(DType::U32, &[n])?,
            inputs: streams(if passes == Passes::Forward { 2 } else { dims.layers })?,
            mids: streams(if stored { dims.layers } else { 2 })?,
            blocks: (0..if stored { dims.layers } else { 1 })
                .map(|_| block())
                .collect::<Result<_, _>>()?,
            branch: f32s(&[n, dims.width])?,
            last: f32s(&[n, dims.width])?,
            final_norm: f32s(&[n, dims.width])?,
            final_rstd: f32s(&[n])?,
            logits: f32s(&[logit_rows(dims, n), dims.vocab])?,
            losses: f32s(&[n])?,
            backward: match passes {
                Passes::Forward => None,
                _ => Some(BackwardScratch::new(kernels, dims, n)?),
            },
        })
    }

    /// Rows: `N = B·T`.
    pub fn rows(&self) -> usize {
        self.sequences * self.seq_len
    }
}

/// Rows of logits at a time: few enough to bound their memory, enough for fast products. The chain
/// over rows makes the choice invisible in the results.
pub fn logit_rows(dims: &Dims, rows: usize) -> usize {
    (LOGIT_ELEMENTS / dims.vocab).max(MIN_LOGIT_ROWS).min(rows).max(1)
}

impl BlockActivations {
    fn new(
        kernels: &dyn Kernels,
        dims: &Dims,
        sequences: usize,
        seq_len: usize,
    ) -> Result<Self, OpError> {
        let n = sequences * seq_len;
        let f32s = |shape: &[usize]| kernels.zeros(DType::F32, shape);
        Ok(Self {
            attn_norm: f32s(&[n, dims.width])?,
            attn_rstd: f32s(&[n])?,
            qkv: f32s(&[n, dims.qkv_width()])?,
            heads: f32s(&[n, dims.heads_width()])?,
            lse: f32s(&[sequences, dims.heads, seq_len])?,
            ffn_norm: f32s(&[n, dims.width])?,
            ffn_rstd: f32s(&[n])?,
            ffn_in: f32s(&[n, 2 * dims.ffn])?,
            swiglu: f32s(&[n, dims.ffn])?,
        })
    }
}

impl BackwardScratch {
    fn new(kernels: &dyn Kernels, dims: &Dims, n: usize) -> Result<Self, OpError> {
        let f32s = |shape: &[usize]| kernels.zeros(DType::F32, shape);
        Ok(Self {
            dstream: f32s(&[n, dims.width])?,
            dnorm: f32s(&[n, dims.width])?,
            dqkv: f32s(&[n, dims.qkv_width()])?,
            dheads: f32s(&[n, dims.heads_width()])?,
            dffn_in: f32s(&[n, 2 * dims.ffn])?,
            dswiglu: f32s(&[n, dims.ffn])?,
        })
    }
}

/// Logits at a time, in elements (32 MiB).
const LOGIT_ELEMENTS: usize = 8 << 20;
/// Fewer rows than this make slow products.
const MIN_LOGIT_ROWS: usize = 256;
