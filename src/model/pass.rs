//! The model in pieces that a micro-batch passes through: embedding, blocks, head, and back.
//!
//! A piece gets its weights from its caller, who may hold all of them, those of a stage, or one
//! block's at a time. However the model is cut into pieces, the results are the same bits: what is
//! fused inside a range of blocks (residual and norm) computes what it computes apart.

use std::ops::Range;

use super::At;
use super::ModelError;
use super::activations::Scratch;
use super::activations::Slot;
use super::block;
use super::config::Dims;
use super::neurollm::Batch;
use super::params::BlockParams;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::attention;
use crate::ops::elementwise;
use crate::ops::embedding;
use crate::ops::matmul::Start;
use crate::ops::rmsnorm;
use crate::ops::rope;
use crate::tensor::Tensor;
use crate::tensor::View;

/// What a model is beside its weights.
#[derive(Debug)]
pub struct Frame {
    dims: Dims,
    precision: Precision,
    cos: Tensor,
    sin: Tensor,
}

/// What every piece of a pass shares.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    /// The device.
    pub kernels: &'a dyn Kernels,
    /// The model's extents.
    pub dims: &'a Dims,
    /// Rounding of matrix products.
    pub precision: Precision,
    /// `(P, D/2)`: cosines by position.
    pub cos: &'a Tensor,
    /// `(P, D/2)`: sines by position.
    pub sin: &'a Tensor,
    /// Sequences (B).
    pub sequences: usize,
    /// Tokens in a sequence (T).
    pub seq_len: usize,
}

impl Frame {
    /// For sequences of at most `positions` tokens.
    pub fn new(
        kernels: &dyn Kernels,
        dims: Dims,
        precision: Precision,
        positions: usize,
    ) -> Result<Self, ModelError> {
        let (cos, sin) = rotary_tables(&dims, positions);
        let load = |host: Tensor| -> Result<Tensor, OpError> {
            let mut tensor = kernels.zeros(host.dtype(), &host.shape())?;
            elementwise::copy(kernels, tensor.view_mut(), host.view())?;
            Ok(tensor)
        };
        let cos = load(cos).at(|| "rotary tables".into())?;
        let sin = load(sin).at(|| "rotary tables".into())?;
        Ok(Self { dims, precision, cos, sin })
    }

    /// The extents.
    pub fn dims(&self) -> &Dims {
        &self.dims
    }

    /// How matrix products round.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// Positions there are rotary tables for.
    pub fn positions(&self) -> usize {
        self.cos.shape()[0]
    }

    /// The rotary tables `(P, D/2)`: cosines and sines.
    pub(super) fn rotary(&self) -> (&Tensor, &Tensor) {
        (&self.cos, &self.sin)
    }

    /// A pass of micro-batches of the shape of `slot`.
    pub fn pass<'a>(
        &'a self,
        kernels: &'a dyn Kernels,
        slot: &Slot,
    ) -> Result<Pass<'a>, ModelError> {
        let (sequences, seq_len) = (slot.sequences, slot.seq_len);
        if seq_len > self.positions() {
            return Err(ModelError::TooLong { tokens: seq_len, room: self.positions() });
        }
        let Self { dims, precision, cos, sin } = self;
        let precision = *precision;
        Ok(Pass { kernels, dims, precision, cos, sin, sequences, seq_len })
    }
}

