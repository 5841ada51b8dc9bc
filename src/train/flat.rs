//! A trainer's state as flat vectors: what the outer loop between clusters reads and writes.
//!
//! The flat vector of a model is its tensors one after the other, in the canonical order of
//! [`Params::shapes`]: the embedding once, also where it serves as head.

use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::state::{Rounding, State};
use super::step::Trainer;
use super::{Error, Plan, resume};
use crate::checkpoint;
use crate::checkpoint::Attachment;
use crate::checkpoint::Saved;
use crate::codec;
use crate::crypto::Hash;
use crate::model::Bucket;
use crate::model::Dims;
use crate::model::Params;
use crate::ops::Kernels;
use crate::ops::elementwise;
use crate::shard::Mesh;
use crate::shard::Zero;
use crate::tensor::Tensor;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// The tensors of a model's flat vector.
pub fn weights_layout(dims: &Dims) -> codec::Layout {
    let named = Params::shapes(dims).into_named();
    codec::Layout::new(named.into_iter().map(|(name, shape)| (name, shape.iter().product())))
}

/// All that training changes: in memory, to go back to.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    done: u64,
    guard: Vec<u64>,
    /// Weights, first and second moments, flat.
    tensors: [Vec<f32>; 3],
}

impl Trainer {
    /// Copies all weights to `out`, flat. Every data rank has all of them; not collective.
    pub fn read_weights(&self, out: &mut [f32]) -> Result<(), Error> {
        self.has_all_weights()?;
        read(self.kernels(), named(&self.state.weights), out)
    }

    /// Overwrites all weights with `values`, flat, and makes the rounded copies of them anew. Every
    /// data rank must be given the same values; not collective.
    pub fn write_weights(&mut self, values: &[f32]) -> Result<(), Error> {
        self.write(None, values)
    }

    /// As [`Self::read_weights`], of the tensors with these numbers in canonical order, which
    /// ascend; one after the other.
    pub fn read_tensors(&self, tensors: &[usize], out: &mut [f32]) -> Result<(), Error> {
        self.has_all_weights()?;
        let all = named(&self.state.weights);
        read(self.kernels(), tensors.iter().map(|&i| all[i]), out)
    }

    /// As [`Self::write_weights`], of the tensors with these numbers in canonical order, which
    /// ascend; one after the other.
    pub fn write_tensors(&mut self, tensors: &[usize], values: &[f32]) -> Result<(), Error> {
        self.write(Some(tensors), values)
    }

    fn write(&mut self, which: Option<&[usize]>, values: &[f32]) -> Result<(), Error> {
        self.has_all_weights()?;
        let kernels = self.kernels.clone();
        let all = named_mut(&mut self.state.weights);
        let chosen = all.into_iter().enumerate().filter_map(|(i, tensor)| {
            which.is_none_or(|list| list.binary_search(&i).is_ok()).then_some(tensor)
        });
        write(kernels.as_ref(), chosen, values)?;
        Ok(self.state.round(kernels.as_ref(), Rounding::All)?)
    }

    /// Copies everything that a step changes.
    pub fn snapshot(&self) -> Result<Snapshot, Error> {
        self.has_all_moments()?;
        let State { weights, m, v, .. } = &self.state;
        let kernels = self.kernels();
        let flat = |buckets: &[Bucket<Tensor>]| {
            let tensors = named(buckets);
            let mut out = vec![0.0; tensors.iter().map(|t| t.shape().len()).sum()];
            read(kernels, tensors, &mut out).map(|()| out)
        };
        let tensors = [flat(weights)?, flat(m)?, flat(v)?];
        Ok(Snapshot { done: self.done, guard: self.guard.words(), tensors })
    }

