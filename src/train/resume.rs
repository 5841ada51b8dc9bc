//! A trainer's state into a checkpoint, and back.

use std::ops::Range;

use super::state::{Rounding, State, slice};
use super::step::Trainer;
use super::{Error, Plan};
use crate::checkpoint;
use crate::checkpoint::Contents;
use crate::checkpoint::Expected;
use crate::checkpoint::Group;
use crate::checkpoint::Progress;
use crate::checkpoint::Saved;
use crate::checkpoint::Source;
use crate::checkpoint::Target;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;
use crate::model::Bucket;
use crate::model::Dims;
use crate::model::Params;
use crate::model::TiedHead;
use crate::ops::Kernels;
use crate::ops::elementwise;
use crate::shard::Division;
use crate::tensor::HostBuffer;
use crate::tensor::Shape;

/// Names and shapes of a model's weights, as a checkpoint must have them.
pub fn expected_weights(dims: &Dims) -> Vec<Expected> {
    let named = Params::shapes(dims).into_named();
    named.into_iter().map(|(name, shape)| (name, Shape::new(&shape))).collect()
}

/// The extents of the model in a checkpoint, believed only as far as its tensors bear them out.
pub fn saved_dims(saved: &Saved) -> Result<Dims, Error> {
    let manifest = saved.manifest();
    let mismatch = |what: String| checkpoint::Error::Mismatch { path: saved.path().into(), what };
    let dims: Dims = serde_json::from_value(manifest.model.clone())
        .map_err(|e| mismatch(format!("its model is not one of this program: {e}")))?;
    if let Some(complaint) = dims.complaints().into_iter().next() {
        return Err(mismatch(complaint).into());
    }
    // Products are formed only of extents whose product is known to be small.
    let elements = manifest.tensors.iter().filter_map(|t| t.size_bytes()).sum::<u64>() / 4;
    let fits = |factors: &[usize]| {
        let product = factors.iter().try_fold(1u64, |n, &x| n.checked_mul(x as u64));
        product.is_some_and(|n| n <= elements)
    };
    let all_heads = dims.heads + 2 * dims.kv_heads;
    let borne_out = fits(&[dims.vocab, dims.width])
        && fits(&[2, dims.ffn, dims.width])
        && fits(&[all_heads, dims.head_dim, dims.width])
        && dims.layers <= manifest.tensors.len();
    match borne_out {
        true => Ok(dims),
        false => Err(mismatch("its extents are larger than its tensors".into()).into()),
    }
}

