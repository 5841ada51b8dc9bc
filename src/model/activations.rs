//! What forward keeps for backward, in forward order; allocated once.
//!
//! All are of the type of activations ([`Precision::activations`]) but for what norms, attention and
//! the loss keep of a row, which is f32.

use std::ops::Range;

use super::config::Dims;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::Precision;
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

/// What a micro-batch of one shape keeps while it is under way in a range of layers.
#[derive(Debug)]
pub struct Slot {
    /// Sequences (B).
    pub sequences: usize,
    /// Tokens in a sequence (T).
    pub seq_len: usize,
    /// Number in the model of the first block of the range.
    pub first_layer: usize,
    /// `(N)`.
    pub tokens: Tensor,
    /// `(N)`.
    pub targets: Tensor,
    /// `(N)`: loss of every token, in nats.
    pub losses: Tensor,
    /// `(N, C)`: the residual stream before every block of the range and, last, after it; two in
    /// turn where only forward runs. In backward the last one holds the stream's gradient.
    pub streams: Vec<Tensor>,
    /// `(N, C)`: the residual stream between attention and feed-forward; one per block, none where
    /// the scratch has one for all.
    pub mids: Vec<Tensor>,
    /// One per block; none where the scratch has one for all.
    pub blocks: Vec<BlockActivations>,
}

/// What all micro-batches share, because it is used up before the next one comes.
#[derive(Debug)]
pub struct Scratch {
    /// `(N, C)`: what a sublayer is about to add to the residual stream.
    pub branch: Tensor,
    /// `(N, C)`: one where slots have none.
    pub mids: Vec<Tensor>,
    /// One where slots have none.
    pub blocks: Vec<BlockActivations>,
    /// For the head; none where it is elsewhere.
    pub head: Option<HeadScratch>,
    /// Gradients; none where only forward runs.
    pub backward: Option<BackwardScratch>,
}

/// What the head needs.
#[derive(Debug)]
pub struct HeadScratch {
    /// `(N, C)`.
    pub final_norm: Tensor,
    /// `(N)`.
    pub final_rstd: Tensor,
    /// `(R, V)`: logits, then their gradients, of some rows at a time.
    pub logits: Tensor,
}

/// Gradients of activations, reused by every block.
#[derive(Debug)]
pub struct BackwardScratch {
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

/// A slot and a scratch for the whole model.
#[derive(Debug)]
pub struct Activations {
    /// What the micro-batch keeps.
    pub slot: Slot,
    /// What is used up on the way.
    pub scratch: Scratch,
}

/// The shape of a micro-batch in a range of layers.
#[derive(Clone, Debug)]
pub struct Extent {
    /// Sequences (B).
    pub sequences: usize,
    /// Tokens in a sequence (T).
    pub seq_len: usize,
    /// The blocks of the range.
    pub layers: Range<usize>,
    /// What they are for.
    pub passes: Passes,
    /// The arithmetic.
    pub precision: Precision,
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

impl Slot {
    /// Memory for one micro-batch of this extent.
    pub fn new(kernels: &dyn Kernels, dims: &Dims, extent: &Extent) -> Result<Self, OpError> {
        let Extent { sequences, seq_len, ref layers, passes, precision } = *extent;
        let n = sequences * seq_len;
        let stream = || kernels.zeros(precision.activations(), &[n, dims.width]);
        let kept = if passes == Passes::Stored { layers.len() } else { 0 };
        let streams = if passes == Passes::Forward { 2 } else { layers.len() + 1 };
        Ok(Self {
            sequences,
            seq_len,
            first_layer: layers.start,
            tokens: kernels.zeros(DType::U32, &[n])?,
            targets: kernels.zeros(DType::U32, &[n])?,
            losses: kernels.zeros(DType::F32, &[n])?,
            streams: (0..streams).map(|_| stream()).collect::<Result<_, _>>()?,
            mids: (0..kept).map(|_| stream()).collect::<Result<_, _>>()?,
            blocks: (0..kept)
                .map(|_| BlockActivations::new(kernels, dims, extent))
                .collect::<Result<_, _>>()?,
        })
    }

    /// Rows: `N = B·T`.
    pub fn rows(&self) -> usize {
        self.sequences * self.seq_len
    }