impl Pass<'_> {
    /// Tokens and targets into the slot.
    pub fn load(&self, batch: Batch<'_>, slot: &mut Slot) -> Result<(), ModelError> {
        let pieces = [(batch.tokens, &mut slot.tokens), (batch.targets, &mut slot.targets)];
        for ((host, tensor), what) in pieces.into_iter().zip(["tokens", "targets"]) {
            elementwise::copy(self.kernels, tensor.view_mut(), View::of(host, &[host.len()]))
                .at(|| what.into())?;
        }
        Ok(())
    }

    /// The residual stream before the first block; `table` is `(V, C)`.
    pub fn embed(&self, table: &Tensor, slot: &mut Slot) -> Result<(), ModelError> {
        let args = embedding::Forward {
            out: slot.streams[0].view_mut(),
            tokens: slot.tokens.view(),
            table: table.view(),
        };
        embedding::forward(self.kernels, args).at(|| "embedding".into())
    }

    /// The blocks `layers`, whose weights are `weights`, forward; with `final_norm` the norm after
    /// the last block too.
    pub fn forward(
        &self,
        layers: Range<usize>,
        weights: &[&BlockParams<Tensor>],
        final_norm: Option<&Tensor>,
        slot: &mut Slot,
        scratch: &mut Scratch,
    ) -> Result<(), ModelError> {
        let (k, eps) = (self.kernels, self.dims.norm_eps);
        let (first, count) = (slot.first_layer, slot.streams.len());
        let Scratch { branch, mids, blocks, head, .. } = scratch;
        let (mids, blocks) = kept(slot.mids.as_mut(), slot.blocks.as_mut(), mids, blocks);
        let streams = &mut slot.streams;
        let (mids_len, blocks_len) = (mids.len(), blocks.len());
        for (nth, (layer, weights_here)) in layers.clone().zip(weights).enumerate() {
            let at = layer - first;
            let kept = &mut blocks[at % blocks_len];
            let (input, mid) = (&streams[at % count], &mut mids[at % mids_len]);
            if nth == 0 {
                self.attn_norm(layer, weights_here, input, kept)?;
            }
            block::forward(self, layer, weights_here, input, kept, mid, branch)?;
            block::forward_end(self, layer, weights_here, kept, branch)?;
            let sum = &mut streams[(at + 1) % count];
            let next = (weights.get(nth + 1), final_norm, head.as_mut());
            let (out, rstd, weight) = match next {
                (Some(next), ..) => {
                    let kept = &mut blocks[(at + 1) % blocks_len];
                    (&mut kept.attn_norm, &mut kept.attn_rstd, &next.attn_norm)
                }
                (None, Some(weight), Some(head)) => {
                    (&mut head.final_norm, &mut head.final_rstd, weight)
                }
                _ => {
                    elementwise::add(k, branch.view_mut(), mids[at % mids_len].view())
                        .at(|| format!("block {layer}, residual add"))?;
                    std::mem::swap(branch, sum);
                    continue;
                }
            };
            let args = rmsnorm::ForwardResidual {
                out: out.view_mut(),
                rstd: rstd.view_mut(),
                sum: sum.view_mut(),
                residual: mids[at % mids_len].view(),
                inp: branch.view(),
                weight: weight.view(),
                eps,
            };
            rmsnorm::forward_residual(k, args).at(|| format!("norm after block {layer}"))?;
        }
        Ok(())
    }

    /// Gradients of block `layer`, added to `grads` (those of matrices from `start` on); the last
    /// stream is the gradient of the block's output on entry, of its input on return.
    pub fn backward(
        &self,
        layer: usize,
        weights: &BlockParams<Tensor>,
        slot: &mut Slot,
        scratch: &mut Scratch,
        grads: (&mut BlockParams<Tensor>, Start),
    ) -> Result<(), ModelError> {
        let at = layer - slot.first_layer;
        let Scratch { branch, mids, blocks, backward, .. } = scratch;
        let recompute = slot.blocks.is_empty();
        let (mids, blocks) = kept(slot.mids.as_mut(), slot.blocks.as_mut(), mids, blocks);
        let (mids_len, blocks_len) = (mids.len(), blocks.len());
        let (mid, kept) = (&mut mids[at % mids_len], &mut blocks[at % blocks_len]);
        let Some((dstream, inputs)) = slot.streams.split_last_mut() else {
            unreachable!("a slot has streams")
        };
        let (input, Some(backward)) = (&inputs[at], backward.as_mut()) else {
            unreachable!("made for backward")
        };
        if recompute {
            self.attn_norm(layer, weights, input, kept)?;
            block::forward(self, layer, weights, input, kept, mid, branch)?;
        }
        block::backward(self, layer, weights, (input, mid), kept, grads, dstream, backward)
    }

    /// Gradient of the embedding table `(V, C)`, added to `dtable`, from the last stream.
    pub fn embed_backward(&self, slot: &Slot, dtable: &mut Tensor) -> Result<(), ModelError> {
        let Some(dstream) = slot.streams.last() else { unreachable!("a slot has streams") };
        let args = embedding::Backward {
            dtable: dtable.view_mut(),
            tokens: slot.tokens.view(),
            dout: dstream.view(),
        };
        embedding::backward(self.kernels, args).at(|| "embedding backward".into())
    }

    /// The norm at a block's start.
    fn attn_norm(
        &self,
        layer: usize,
        weights: &BlockParams<Tensor>,
        input: &Tensor,
        acts: &mut super::activations::BlockActivations,
    ) -> Result<(), ModelError> {
        let args = rmsnorm::Forward {
            out: acts.attn_norm.view_mut(),
            rstd: acts.attn_rstd.view_mut(),
            inp: input.view(),
            weight: weights.attn_norm.view(),
            eps: self.dims.norm_eps,
        };
        rmsnorm::forward(self.kernels, args).at(|| format!("block {layer}, attn_norm"))
    }

    pub(super) fn extents(&self) -> attention::Extents {
        attention::Extents {
            sequences: self.sequences,
            seq_len: self.seq_len,
            heads: self.dims.heads,
            kv_heads: self.dims.kv_heads,
            head_dim: self.dims.head_dim,
        }
    }

    pub(super) fn rotate(
        &self,
        qkv: &mut Tensor,
        direction: rope::Direction,
    ) -> Result<(), OpError> {
        rope::rotate(
            self.kernels,
            rope::Rotate {
                x: qkv.view_mut(),
                cos: self.cos.view(),
                sin: self.sin.view(),
                heads: self.dims.heads + self.dims.kv_heads,
                seq_len: self.seq_len,
                first_position: 0,
                direction,
            },
        )
    }
}

/// Those of the slot where it keeps every block's, else the one of the scratch.
fn kept<'a, M, B>(
    slot_mids: &'a mut [M],
    slot_blocks: &'a mut [B],
    mids: &'a mut [M],
    blocks: &'a mut [B],
) -> (&'a mut [M], &'a mut [B]) {
    if slot_blocks.is_empty() { (mids, blocks) } else { (slot_mids, slot_blocks) }
}

/// Cosines and sines `(positions, D/2)`: computed in f64 by software, rounded once.
fn rotary_tables(dims: &Dims, positions: usize) -> (Tensor, Tensor) {
    let half = dims.head_dim / 2;
    let mut cos = vec![0.0f32; positions * half];
    let mut sin = vec![0.0f32; positions * half];
    for i in 0..half {
        let exponent = -((2 * i) as f64) / dims.head_dim as f64;
        let frequency = libm::pow(dims.rope_base, exponent);
        for p in 0..positions {
            let angle = p as f64 * frequency;
            cos[p * half + i] = libm::cos(angle) as f32;
            sin[p * half + i] = libm::sin(angle) as f32;
        }
    }
    (Tensor::from_slice(&cos, &[positions, half]), Tensor::from_slice(&sin, &[positions, half]))
}