    /// Goes back to a snapshot of this trainer, or of one with the same plan, to the bit.
    ///
    /// # Panics
    /// If it is of another model (a bug of the caller).
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), Error> {
        self.has_all_moments()?;
        let kernels = self.kernels.clone();
        let State { weights, m, v, .. } = &mut self.state;
        for (buckets, values) in [weights, m, v].into_iter().zip(&snapshot.tensors) {
            write(kernels.as_ref(), named_mut(buckets), values)?;
        }
        self.state.round(kernels.as_ref(), Rounding::All)?;
        self.done = snapshot.done;
        assert!(self.guard.restore(&snapshot.guard), "words of a guard");
        Ok(())
    }

    /// Counts `steps` steps that are not computed: the schedule goes on, and the guard counts
    /// them as left out. For a cluster that is late, or that joins later than others.
    pub fn skip(&mut self, steps: u64) {
        self.done += steps;
        self.guard.leave_out(steps);
    }

    /// Forgets the moments: the optimizer begins anew, the schedule goes on.
    pub fn forget_moments(&mut self) -> Result<(), Error> {
        self.has_all_moments()?;
        let kernels = self.kernels.clone();
        let State { m, v, .. } = &mut self.state;
        for tensor in named_mut(m).into_iter().chain(named_mut(v)) {
            elementwise::fill(kernels.as_ref(), tensor.view_mut(), 0.0)?;
        }
        self.guard.leave_out(self.done - self.guard.skipped());
        Ok(())
    }

    /// Writes a checkpoint of this moment into `checkpoints`; its folder and state hash.
    /// Collective.
    pub fn save(
        &self,
        checkpoints: &Path,
        config: &str,
        attachments: &[Attachment],
    ) -> Result<(PathBuf, Hash), Error> {
        let contents = self.contents(config, attachments);
        Ok(checkpoint::write(checkpoints, &contents, self.mesh.world().as_ref())?)
    }

    /// The trainer of the checkpoint in folder `path`, every byte verified. Refuses one of another
    /// plan, and names what differs. Collective.
    pub fn resumed(
        kernels: Arc<dyn Kernels>,
        plan: &Plan,
        mesh: &Mesh,
        layers: Range<usize>,
        path: &Path,
    ) -> Result<Self, Error> {
        let saved = Saved::open_together(path, mesh.world().as_ref())?;
        // Before any memory is taken.
        resume::check(&saved, plan)?;
        let mut trainer = Self::blank(kernels, plan, mesh, layers)?;
        trainer.resume(&saved)?;
        Ok(trainer)
    }

    /// The ranks it is spread over.
    pub fn mesh(&self) -> &Mesh {
        &self.mesh
    }

    fn has_all_weights(&self) -> Result<(), Error> {
        let whole = self.mesh.stages() == 1 && self.state.division.has_whole_weights();
        if whole { Ok(()) } else { Err(Error::Divided { what: "reading or writing the weights" }) }
    }

    fn has_all_moments(&self) -> Result<(), Error> {
        self.has_all_weights()?;
        let division = &self.state.division;
        let whole = division.ranks == 1 || division.zero < Zero::Moments;
        if whole { Ok(()) } else { Err(Error::Divided { what: "a snapshot" }) }
    }
}

/// The tensors of all buckets, in canonical order.
fn named(buckets: &[Bucket<Tensor>]) -> Vec<&Tensor> {
    let tensors = buckets.iter().flat_map(|bucket| bucket.as_ref().into_named());
    tensors.map(|(_, tensor)| tensor).collect()
}

fn named_mut(buckets: &mut [Bucket<Tensor>]) -> Vec<&mut Tensor> {
    let tensors = buckets.iter_mut().flat_map(|bucket| bucket.as_mut().into_named());
    tensors.map(|(_, tensor)| tensor).collect()
}

/// Tensors to `out`, one after the other.
fn read<'a>(
    kernels: &dyn Kernels,
    tensors: impl IntoIterator<Item = &'a Tensor>,
    out: &mut [f32],
) -> Result<(), Error> {
    let mut rest = out;
    for tensor in tensors {
        let (mine, others) = rest.split_at_mut(tensor.shape().len());
        rest = others;
        elementwise::copy(kernels, ViewMut::of(mine, &tensor.shape()), tensor.view())?;
    }
    assert!(rest.is_empty(), "elements of the tensors");
    Ok(())
}

/// `values` to tensors, one after the other.
fn write<'a>(
    kernels: &dyn Kernels,
    tensors: impl IntoIterator<Item = &'a mut Tensor>,
    values: &[f32],
) -> Result<(), Error> {
    let mut rest = values;
    for tensor in tensors {
        let shape = tensor.shape();
        let (mine, others) = rest.split_at(shape.len());
        rest = others;
        elementwise::copy(kernels, tensor.view_mut(), View::of(mine, &shape))?;
    }
    assert!(rest.is_empty(), "elements of the tensors");
    Ok(())
}
