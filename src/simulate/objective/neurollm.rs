//! Real training: every cluster has a trainer of its own.

use std::sync::Arc;

use super::Objective;
use crate::data::Batch;
use crate::data::Dataset;
use crate::data::Loader;
use crate::diloco::Cluster;
use crate::ops::Kernels;
use crate::shard::Mesh;
use crate::simulate::Error;
use crate::simulate::attack::Training;
use crate::simulate::attack::flip_targets;
use crate::simulate::scenario::Scenario;
use crate::train;
use crate::train::Evaluated;
use crate::train::Plan;
use crate::train::Stop;
use crate::train::Trainer;

/// The training of a scenario's clusters, all on the same kernels.
#[derive(Debug)]
pub struct NeuroLlm {
    kernels: Arc<dyn Kernels>,
    plan: Plan,
    mesh: Mesh,
    loader: Loader,
}

impl NeuroLlm {
    /// The training that `scenario` describes, with the batch of one cluster times `batches`.
    pub fn new(
        scenario: &Scenario,
        dataset: Arc<Dataset>,
        kernels: Arc<dyn Kernels>,
        batches: usize,
    ) -> Result<Self, Error> {
        let run = scenario.run();
        let mut scenario = scenario.clone();
        scenario.train.batch_sequences = scenario.train.batch_sequences.saturating_mul(batches);
        let wrong = |complaints: Vec<String>| Error::Scenario { complaints };
        let plan = Plan::new(&scenario.parts(&run), dataset.hash()).map_err(wrong)?;
        if dataset.vocab_size() > plan.dims.vocab {
            let needed = dataset.vocab_size();
            let why = format!("model.vocab: {}, but the data has {needed} tokens", plan.dims.vocab);
            return Err(wrong(vec![why]));
        }
        let (seq_len, batch) = (plan.train.seq_len, plan.train.batch_sequences);
        let loader = Loader::new(dataset, plan.seed, seq_len, batch)?;
        Ok(Self { kernels, mesh: Mesh::single(plan.parallel.shards), loader, plan })
    }

    /// What it trains.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What is read.
    pub fn loader(&self) -> &Loader {
        &self.loader
    }

    /// A trainer at its beginning.
    pub fn trainer(&self) -> Result<Trainer, Error> {
        let layers = 0..self.plan.dims.layers;
        Ok(Trainer::new(self.kernels.clone(), &self.plan, &self.mesh, layers)?)
    }

    /// Loss of a trainer's weights on held-out sequences.
    pub fn loss(&self, trainer: &mut Trainer) -> Result<Option<f64>, Error> {
        let sequences = self.plan.train.eval_sequences;
        let mut losses = |batch: &Batch| trainer.losses(batch);
        let stop = Stop::never();
        let found = train::evaluate(&self.loader, sequences, &self.mesh, &stop, &mut losses)?;
        Ok(match found {
            Evaluated::Done(found) => Some(found.loss),
            Evaluated::Nothing | Evaluated::Stopped(_) => None,
        })
    }
}

impl Objective for NeuroLlm {
    type Inner = Trainer;

    fn inner(&self, _cluster: usize) -> Result<Trainer, Error> {
        self.trainer()
    }

    fn train(
        &self,
        cluster: &mut Cluster<Trainer>,
        steps: u64,
        training: Training,
    ) -> Result<f64, Error> {
        let vocab = self.plan.dims.vocab as u32;
        let mut sum = 0.0;
        for _ in 0..steps {
            let mut batch = cluster.batch(&self.loader)?;
            if training == Training::FlippedTargets {
                flip_targets(vocab, &mut batch.targets);
            }
            sum += cluster.step(&batch)?.loss;
        }
        Ok(sum / steps.max(1) as f64)
    }

    fn evaluate(&self, cluster: &mut Cluster<Trainer>) -> Result<Option<f64>, Error> {
        cluster.with_outer_weights(|trainer| self.loss(trainer))
    }
}
