//! Loss on held-out sequences.

use super::Error;
use super::signals::Stop;
use crate::collective::Communicator;
use crate::data::Batch;
use crate::data::Loader;
use crate::model;
use crate::model::Activations;
use crate::model::NeuroLlm;
use crate::model::Passes;
use crate::ops::Kernels;
use crate::ops::elementwise;
use crate::shard::Mesh;
use crate::tensor::ViewMut;

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

/// How an evaluation ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Evaluated {
    /// With a result.
    Done(Evaluation),
    /// There are no held-out sequences.
    Nothing,
    /// Somebody asked to stop: the OR of all ranks' votes.
    Stopped(u64),
}

/// Mean loss of the first `sequences` held-out sequences (all, if there are fewer). Collective.
///
/// The data ranks take the sequences in turn; `losses` gives the loss of every token of one, on
/// every rank of the data rank's stages. All ranks then add all losses in order, so the result is
/// that of one rank.
pub fn evaluate(
    loader: &Loader,
    sequences: u64,
    mesh: &Mesh,
    stop: &Stop,
    losses: &mut dyn FnMut(&Batch) -> Result<Vec<f32>, Error>,
) -> Result<Evaluated, Error> {
    let sequences = sequences.min(loader.num_heldout());
    if sequences == 0 {
        return Ok(Evaluated::Nothing);
    }
    let data_ranks = mesh.data().size() as u64;
    let (mut sum, mut tokens) = (0.0, 0);
    for first in (0..sequences).step_by(data_ranks as usize) {
        // In the last turn some ranks have nothing of their own; they must take part all the same.
        let index = (first + mesh.data().rank() as u64).min(sequences - 1);
        let (batch, vote) = (loader.heldout(index)?, stop.vote());
        let mine = if vote == 0 { losses(&batch)? } else { vec![0.0; batch.targets.len()] };
        let (votes, all) = gather(mesh.world().as_ref(), vote, &mine)?;
        if votes != 0 {
            return Ok(Evaluated::Stopped(votes));
        }
        let count = (sequences - first).min(data_ranks) as usize;
        for losses in all.chunks_exact(mine.len()).take(count) {
            sum = losses.iter().fold(sum, |sum, &l| sum + f64::from(l));
            tokens += losses.len() as u64;
        }
    }
    Ok(Evaluated::Done(Evaluation { loss: sum / tokens as f64, tokens, sequences }))
}

/// The OR of all ranks' votes, and everybody's losses in the order of world ranks, which begins
/// with the data ranks of the first stage.
fn gather(world: &dyn Communicator, vote: u64, mine: &[f32]) -> Result<(u64, Vec<f32>), Error> {
    if world.size() == 1 {
        return Ok((vote, mine.to_vec()));
    }
    let mut message = vote.to_ne_bytes().to_vec();
    message.extend_from_slice(bytemuck::cast_slice(mine));
    let mut all = vec![0; message.len() * world.size()];
    world.all_gather(&message, &mut all)?;
    let (mut votes, mut losses) = (0, Vec::with_capacity(mine.len() * world.size()));
    for message in all.chunks_exact(message.len()) {
        let (head, rest) = message.split_at(8);
        votes |= bytemuck::pod_read_unaligned::<u64>(head);
        losses.extend(rest.chunks_exact(4).map(bytemuck::pod_read_unaligned::<f32>));
    }
    Ok((votes, losses))
}

/// [`evaluate`] of a whole model on one rank.
pub fn evaluate_model(
    kernels: &dyn Kernels,
    model: &NeuroLlm,
    loader: &Loader,
    (sequences, seq_len): (u64, usize),
    stop: &Stop,
) -> Result<Option<Evaluation>, Error> {
    // One at a time: fewer, larger pieces would be hardly faster and need more memory.
    let (extent, passes) = ((1, seq_len), Passes::Forward);
    let mut acts = Activations::new(kernels, model.dims(), model.precision(), extent, passes)?;
    let mut losses = |batch: &Batch| {
        let whole = model::Batch { tokens: &batch.inputs, targets: &batch.targets };
        model.losses(kernels, whole, &mut acts)?;
        let (mut losses, shape) = (vec![0.0f32; whole.targets.len()], [whole.targets.len()]);
        elementwise::copy(kernels, ViewMut::of(&mut losses, &shape), acts.losses().view())?;
        Ok(losses)
    };
    match evaluate(loader, sequences, &Mesh::single(1), stop, &mut losses)? {
        Evaluated::Done(found) => Ok(Some(found)),
        Evaluated::Nothing | Evaluated::Stopped(_) => Ok(None),
    }
}
