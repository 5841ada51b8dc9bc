//! The whole model: embedding, blocks, final norm, LM head with fused loss.

use super::Activations;
use super::At;
use super::ModelError;
use super::activations::Passes;
use super::block;
use super::block::Pass;
use super::config::Dims;
use super::params::Params;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::cross_entropy;
use crate::ops::elementwise;
use crate::ops::embedding;
use crate::ops::matmul;
use crate::ops::rmsnorm;
use crate::tensor::Tensor;
use crate::tensor::View;

/// Weights on a device, and what forward needs beside them.
#[derive(Debug)]
pub struct NeuroLlm {
    dims: Dims,
    precision: Precision,
    /// The weights.
    pub params: Params<Tensor>,
    cos: Tensor,
    sin: Tensor,
}

/// Gradients of one optimizer step, added to by every micro-batch.
#[derive(Debug)]
pub struct Gradients {
    /// One per weight.
    pub params: Params<Tensor>,
    /// `(V, C)`: the LM head's where it is the embedding table. It is kept apart until
    /// [`Gradients::finish`], else the order of sums would depend on the micro-batches.
    tied_head: Option<Tensor>,
}

/// Tokens of a micro-batch and their successors.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// `B·T` tokens, sequence by sequence.
    pub tokens: &'a [u32],
    /// `B·T`: the token after each.
    pub targets: &'a [u32],
}

