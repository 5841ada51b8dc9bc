//! Loss on held-out sequences.

use super::Error;
use super::signals::Stop;
use super::step::micro_batches;
use crate::data::Loader;
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
/// are none, or if somebody asks to stop.
pub fn evaluate(
    kernels: &dyn Kernels,
    model: &NeuroLlm,
    loader: &Loader,
    (sequences, seq_len): (u64, usize),
    stop: &Stop,
) -> Result<Option<Evaluation>, Error> {
    let sequences = sequences.min(loader.num_heldout());
    if sequences == 0 {
        return Ok(None);
    }
    // One at a time: fewer, larger pieces would be hardly faster and need more memory.
    let mut acts = Activations::new(kernels, model.dims(), 1, seq_len, Passes::Forward)?;
    let (mut sum, mut tokens) = (0.0, 0);
    for index in 0..sequences {
        if stop.asked() {
            return Ok(None);
        }
        let batch = loader.heldout(index)?;
        for sequence in micro_batches(&batch, seq_len) {
            model.losses(kernels, sequence, &mut acts)?;
            let losses = acts.losses.host::<f32>();
            sum = losses.iter().fold(sum, |sum, &l| sum + f64::from(l));
            tokens += losses.len() as u64;
        }
    }
    Ok(Some(Evaluation { loss: sum / tokens as f64, tokens, sequences }))
}
