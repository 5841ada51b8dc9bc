//! The model's end: final norm, LM head and loss, some rows of logits at a time.

use std::ops::Range;

use half::bf16;

use super::At;
use super::ModelError;
use super::activations::HeadScratch;
use super::activations::Scratch;
use super::activations::Slot;
use super::pass::Pass;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::cross_entropy;
use crate::ops::elementwise;
use crate::ops::matmul;
use crate::ops::matmul::Start;
use crate::ops::rmsnorm;
use crate::tensor::DType;
use crate::tensor::Tensor;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// The weights of the head, or their gradients.
#[derive(Clone, Copy, Debug)]
pub struct Head<T> {
    /// `(C)`.
    pub final_norm: T,
    /// `(V, C)`: the embedding table where the head is tied.
    pub lm_head: T,
}

impl Pass<'_> {
    /// The norm after the last block, where [`Pass::forward`] has not computed it.
    pub fn final_norm(
        &self,
        weight: &Tensor,
        slot: &Slot,
        scratch: &mut Scratch,
    ) -> Result<(), ModelError> {
        let head = here(&mut scratch.head);
        let args = rmsnorm::Forward {
            out: head.final_norm.view_mut(),
            rstd: head.final_rstd.view_mut(),
            inp: slot.streams[slot.stream_index(self.dims.layers)].view(),
            weight: weight.view(),
            eps: self.dims.norm_eps,
        };
        rmsnorm::forward(self.kernels, args).at(|| "final_norm".into())
    }

    /// The loss of every token, from the normalized stream.
    pub fn losses(
        &self,
        lm_head: &Tensor,
        slot: &mut Slot,
        scratch: &mut Scratch,
    ) -> Result<(), ModelError> {
        let head = here(&mut scratch.head);
        for range in head.chunks() {
            self.logits(lm_head, head, range.clone())?;
            let args = cross_entropy::Forward {
                losses: slot.losses.view_mut().rows(range.clone()),
                logits: head.logits.view().rows(0..range.len()),
                targets: slot.targets.view().rows(range),
            };
            cross_entropy::forward(self.kernels, args).at(|| "loss".into())?;
        }
        Ok(())
    }

    /// Logits of every row, appended to `out`.
    pub(super) fn all_logits(
        &self,
        lm_head: &Tensor,
        scratch: &mut Scratch,
        out: &mut Vec<f32>,
    ) -> Result<(), ModelError> {
        let head = here(&mut scratch.head);
        for range in head.chunks() {
            self.logits(lm_head, head, range.clone())?;
            let logits = head.logits.view().rows(0..range.len());
            out.extend(to_host(self.kernels, logits).at(|| "logits".into())?);
        }
        Ok(())
    }

    /// The loss of every token from the normalized stream, gradients of `scale` times their sum
    /// added to `grads` (the matrix's from `start` on); the last stream becomes its own gradient.
    pub fn head(
        &self,
        weights: Head<&Tensor>,
        scale: f32,
        slot: &mut Slot,
        scratch: &mut Scratch,
        (grads, start): (Head<&mut Tensor>, Start),
    ) -> Result<(), ModelError> {
        let (kernels, precision) = (self.kernels, self.precision);
        let Scratch { branch, head, backward, .. } = scratch;
        let (head, Some(backward)) = (here(head), backward) else {
            unreachable!("made for backward")
        };
        for range in head.chunks() {
            self.logits(weights.lm_head, head, range.clone())?;
            let args = cross_entropy::ForwardBackward {
                losses: slot.losses.view_mut().rows(range.clone()),
                logits: head.logits.view_mut().rows(0..range.len()),
                targets: slot.targets.view().rows(range.clone()),
                scale,
            };
            cross_entropy::forward_backward(kernels, args).at(|| "loss".into())?;
            let dlogits = head.logits.view().rows(0..range.len());
            let args = matmul::BackwardInput {
                dinp: backward.dnorm.view_mut().rows(range.clone()),
                dout: dlogits,
                weight: weights.lm_head.view(),
                precision,
            };
            matmul::backward_input(kernels, args).at(|| "lm_head backward".into())?;
            let args = matmul::BackwardWeight {
                dweight: grads.lm_head.view_mut(),
                dout: dlogits,
                inp: head.final_norm.view().rows(range.clone()),
                precision,
                start: if range.start == 0 { start } else { Start::Existing },
            };
            matmul::backward_weight(kernels, args).at(|| "lm_head backward".into())?;
        }
        let Some(last) = slot.streams.last_mut() else { unreachable!("a slot has streams") };
        elementwise::fill(kernels, branch.view_mut(), 0.0).at(|| "final_norm backward".into())?;
        let args = rmsnorm::Backward {
            dinp: branch.view_mut(),
            dweight: grads.final_norm.view_mut(),
            dout: backward.dnorm.view(),
            inp: last.view(),
            weight: weights.final_norm.view(),
            rstd: head.final_rstd.view(),
        };
        rmsnorm::backward(kernels, args).at(|| "final_norm backward".into())?;
        std::mem::swap(branch, last);
        Ok(())
    }

    /// Logits of some rows, into the first rows of `head.logits`.
    fn logits(
        &self,
        lm_head: &Tensor,
        head: &mut HeadScratch,
        rows: Range<usize>,
    ) -> Result<(), ModelError> {
        let args = matmul::Forward {
            out: head.logits.view_mut().rows(0..rows.len()),
            inp: head.final_norm.view().rows(rows),
            weight: lm_head.view(),
            precision: self.precision,
        };
        matmul::forward(self.kernels, args).at(|| "lm_head".into())
    }
}

impl HeadScratch {
    /// All rows, as many at a time as there is room for logits.
    fn chunks(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (rows, at_once) = (self.final_norm.shape()[0], self.logits.shape()[0]);
        (0..rows).step_by(at_once).map(move |first| first..rows.min(first + at_once))
    }
}

/// Elements of the type of activations as f32 on the host.
pub(super) fn to_host(kernels: &dyn Kernels, view: View<'_>) -> Result<Vec<f32>, OpError> {
    let (shape, len) = (view.shape(), view.shape().len());
    if view.dtype() == DType::Bf16 {
        let mut host = vec![bf16::ZERO; len];
        elementwise::copy(kernels, ViewMut::of(&mut host, &shape), view)?;
        return Ok(host.into_iter().map(bf16::to_f32).collect());
    }
    let mut host = vec![0.0; len];
    elementwise::copy(kernels, ViewMut::of(&mut host, &shape), view)?;
    Ok(host)
}

fn here(head: &mut Option<HeadScratch>) -> &mut HeadScratch {
    let Some(head) = head else { unreachable!("the range has the head") };
    head
}