impl Trainer {
    /// What a checkpoint of this moment holds.
    pub(super) fn contents(
        &self,
        config: &str,
        attachments: &[checkpoint::Attachment],
    ) -> Contents<'_> {
        Contents {
            progress: self.progress(),
            table: checkpoint::table(&expected_weights(&self.plan.dims)),
            slices: self.slices(),
            plan_hash: self.plan.hash,
            plan: self.plan.covered.clone(),
            model: serde_json::to_value(self.plan.dims).unwrap_or_default(),
            config: config.to_owned(),
            attachments: attachments.to_vec(),
        }
    }

    /// Hash of the whole training state: weights, moments, data cursor, step, random numbers.
    /// Collective, and the same on all ranks.
    pub fn state_hash(&self) -> Result<Hash, Error> {
        let table = checkpoint::table(&expected_weights(&self.plan.dims));
        let world = self.mesh.world().as_ref();
        let kernels = self.kernels.as_ref();
        Ok(checkpoint::state_hash(kernels, &self.progress(), &table, &self.slices(), world)?)
    }

    /// A trainer at the state of a checkpoint. Refuses one of another plan, and names what differs.
    pub(super) fn resume(&mut self, saved: &Saved) -> Result<(), Error> {
        check(saved, &self.plan)?;
        let world = self.mesh.world().clone();
        let kernels = self.kernels.clone();
        saved.read_into(kernels.as_ref(), self.targets(), world.as_ref())?;
        self.state.round(kernels.as_ref(), Rounding::All)?;
        let progress = &saved.manifest().progress;
        self.done = progress.step;
        let consistent = progress.seed == self.plan.seed
            && progress.next_sequence == self.next_sequence()
            && self.guard.restore(&progress.guard);
        match consistent {
            true => Ok(()),
            false => Err(Error::Checkpoint(checkpoint::Error::Mismatch {
                path: saved.path().to_owned(),
                what: "its data cursor, seed or guard are not those of its step".into(),
            })),
        }
    }

    fn progress(&self) -> Progress {
        Progress {
            step: self.done,
            next_sequence: self.next_sequence(),
            seed: self.plan.seed,
            guard: self.guard.words(),
        }
    }

    /// Position of the next sequence in the keyed order.
    fn next_sequence(&self) -> u64 {
        self.done.saturating_mul(self.plan.train.batch_sequences as u64)
    }

    /// The slices of weights and moments that this rank owns, in canonical order.
    fn slices(&self) -> Vec<Source<'_>> {
        let state = &self.state;
        let division = state.division;
        let mut all = Vec::new();
        for (group, buckets) in Group::ALL.into_iter().zip([&state.weights, &state.m, &state.v]) {
            for (bucket, shapes) in buckets.iter().zip(&state.shapes) {
                for (name, (shape, tensor)) in shapes.as_ref().zip(bucket.as_ref()).into_named() {
                    let len = shape.iter().product();
                    let owned = division.owned(len);
                    if owned.is_empty() {
                        continue;
                    }
                    let view = slice(tensor.view(), &held(&division, group, len), &owned);
                    let (shape, first) = (Shape::new(shape), owned.start);
                    all.push(Source { group, name, shape, first, view });
                }
            }
        }
        all
    }

    /// All elements of weights and moments that this rank holds, to be filled.
    fn targets(&mut self) -> Vec<Target<'_>> {
        let State { weights, m, v, division, .. } = &mut self.state;
        let copied = !self.layout.has_embedding() && self.plan.dims.tied;
        let shapes = Bucket::shapes(&self.plan.dims, self.layout.layers.clone(), TiedHead::Apart);
        let mut all = Vec::new();
        for (group, buckets) in Group::ALL.into_iter().zip([weights, m, v]) {
            for (bucket, shapes) in buckets.iter_mut().zip(&shapes) {
                for (name, (tensor, shape)) in bucket.as_mut().zip(shapes.as_ref()).into_named() {
                    let held = held(division, group, shape.iter().product());
                    if held.is_empty() {
                        continue;
                    }
                    // A head that is tied is saved as the table it is a copy of.
                    let name =
                        if copied && name == "lm_head" { "embedding".to_owned() } else { name };
                    let (shape, first) = (Shape::new(shape), held.start);
                    all.push(Target { group, name, shape, first, view: tensor.view_mut() });
                }
            }
        }
        all
    }
}

/// The elements that a rank holds of a tensor of `len` elements.
fn held(division: &Division, group: Group, len: usize) -> Range<usize> {
    match group {
        Group::Weights => division.weights(len),
        Group::FirstMoments | Group::SecondMoments => division.updated(len),
    }
}

/// Hash of the weights of a stage, where this rank has them whole.
pub(super) fn weights_hash(kernels: &dyn Kernels, state: &State) -> Result<Option<Hash>, Error> {
    if !state.division.has_whole_weights() {
        return Ok(None);
    }
    let mut room = HostBuffer::zeroed(0);
    let mut hasher = Hasher::new(Domain::TrainingState);
    for (_, tensor) in state.weights.iter().flat_map(|b| b.as_ref().into_named()) {
        let bytes = elementwise::on_host(kernels, tensor.view(), &mut room)?;
        hasher.update(checkpoint::hash_bytes(bytes).as_bytes());
    }
    Ok(Some(hasher.finish()))
}

/// Whether a checkpoint can be continued by `plan`; costs nothing.
pub(super) fn check(saved: &Saved, plan: &Plan) -> Result<(), Error> {
    let manifest = saved.manifest();
    if manifest.plan_hash != plan.hash {
        let mut differences = plan.differences(&manifest.plan);
        if differences.is_empty() {
            differences.push("the plan's hash differs from its text".into());
        }
        return Err(Error::OtherPlan { path: saved.path().to_owned(), differences });
    }
    saved.expect(&Group::ALL, &expected_weights(&plan.dims))?;
    Ok(())
}
