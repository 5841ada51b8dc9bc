//! Loss on held-out sequences.

use super::Error;
use super::signals::Stop;
use crate::data::Batch;
use crate::data::Loader;
use crate::model;
use crate::model::Activations;
use crate::model::NeuroLlm;
use crate::model::Passes;
use crate::ops::Kernels;

/// Result of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss in nats: a chain of f64 additions over the tokens in order, over their number.
    pub loss: f64,
    /// Tokens.
    pub tokens: u64,
    /// Sequences.
    pub sequences: u64,
}

impl Evaluation {
    /// `exp(loss)`, in software, so that it is the same everywhere.
    pub fn perplexity(&self) -> f64 {
        libm::exp(self.loss)
    }
}

/// Mean loss of the first `sequences` held-out sequences (all, if there are fewer); none if there
/// are none, or if somebody asks to stop. `losses` gives the loss of every token of a sequence.
pub fn evaluate(
    loader: &Loader,
    sequences: u64,
    stop: &Stop,
    losses: &mut dyn FnMut(&Batch) -> Result<Vec<f32>, Error>,
) -> Result<Option<Evaluation>, Error> {
    let sequences = sequences.min(loader.num_heldout());
    if sequences == 0 {
        return Ok(None);
    }
    let (mut sum, mut tokens) = (0.0, 0);
    for index in 0..sequences {
        if stop.asked() {
            return Ok(None);
        }
        let losses = losses(&loader.heldout(index)?)?;
        sum = losses.iter().fold(sum, |sum, &l| sum + f64::from(l));
        tokens += losses.len() as u64;
    }
    Ok(Some(Evaluation { loss: sum / tokens as f64, tokens, sequences }))
}

/// [`evaluate`] of a whole model.
pub fn evaluate_model(
    kernels: &dyn Kernels,
    model: &NeuroLlm,
    loader: &Loader,
    (sequences, seq_len): (u64, usize),
    stop: &Stop,
) -> Result<Option<Evaluation>, Error> {
    // One at a time: fewer, larger pieces would be hardly faster and need more memory.
    let mut acts = Activations::new(kernels, model.dims(), 1, seq_len, Passes::Forward)?;
    evaluate(loader, sequences, stop, &mut |batch| {
        let batch = model::Batch { tokens: &batch.inputs, targets: &batch.targets };
        model.losses(kernels, batch, &mut acts)?;
        Ok(acts.losses().host::<f32>().to_vec())
    })
}
