//! The whole model on one device: its pieces one after the other.

use super::Activations;
use super::At;
use super::ModelError;
use super::activations::Passes;
use super::config::Dims;
use super::head::Head;
use super::params::Params;
use super::params::entering;
use super::pass::Frame;
use crate::ops::Kernels;
use crate::ops::Precision;
use crate::ops::elementwise;
use crate::ops::matmul::Start;
use crate::tensor::DType;
use crate::tensor::Tensor;

/// Weights on a device, and what forward needs beside them.
#[derive(Debug)]
pub struct NeuroLlm {
    frame: Frame,
    /// The weights, as they enter passes.
    pub params: Params<Tensor>,
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
    /// A model with the given f32 weights, for sequences of at most `positions` tokens. In the tc
    /// profile it keeps those of products rounded to bf16.
    pub fn new(
        kernels: &dyn Kernels,
        dims: Dims,
        precision: Precision,
        params: Params<Tensor>,
        positions: usize,
    ) -> Result<Self, ModelError> {
        let entering = |name: &str, weight| {
            entering(kernels, precision, name, weight).at(|| format!("weight {name}"))
        };
        let params = params.try_map(entering)?;
        Ok(Self { frame: Frame::new(kernels, dims, precision, positions)?, params })
    }

    /// The extents.
    pub fn dims(&self) -> &Dims {
        self.frame.dims()
    }

    /// How matrix products round.
    pub fn precision(&self) -> Precision {
        self.frame.precision()
    }

    /// Positions there are rotary tables for.
    pub fn positions(&self) -> usize {
        self.frame.positions()
    }

    /// Zero gradients of this model.
    pub fn gradients(&self, kernels: &dyn Kernels) -> Result<Gradients, ModelError> {
        let dims = self.dims();
        let params = Params::zeros(kernels, dims).at(|| "gradients".into())?;
        let tied = dims.tied.then(|| kernels.zeros(DType::F32, &[dims.vocab, dims.width]));
        let tied_head = tied.transpose().at(|| "gradients".into())?;
        Ok(Gradients { params, tied_head })
    }

    /// Losses of one micro-batch into `acts`, and gradients of `scale` times their sum added to
    /// `grads`.
    pub fn forward_backward(
        &self,
        kernels: &dyn Kernels,
        batch: Batch<'_>,
        scale: f32,
        acts: &mut Activations,
        grads: &mut Gradients,
    ) -> Result<(), ModelError> {
        self.forward(kernels, batch, acts)?;
        let Activations { slot, scratch } = acts;
        let pass = self.frame.pass(kernels, slot)?;
        let (params, tied_head) = (&mut grads.params, &mut grads.tied_head);
        let Some(lm_head) = params.lm_head.as_mut().or(tied_head.as_mut()) else {
            unreachable!("a model has a head")
        };
        let dhead = Head { final_norm: &mut params.final_norm, lm_head };
        let weights = Head { final_norm: &self.params.final_norm, lm_head: self.head() };
        pass.head(weights, scale, slot, scratch, (dhead, Start::Existing))?;
        for (layer, weights) in self.params.blocks.iter().enumerate().rev() {
            let grads = (&mut params.blocks[layer], Start::Existing);
            pass.backward(layer, weights, slot, scratch, grads)?;
        }
        pass.embed_backward(slot, &mut params.embedding)
    }

    /// Losses of one micro-batch into `acts`; no gradients.
    pub fn losses(
        &self,
        kernels: &dyn Kernels,
        batch: Batch<'_>,
        acts: &mut Activations,
    ) -> Result<(), ModelError> {
        self.forward(kernels, batch, acts)?;
        let pass = self.frame.pass(kernels, &acts.slot)?;
        pass.losses(self.head(), &mut acts.slot, &mut acts.scratch)
    }

    /// Logits `(T, V)` of one sequence.
    pub fn logits(&self, kernels: &dyn Kernels, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let (extent, passes) = ((1, tokens.len()), Passes::Forward);
        let new = Activations::new(kernels, self.dims(), self.precision(), extent, passes);
        let mut acts = new.at(|| "activations".into())?;
        self.forward(kernels, Batch { tokens, targets: tokens }, &mut acts)?;
        let mut logits = Vec::with_capacity(tokens.len() * self.dims().vocab);
        let pass = self.frame.pass(kernels, &acts.slot)?;
        pass.all_logits(self.head(), &mut acts.scratch, &mut logits)?;
        Ok(logits)
    }

    /// The LM head's weight `(V, C)`.
    pub fn head(&self) -> &Tensor {
        self.params.lm_head.as_ref().unwrap_or(&self.params.embedding)
    }

    /// The rotary tables `(P, D/2)`: cosines and sines.
    pub(super) fn rotary(&self) -> (&Tensor, &Tensor) {
        self.frame.rotary()
    }

    /// From tokens to the final norm.
    fn forward(
        &self,
        kernels: &dyn Kernels,
        batch: Batch<'_>,
        acts: &mut Activations,
    ) -> Result<(), ModelError> {
        let Activations { slot, scratch } = acts;
        let pass = self.frame.pass(kernels, slot)?;
        pass.load(batch, slot)?;
        pass.embed(&self.params.embedding, slot)?;
        let blocks: Vec<_> = self.params.blocks.iter().collect();
        let final_norm = Some(&self.params.final_norm);
        pass.forward(0..blocks.len(), &blocks, final_norm, slot, scratch)
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

    /// `self = self + other`, tensor by tensor, a tied head's apart: sums of shards.
    pub fn add(&mut self, kernels: &dyn Kernels, other: &Self) -> Result<(), ModelError> {
        let add = |name: &str, (sum, x): (&mut Tensor, &Tensor)| {
            elementwise::add(kernels, sum.view_mut(), x.view()).at(|| format!("sum of {name}"))
        };
        self.params.as_mut().zip(other.params.as_ref()).try_map(add)?;
        let heads = self.tied_head.as_mut().zip(other.tied_head.as_ref());
        heads.map_or(Ok(()), |heads| add("tied head", heads))
    }

    /// Adds a tied head's gradient to the embedding's, after a step's last micro-batch.
    pub fn finish(&mut self, kernels: &dyn Kernels) -> Result<(), ModelError> {
        let Some(head) = &self.tied_head else { return Ok(()) };
        elementwise::add(kernels, self.params.embedding.view_mut(), head.view())
            .at(|| "tied head".into())
    }
}