    /// Where the residual stream before block `layer` is kept.
    pub fn stream_index(&self, layer: usize) -> usize {
        (layer - self.first_layer) % self.streams.len()
    }
}

impl Scratch {
    /// Memory for micro-batches of this extent.
    pub fn new(kernels: &dyn Kernels, dims: &Dims, extent: &Extent) -> Result<Self, OpError> {
        let Extent { sequences, seq_len, ref layers, passes, precision } = *extent;
        let n = sequences * seq_len;
        let zeros = |shape: &[usize]| kernels.zeros(precision.activations(), shape);
        let shared = usize::from(passes != Passes::Stored);
        let head = (layers.end == dims.layers).then(|| {
            Ok(HeadScratch {
                final_norm: zeros(&[n, dims.width])?,
                final_rstd: kernels.zeros(DType::F32, &[n])?,
                logits: zeros(&[logit_rows(dims, precision, n), dims.vocab])?,
            })
        });
        Ok(Self {
            branch: zeros(&[n, dims.width])?,
            mids: (0..shared).map(|_| zeros(&[n, dims.width])).collect::<Result<_, _>>()?,
            blocks: (0..shared)
                .map(|_| BlockActivations::new(kernels, dims, extent))
                .collect::<Result<_, _>>()?,
            head: head.transpose()?,
            backward: match passes {
                Passes::Forward => None,
                _ => Some(BackwardScratch::new(kernels, dims, precision, n)?),
            },
        })
    }
}

impl Activations {
    /// Memory for `sequences` sequences of `seq_len` tokens in the whole model.
    pub fn new(
        kernels: &dyn Kernels,
        dims: &Dims,
        precision: Precision,
        (sequences, seq_len): (usize, usize),
        passes: Passes,
    ) -> Result<Self, OpError> {
        let extent = Extent { sequences, seq_len, layers: 0..dims.layers, passes, precision };
        let slot = Slot::new(kernels, dims, &extent)?;
        Ok(Self { slot, scratch: Scratch::new(kernels, dims, &extent)? })
    }

    /// `(N)`: loss of every token, in nats.
    pub fn losses(&self) -> &Tensor {
        &self.slot.losses
    }
}

/// Rows of logits at a time: few enough to bound their memory, enough for fast products. Where a
/// weight gradient is one chain over all rows the choice does not show in it; in the tc profile,
/// which adds a sum per call, it is a constant of the contract.
pub fn logit_rows(dims: &Dims, precision: Precision, rows: usize) -> usize {
    let at_most = match precision {
        Precision::F32 | Precision::Bf16 => (LOGIT_ELEMENTS / dims.vocab).max(MIN_LOGIT_ROWS),
        Precision::Tc(_) => TC_LOGIT_ROWS,
    };
    at_most.min(rows).max(1)
}

impl BlockActivations {
    fn new(kernels: &dyn Kernels, dims: &Dims, extent: &Extent) -> Result<Self, OpError> {
        let Extent { sequences, seq_len, precision, .. } = *extent;
        let n = sequences * seq_len;
        let zeros = |shape: &[usize]| kernels.zeros(precision.activations(), shape);
        let f32s = |shape: &[usize]| kernels.zeros(DType::F32, shape);
        Ok(Self {
            attn_norm: zeros(&[n, dims.width])?,
            attn_rstd: f32s(&[n])?,
            qkv: zeros(&[n, dims.qkv_width()])?,
            heads: zeros(&[n, dims.heads_width()])?,
            lse: f32s(&[sequences, dims.heads, seq_len])?,
            ffn_norm: zeros(&[n, dims.width])?,
            ffn_rstd: f32s(&[n])?,
            ffn_in: zeros(&[n, 2 * dims.ffn])?,
            swiglu: zeros(&[n, dims.ffn])?,
        })
    }
}

impl BackwardScratch {
    fn new(
        kernels: &dyn Kernels,
        dims: &Dims,
        precision: Precision,
        n: usize,
    ) -> Result<Self, OpError> {
        let zeros = |shape: &[usize]| kernels.zeros(precision.activations(), shape);
        Ok(Self {
            dnorm: zeros(&[n, dims.width])?,
            dqkv: zeros(&[n, dims.qkv_width()])?,
            dheads: zeros(&[n, dims.heads_width()])?,
            dffn_in: zeros(&[n, 2 * dims.ffn])?,
            dswiglu: zeros(&[n, dims.ffn])?,
        })
    }
}

/// Logits at a time, in elements (32 MiB).
const LOGIT_ELEMENTS: usize = 8 << 20;
/// Fewer rows than this make slow products.
const MIN_LOGIT_ROWS: usize = 256;
/// Rows of logits in one call of the tc profile, at most (docs/ARITHMETIC.md, section 16.4).
const TC_LOGIT_ROWS: usize = 8192;