impl NeuroLlm {
    /// A model with the given weights, for sequences of at most `positions` tokens.
    pub fn new(
        kernels: &dyn Kernels,
        dims: Dims,
        precision: Precision,
        params: Params<Tensor>,
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
        Ok(Self { dims, precision, params, cos, sin })
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

    /// Zero gradients of this model.
    pub fn gradients(&self, kernels: &dyn Kernels) -> Result<Gradients, ModelError> {
        let params = Params::zeros(kernels, &self.dims).at(|| "gradients".into())?;
        let shape = [self.dims.vocab, self.dims.width];
        let tied = self.dims.tied.then(|| kernels.zeros(crate::tensor::DType::F32, &shape));
        let tied_head = tied.transpose().at(|| "gradients".into())?;
        Ok(Gradients { params, tied_head })
    }

    /// Losses of one micro-batch into `acts.losses`, and gradients of `scale` times their sum
    /// added to `grads`.
    pub fn forward_backward(
        &self,
        kernels: &dyn Kernels,
        batch: Batch<'_>,
        scale: f32,
        acts: &mut Activations,
        grads: &mut Gradients,
    ) -> Result<(), ModelError> {
        self.load(kernels, batch, acts)?;
        self.forward(kernels, acts)?;
        self.head_forward_backward(kernels, scale, acts, grads)?;
        self.backward(kernels, acts, grads)
    }

    /// Losses of one micro-batch into `acts.losses`; no gradients.
    pub fn losses(
        &self,
        kernels: &dyn Kernels,
        batch: Batch<'_>,
        acts: &mut Activations,
    ) -> Result<(), ModelError> {
        self.load(kernels, batch, acts)?;
        self.forward(kernels, acts)?;
        let (rows, at_once) = (acts.rows(), acts.logits.shape()[0]);
        for first in (0..rows).step_by(at_once) {
            let range = first..rows.min(first + at_once);
            self.head_logits(kernels, acts, range.clone())?;
            let args = cross_entropy::Forward {
                losses: acts.losses.view_mut().rows(range.clone()),
                logits: acts.logits.view().rows(0..range.len()),
                targets: acts.targets.view().rows(range),
            };
            cross_entropy::forward(kernels, args).at(|| "loss".into())?;
        }
        Ok(())
    }

    /// Logits `(T, V)` of one sequence.
    pub fn logits(&self, kernels: &dyn Kernels, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let new = Activations::new(kernels, &self.dims, 1, tokens.len(), Passes::Forward);
        let mut acts = new.at(|| "activations".into())?;
        self.load(kernels, Batch { tokens, targets: tokens }, &mut acts)?;
        self.forward(kernels, &mut acts)?;
        let mut logits = Vec::with_capacity(tokens.len() * self.dims.vocab);
        let (rows, at_once) = (acts.rows(), acts.logits.shape()[0]);
        for first in (0..rows).step_by(at_once) {
            let range = first..rows.min(first + at_once);
            self.head_logits(kernels, &mut acts, range.clone())?;
            let mut host = vec![0.0; range.len() * self.dims.vocab];
            let shape = [range.len(), self.dims.vocab];
            let out = crate::tensor::ViewMut::of(&mut host, &shape);
            elementwise::copy(kernels, out, acts.logits.view().rows(0..range.len()))
                .at(|| "logits".into())?;
            logits.extend_from_slice(&host);
        }
        Ok(logits)
    }

    /// The LM head's weight `(V, C)`.
    pub fn head(&self) -> &Tensor {
        self.params.lm_head.as_ref().unwrap_or(&self.params.embedding)
    }

    /// The rotary tables `(P, D/2)`: cosines and sines.
    pub(super) fn rotary(&self) -> (&Tensor, &Tensor) {
        (&self.cos, &self.sin)
    }

    fn pass<'a>(&'a self, kernels: &'a dyn Kernels, acts: &Activations) -> Pass<'a> {
        Pass {
            kernels,
            dims: &self.dims,
            precision: self.precision,
            cos: &self.cos,
            sin: &self.sin,
            sequences: acts.sequences,
            seq_len: acts.seq_len,
        }
    }

    fn load(
        &self,
        kernels: &dyn Kernels,
        batch: Batch<'_>,
        acts: &mut Activations,
    ) -> Result<(), ModelError> {
        if acts.seq_len > self.positions() {
            return Err(ModelError::TooLong { tokens: acts.seq_len, room: self.positions() });
        }
        let shape = [batch.tokens.len()];
        elementwise::copy(kernels, acts.tokens.view_mut(), View::of(batch.tokens, &shape))
            .at(|| "tokens".into())?;
        let shape = [batch.targets.len()];
        elementwise::copy(kernels, acts.targets.view_mut(), View::of(batch.targets, &shape))
            .at(|| "targets".into())
    }

    /// From tokens to the final norm.
    fn forward(&self, kernels: &dyn Kernels, acts: &mut Activations) -> Result<(), ModelError> {
        let pass = self.pass(kernels, acts);
        let Activations { tokens, inputs, mids, blocks, branch, last, .. } = acts;
        let (final_norm, final_rstd) = (&mut acts.final_norm, &mut acts.final_rstd);
        let (inputs_len, mids_len, blocks_len) = (inputs.len(), mids.len(), blocks.len());
        let args = embedding::Forward {
            out: inputs[0].view_mut(),
            tokens: tokens.view(),
            table: self.params.embedding.view(),
        };
        embedding::forward(kernels, args).at(|| "embedding".into())?;
        let kept = &mut blocks[0];
        let args = rmsnorm::Forward {
            out: kept.attn_norm.view_mut(),
            rstd: kept.attn_rstd.view_mut(),
            inp: inputs[0].view(),
            weight: self.params.blocks[0].attn_norm.view(),
            eps: self.dims.norm_eps,
        };
        rmsnorm::forward(kernels, args).at(|| "block 0, attn_norm".into())?;
        for (layer, weights) in self.params.blocks.iter().enumerate() {
            let input = &inputs[layer % inputs_len];
            let (kept, mid) = (&mut blocks[layer % blocks_len], &mut mids[layer % mids_len]);
            block::forward(&pass, layer, weights, input, kept, mid, branch)?;
            block::forward_end(&pass, layer, weights, kept, branch)?;
            let next = layer + 1;
            let (out, rstd, sum, weight) = match self.params.blocks.get(next) {
                Some(weights) => {
                    let kept = &mut blocks[next % blocks_len];
                    let sum = &mut inputs[next % inputs_len];
                    (&mut kept.attn_norm, &mut kept.attn_rstd, sum, &weights.attn_norm)
                }
                None => {
                    let weight = &self.params.final_norm;
                    (&mut *final_norm, &mut *final_rstd, &mut *last, weight)
                }
            };
            let args = rmsnorm::ForwardResidual {
                out: out.view_mut(),
                rstd: rstd.view_mut(),
                sum: sum.view_mut(),
                residual: mids[layer % mids_len].view(),
                inp: branch.view(),
                weight: weight.view(),
                eps: self.dims.norm_eps,
            };
            rmsnorm::forward_residual(kernels, args).at(|| format!("norm after block {layer}"))?;
        }
        Ok(())
    }

    /// Logits of some rows, into the first rows of `acts.logits`.
    fn head_logits(
        &self,
        kernels: &dyn Kernels,
        acts: &mut Activations,
        rows: std::ops::Range<usize>,
    ) -> Result<(), ModelError> {
        let args = matmul::Forward {
            out: acts.logits.view_mut().rows(0..rows.len()),
            inp: acts.final_norm.view().rows(rows),
            weight: self.head().view(),
            precision: self.precision,
        };
        matmul::forward(kernels, args).at(|| "lm_head".into())
    }

    /// Losses, the head's gradient, and the gradient of the final norm's output.
    fn head_forward_backward(
        &self,
        kernels: &dyn Kernels,
        scale: f32,
        acts: &mut Activations,
        grads: &mut Gradients,
    ) -> Result<(), ModelError> {
        let (rows, at_once) = (acts.rows(), acts.logits.shape()[0]);
        for first in (0..rows).step_by(at_once) {
            let range = first..rows.min(first + at_once);
            self.head_logits(kernels, acts, range.clone())?;
            let args = cross_entropy::ForwardBackward {
                losses: acts.losses.view_mut().rows(range.clone()),
                logits: acts.logits.view_mut().rows(0..range.len()),
                targets: acts.targets.view().rows(range.clone()),
                scale,
            };
            cross_entropy::forward_backward(kernels, args).at(|| "loss".into())?;
            let Some(scratch) = acts.backward.as_mut() else { unreachable!("made for backward") };
            let dlogits = acts.logits.view().rows(0..range.len());
            let args = matmul::BackwardInput {
                dinp: scratch.dnorm.view_mut().rows(range.clone()),
                dout: dlogits,
                weight: self.head().view(),
                precision: self.precision,
            };
            matmul::backward_input(kernels, args).at(|| "lm_head backward".into())?;
            let args = matmul::BackwardWeight {
                dweight: grads.head().view_mut(),
                dout: dlogits,
                inp: acts.final_norm.view().rows(range),
                precision: self.precision,
            };
            matmul::backward_weight(kernels, args).at(|| "lm_head backward".into())?;
        }
        Ok(())
    }

    /// From the gradient of the final norm's output back to the embedding.
    fn backward(
        &self,
        kernels: &dyn Kernels,
        acts: &mut Activations,
        grads: &mut Gradients,
    ) -> Result<(), ModelError> {
        let pass = self.pass(kernels, acts);
        let (mids_len, blocks_len) = (acts.mids.len(), acts.blocks.len());
        let recompute = mids_len < self.dims.layers || blocks_len < self.dims.layers;
        let Activations { inputs, mids, blocks, branch, backward, .. } = acts;
        let Some(scratch) = backward.as_mut() else { unreachable!("made for backward") };
        elementwise::fill(kernels, scratch.dstream.view_mut(), 0.0)
            .at(|| "final_norm backward".into())?;
        let args = rmsnorm::Backward {
            dinp: scratch.dstream.view_mut(),
            dweight: grads.params.final_norm.view_mut(),
            dout: scratch.dnorm.view(),
            inp: acts.last.view(),
            weight: self.params.final_norm.view(),
            rstd: acts.final_rstd.view(),
        };
        rmsnorm::backward(kernels, args).at(|| "final_norm backward".into())?;
        for (layer, weights) in self.params.blocks.iter().enumerate().rev() {
            let (kept, mid) = (&mut blocks[layer % blocks_len], &mut mids[layer % mids_len]);
            let input = &inputs[layer];
            if recompute {
                let args = rmsnorm::Forward {
                    out: kept.attn_norm.view_mut(),
                    rstd: kept.attn_rstd.view_mut(),
                    inp: input.view(),
                    weight: weights.attn_norm.view(),
                    eps: self.dims.norm_eps,
                };
                rmsnorm::forward(kernels, args).at(|| format!("block {layer}, attn_norm"))?;
                block::forward(&pass, layer, weights, input, kept, mid, branch)?;
            }
            let grads = &mut grads.params.blocks[layer];
            block::backward(&pass, layer, weights, (input, mid), kept, grads, scratch)?;
        }
        let args = embedding::Backward {
            dtable: grads.params.embedding.view_mut(),
            tokens: acts.tokens.view(),
            dout: scratch.dstream.view(),
        };
        embedding::backward(kernels, args).at(|| "embedding backward".into())
    }
}

impl Gradients {
    /// Sets all to zero, before a step's first micro-batch.
    pub fn clear(&mut self, kernels: &dyn Kernels) -> Result<(), ModelError> {
        let fill = |name: &str, grad: &mut Tensor| {
            elementwise::fill(kernels, grad.view_mut(), 0.0).at(|| format!("gradient of {name}"))
        };
        self.params.as_mut().try_map(fill)?;
        self.tied_head.as_mut().map_or(Ok(()), |grad| fill("tied head", grad))
    }

    /// Adds a tied head's gradient to the embedding's, after a step's last micro-batch.
    pub fn finish(&mut self, kernels: &dyn Kernels) -> Result<(), ModelError> {
        let Some(head) = &self.tied_head else { return Ok(()) };
        elementwise::add(kernels, self.params.embedding.view_mut(), head.view())
            .at(|| "tied head".into())
    }

    fn head(&mut self) -> &mut Tensor {
        match (&mut self.params.lm_head, &mut self.tied_head) {
            (Some(head), _) | (None, Some(head)) => head,
            (None, None) => unreachable!("a model has a head"),
        }
    }
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
