//! One optimizer step.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::guard::{Decision, Guard};
use super::non_finite;
use super::{Error, Plan};
use crate::data::Batch;
use crate::model;
use crate::model::Activations;
use crate::model::Gradients;
use crate::model::NeuroLlm;
use crate::model::Params;
use crate::model::Passes;
use crate::ops;
use crate::ops::Kernels;
use crate::optim;
use crate::tensor::Tensor;

/// Everything that a training step changes, and what it needs for that.
#[derive(Debug)]
pub struct Trainer {
    pub(super) kernels: Arc<dyn Kernels>,
    pub(super) plan: Plan,
    pub(super) model: NeuroLlm,
    pub(super) optimizer: optim::AdamW,
    pub(super) guard: Guard,
    /// Optimizer steps done.
    pub(super) done: u64,
    gradients: Gradients,
    activations: Activations,
}

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepOutcome {
    /// Its number, from 1.
    pub step: u64,
    /// Mean loss of its tokens in nats, before the update.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// What the guard said.
    pub decision: Decision,
    /// How long it took.
    pub duration: Duration,
}

impl Trainer {
    /// One optimizer step on `batch`. On an error the weights are those of the last good step.
    pub fn step(&mut self, batch: &Batch) -> Result<StepOutcome, Error> {
        let kernels = self.kernels.clone();
        ops::together(kernels.as_ref(), || self.step_inside(kernels.as_ref(), batch))
    }

    fn step_inside(&mut self, kernels: &dyn Kernels, batch: &Batch) -> Result<StepOutcome, Error> {
        let (started, step, plan) = (Instant::now(), self.done + 1, &self.plan);
        let scale = (1.0 / plan.tokens_per_step as f64) as f32;
        let mut loss = 0.0;
        self.gradients.clear(kernels)?;
        for micro in micro_batches(batch, self.activations.rows()) {
            let (acts, grads) = (&mut self.activations, &mut self.gradients);
            self.model.forward_backward(kernels, micro, scale, acts, grads)?;
            loss = acts.losses.host::<f32>().iter().fold(loss, |sum, &l| sum + f64::from(l));
        }
        self.gradients.finish(kernels)?;
        let loss = loss / plan.tokens_per_step as f64;
        let norm = optim::global_norm(kernels, &self.gradients.params)?;
        if !(loss.is_finite() && norm.0.is_finite()) {
            let place = non_finite::locate(kernels, &self.model, batch, &self.gradients)?;
            return Err(Error::NonFinite { step, place });
        }
        let lr = plan.optim.learning_rate(self.done, plan.train.steps);
        let updates = self.done - self.guard.skipped();
        let decision = self.guard.judge(loss, norm.0);
        if decision == Decision::Apply {
            let clip = optim::clip_scale(norm, plan.optim.clip);
            let (weights, grads) = (&mut self.model.params, &self.gradients.params);
            self.optimizer.step(kernels, &plan.optim, (updates, lr), clip, weights, grads)?;
        }
        self.done = step;
        Ok(StepOutcome { step, loss, lr, grad_norm: norm.0, decision, duration: started.elapsed() })
    }

    /// Random weights, zero moments.
    pub fn new(kernels: Arc<dyn Kernels>, plan: &Plan) -> Result<Self, Error> {
        let weights = Params::random(kernels.as_ref(), &plan.dims, plan.seed)?;
        Self::with_weights(kernels, plan, weights)
    }

    /// Zero weights and moments, to be filled from a checkpoint.
    pub(super) fn blank(kernels: Arc<dyn Kernels>, plan: &Plan) -> Result<Self, Error> {
        let weights = Params::zeros(kernels.as_ref(), &plan.dims)?;
        Self::with_weights(kernels, plan, weights)
    }

    fn with_weights(
        kernels: Arc<dyn Kernels>,
        plan: &Plan,
        weights: Params<Tensor>,
    ) -> Result<Self, Error> {
        let (k, dims, train) = (kernels.as_ref(), &plan.dims, &plan.train);
        let model = NeuroLlm::new(k, *dims, plan.profile.precision(), weights, train.seq_len)?;
        let passes = if plan.recompute { Passes::Recomputed } else { Passes::Stored };
        let (sequences, seq_len) = (train.micro_batch_sequences, train.seq_len);
        Ok(Self {
            gradients: model.gradients(k)?,
            activations: Activations::new(k, dims, sequences, seq_len, passes)?,
            optimizer: optim::AdamW { m: Params::zeros(k, dims)?, v: Params::zeros(k, dims)? },
            guard: Guard::new(train.guard_deviations, train.guard_after),
            done: 0,
            plan: plan.clone(),
            model,
            kernels,
        })
    }

    /// The model as it is now.
    pub fn model(&self) -> &NeuroLlm {
        &self.model
    }

    /// The kernels it runs on.
    pub fn kernels(&self) -> &dyn Kernels {
        self.kernels.as_ref()
    }

    /// The plan it follows.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Optimizer steps done.
    pub fn done(&self) -> u64 {
        self.done
    }
}

/// A batch in pieces of `tokens` tokens: whole sequences, in order.
pub(super) fn micro_batches(
    batch: &Batch,
    tokens: usize,
) -> impl Iterator<Item = model::Batch<'_>> {
    let (inputs, targets) = (batch.inputs.chunks(tokens), batch.targets.chunks(tokens));
    inputs.zip(targets).map(|(tokens, targets)| model::Batch { tokens, targets })
}
