//! Where the first value that is not finite came from.
//!
//! Called once, on all ranks, when a step has gone wrong: weights are searched; then every
//! sequence of the batch runs forward again, alone and layer by layer, and what it computes is
//! searched in order; then the gradients. All ranks tell what they found, and agree on the first.

use super::Error;
use super::step::Trainer;
use crate::data::Batch;
use crate::ops::Kernels;
use crate::ops::elementwise;

/// A place, and where it stands in the order of the search.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    key: u64,
    place: String,
}

impl Trainer {
    /// Operation and layer of the first value that is not finite; the same on all ranks.
    pub(super) fn locate(&mut self, kernels: &dyn Kernels, batch: &Batch) -> Result<String, Error> {
        let mut found = self.search_weights(kernels)?;
        let in_batch = self.search_batch(kernels, batch)?;
        found = found.or(in_batch);
        if found.is_none() {
            found = self.search_gradients(kernels)?;
        }
        let nothing = "global norm: every gradient is finite, the sum of their squares is not";
        Ok(self.first_of_all(found)?.unwrap_or_else(|| nothing.into()))
    }

    fn search_weights(&self, kernels: &dyn Kernels) -> Result<Option<Found>, Error> {
        for (b, bucket) in self.state.weights.iter().enumerate() {
            for (nth, (name, weight)) in bucket.as_ref().into_named().into_iter().enumerate() {
                if elementwise::first_non_finite(kernels, weight.view())?.is_some() {
                    let key = WEIGHTS + self.position(b, nth);
                    return Ok(Some(Found { key, place: format!("weight {name}") }));
                }
            }
        }
        Ok(None)
    }

    /// Every sequence, even after one that is at fault: other ranks may be waiting.
    fn search_batch(
        &mut self,
        kernels: &dyn Kernels,
        batch: &Batch,
    ) -> Result<Option<Found>, Error> {
        let (seq_len, first) = (self.plan.train.seq_len, self.sequences().start);
        let mut found: Option<Found> = None;
        let pieces = batch.inputs.chunks(seq_len).zip(batch.targets.chunks(seq_len));
        for (sequence, (inputs, targets)) in (first..).zip(pieces) {
            let batch = Batch { inputs: inputs.to_vec(), targets: targets.to_vec() };
            let key = BATCH + ((sequence as u64) << 16) + self.mesh.stage() as u64;
            let mut look = |place: String, tensor: &crate::tensor::Tensor| {
                let searched = found.is_some();
                if !searched && elementwise::first_non_finite(kernels, tensor.view())?.is_some() {
                    let place = format!("{place} (sequence {sequence} of the batch)");
                    found = Some(Found { key, place });
                }
                Ok(())
            };
            self.forward_only(kernels, &batch, Some(&mut look))?;
        }
        Ok(found)
    }

    /// Backward runs from the head down, so the last in canonical order was first.
    fn search_gradients(&self, kernels: &dyn Kernels) -> Result<Option<Found>, Error> {
        let division = self.state.division;
        let grads = self.sums.done.iter().zip(&self.state.shapes).enumerate().rev();
        for (b, (grads, shapes)) in grads {
            let Some(grads) = grads else { continue };
            let all = shapes.as_ref().zip(grads.as_ref()).into_named();
            for (nth, (name, (shape, grad))) in all.into_iter().enumerate().rev() {
                let len = shape.iter().product();
                let owned = division.owned(len);
                let view = super::state::slice(grad.view(), &division.gradient(len), &owned);
                if elementwise::first_non_finite(kernels, view)?.is_some() {
                    let key = BEFORE_END - self.position(b, nth);
                    return Ok(Some(Found { key, place: format!("gradient of {name}") }));
                }
            }
        }
        Ok(None)
    }

    /// Where tensor `nth` of bucket `b` stands among all of the model.
    fn position(&self, b: usize, nth: usize) -> u64 {
        let bucket = self.layout.layers.start + b + usize::from(!self.layout.has_embedding());
        (bucket * MOST_TENSORS + nth) as u64
    }

    /// Of what all ranks found, what stands first in the order of the search. Collective.
    fn first_of_all(&self, mine: Option<Found>) -> Result<Option<String>, Error> {
        let world = self.mesh.world();
        let mut note = [0u8; NOTE_BYTES];
        note[..8].fill(0xff);
        if let Some(Found { key, place }) = mine {
            note[..8].copy_from_slice(&key.to_be_bytes());
            let len = place.len().min(NOTE_BYTES - 9);
            note[8] = len as u8;
            note[9..9 + len].copy_from_slice(&place.as_bytes()[..len]);
        }
        let mut all = vec![0; NOTE_BYTES * world.size()];
        world.all_gather(&note, &mut all)?;
        let first = all.chunks_exact(NOTE_BYTES).min().filter(|note| note[8] > 0);
        let text = |note: &[u8]| {
            let len = usize::from(note[8]).min(NOTE_BYTES - 9);
            String::from_utf8_lossy(&note[9..9 + len]).into_owned()
        };
        Ok(first.map(text))
    }
}

/// Keys of the three searches, in their order; gradients count down.
const WEIGHTS: u64 = 0;
const BATCH: u64 = 1 << 56;
const BEFORE_END: u64 = 3 << 56;

/// More tensors than a bucket has.
const MOST_TENSORS: usize = 8;

/// A key (8 bytes), a length (1 byte), a text.
const NOTE_BYTES: usize = 200;
