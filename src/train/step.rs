//! One optimizer step, on any number of ranks.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exchange::Exchange;
use super::guard::{Decision, Guard};
use super::library::Library;
use super::neighbours::Neighbours;
use super::passing::Passing;
use super::state::{Fill, Layout, State};
use super::sums::{Order, Sums};
use super::tally::Tally;
use super::{Error, Plan};
use crate::collective;
use crate::crypto::Hash;
use crate::data::Batch;
use crate::model::Extent;
use crate::model::Frame;
use crate::model::NeuroLlm;
use crate::model::Params;
use crate::model::Passes;
use crate::model::Scratch;
use crate::model::Slot;
use crate::ops;
use crate::ops::Kernels;
use crate::ops::elementwise;
use crate::optim;
use crate::shard::Division;
use crate::shard::Mesh;
use crate::shard::Zero;
use crate::tensor::DType;
use crate::tensor::Tensor;
use crate::tensor::ViewMut;

/// Everything that training changes on this rank, and what it needs for that.
#[derive(Debug)]
pub struct Trainer {
    pub(super) kernels: Arc<dyn Kernels>,
    pub(super) plan: Plan,
    pub(super) mesh: Mesh,
    pub(super) layout: Layout,
    pub(super) frame: Frame,
    pub(super) state: State,
    pub(super) guard: Guard,
    /// Optimizer steps done.
    pub(super) done: u64,
    pub(super) sums: Sums,
    order: Order,
    slots: Vec<Slot>,
    scratch: Scratch,
    /// `(N)` of all micro-batches of this rank: losses of a step's tokens, where the head is here.
    losses: Option<Tensor>,
    /// For sequences that only go forward; made when the first one comes.
    pub(super) heldout: Option<(Slot, Scratch)>,
    pub(super) exchange: Exchange,
    pub(super) lender: Library,
    pub(super) neighbours: Neighbours,
    pub(super) tally: Tally,
}

/// What a step did; but for the durations the same on all ranks.
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
    /// The OR of all ranks' votes.
    pub votes: u64,
    /// How long it took.
    pub duration: Duration,
    /// How much of that was spent waiting for other ranks.
    pub exchange: Duration,
}

impl Trainer {
    /// One optimizer step on the sequences [`Self::sequences`] of its batch. Collective. `vote` is
    /// told to all ranks. If a loss or gradient is not finite, all ranks fail alike and the
    /// weights are those of the last good step.
    pub fn step(&mut self, batch: &Batch, vote: u64) -> Result<StepOutcome, Error> {
        let kernels = self.kernels.clone();
        ops::together(kernels.as_ref(), || self.step_inside(kernels.as_ref(), batch, vote))
    }

    fn step_inside(
        &mut self,
        kernels: &dyn Kernels,
        batch: &Batch,
        vote: u64,
    ) -> Result<StepOutcome, Error> {
        let (started, step) = (Instant::now(), self.done + 1);
        (self.exchange.waited, self.neighbours.waited) = Default::default();
        let losses = self.passes(kernels, batch)?;
        self.tie_heads(kernels)?;
        let sums = self.block_sums(kernels)?;
        let asked = Instant::now();
        let total = self.tally.total(self.mesh.world().as_ref(), vote, &losses, &sums)?;
        self.exchange.waited += asked.elapsed();
        let plan = &self.plan;
        let (loss, norm) = (total.loss / plan.tokens_per_step as f64, total.norm);
        if !(loss.is_finite() && norm.0.is_finite()) {
            let place = self.locate(kernels, batch)?;
            return Err(Error::NonFinite { step, place });
        }
        let lr = plan.optim.learning_rate(self.done, plan.train.steps);
        let updates = self.done - self.guard.skipped();
        let decision = self.guard.judge(loss, norm.0);
        if decision == Decision::Apply {
            let clip = optim::clip_scale(norm, plan.optim.clip);
            let update = optim::Update::new(&plan.optim, (updates, lr), clip);
            self.update(kernels, &update)?;
        }
        self.done = step;
        let (votes, grad_norm, duration) = (total.votes, norm.0, started.elapsed());
        let exchange = self.exchange.waited + self.neighbours.waited;
        Ok(StepOutcome { step, loss, lr, grad_norm, decision, votes, duration, exchange })
    }

    /// Forward and backward: gradients into `self.sums`; the chain of losses of every local shard.
    fn passes(&mut self, kernels: &dyn Kernels, batch: &Batch) -> Result<Vec<f64>, Error> {
        let shards = self.mesh.local_shards().len();
        let sequences = self.sequences().len();
        let (per_step, micro) = (self.plan.tokens_per_step, self.plan.train.micro_batch_sequences);
        let expected = sequences * self.plan.train.seq_len;
        assert_eq!(batch.inputs.len(), expected, "tokens of this rank's sequences");
        self.sums.begin();
        let mut passing = Passing {
            kernels,
            frame: &self.frame,
            layout: &self.layout,
            stage: (self.mesh.stage(), self.mesh.stages()),
            state: &self.state,
            slots: &mut self.slots,
            scratch: &mut self.scratch,
            sums: &mut self.sums,
            exchange: &mut self.exchange,
            lender: &mut self.lender,
            neighbours: &mut self.neighbours,
            batch,
            scale: (1.0 / per_step as f64) as f32,
            per_shard: sequences / shards / micro,
            micros: sequences / micro,
            losses: self.losses.as_mut(),
        };
        match self.order {
            Order::Depth => passing.depth_first()?,
            Order::Breadth => passing.breadth_first()?,
        }
        self.shard_losses(kernels)
    }

    /// The chain of losses of every local shard; zeros where the head is elsewhere.
    fn shard_losses(&self, kernels: &dyn Kernels) -> Result<Vec<f64>, Error> {
        let shards = self.mesh.local_shards().len();
        let Some(losses) = &self.losses else { return Ok(vec![0.0; shards]) };
        let mut all = vec![0.0f32; losses.shape().len()];
        elementwise::copy(kernels, ViewMut::of(&mut all, &losses.shape()), losses.view())?;
        let chain = |shard: &[f32]| shard.iter().fold(0.0, |sum, &l| sum + f64::from(l));
        Ok(all.chunks_exact(all.len() / shards).map(chain).collect())
    }

    /// The sequences of a step's batch that this rank reads: those of its shards.
    pub fn sequences(&self) -> Range<usize> {
        let each = self.plan.train.batch_sequences / self.mesh.shards();
        let shards = self.mesh.local_shards();
        shards.start * each..shards.end * each
    }

    /// Random weights, zero moments, for this rank's share of a training: its stage has the
    /// blocks `layers`. Collective.
    pub fn new(
        kernels: Arc<dyn Kernels>,
        plan: &Plan,
        mesh: &Mesh,
        layers: Range<usize>,
    ) -> Result<Self, Error> {
        Self::filled(kernels, plan, mesh, layers, Fill::Random)
    }

    /// Zero weights and moments, to be filled from a checkpoint. Collective.
    pub fn blank(
        kernels: Arc<dyn Kernels>,
        plan: &Plan,
        mesh: &Mesh,
        layers: Range<usize>,
    ) -> Result<Self, Error> {
        Self::filled(kernels, plan, mesh, layers, Fill::Zeros)
    }

    fn filled(
        kernels: Arc<dyn Kernels>,
        plan: &Plan,
        mesh: &Mesh,
        layers: Range<usize>,
        fill: Fill,
    ) -> Result<Self, Error> {
        let (k, dims, train) = (kernels.as_ref(), &plan.dims, &plan.train);
        let stages = all_stages(mesh, dims.layers, &layers)?;
        let layout = Layout { layers: layers.clone(), all_layers: dims.layers };
        let zero = plan.parallel.zero;
        let division = Division { zero, ranks: mesh.data().size(), rank: mesh.data().rank() };
        let order = if zero >= Zero::Gradients { Order::Breadth } else { Order::Depth };
        let shards = mesh.local_shards().len();
        let sequences = train.micro_batch_sequences;
        let micros = train.batch_sequences / mesh.shards() / sequences * shards;
        let precision = plan.precision;
        let passes = if plan.recompute { Passes::Recomputed } else { Passes::Stored };
        let extent = Extent { sequences, seq_len: train.seq_len, layers, passes, precision };
        let under_way = match order {
            Order::Depth => micros.min(mesh.stages() - mesh.stage()),
            Order::Breadth => micros,
        };
        let slots = (0..under_way).map(|_| Slot::new(k, dims, &extent));
        let tokens = [micros * sequences * train.seq_len];
        let losses = layout.has_head().then(|| k.zeros(DType::F32, &tokens));
        Ok(Self {
            frame: Frame::new(k, *dims, plan.precision, train.seq_len)?,
            state: State::new(k, plan, &layout, division, fill)?,
            sums: Sums::new(k, dims, &layout, (division, shards, order))?,
            slots: slots.collect::<Result<_, _>>()?,
            scratch: Scratch::new(k, dims, &extent)?,
            losses: losses.transpose()?,
            guard: Guard::new(train.guard_deviations, train.guard_after),
            exchange: Exchange::new(kernels.clone(), mesh, division)?,
            neighbours: Neighbours::new(mesh.clone(), PATIENCE),
            tally: Tally::new(dims, &stages, mesh.data().size(), shards),
            lender: Library::default(),
            heldout: None,
            done: 0,
            plan: plan.clone(),
            mesh: mesh.clone(),
            layout,
            order,
            kernels,
        })
    }

    /// How long another stage may stay silent from now on.
    pub fn set_patience(&mut self, patience: Duration) {
        self.neighbours.set_patience(patience);
    }

    /// Hash of the weights that all data ranks of a stage must hold alike; none where each holds
    /// its own part.
    pub fn replica_hash(&self) -> Result<Option<Hash>, Error> {
        super::resume::weights_hash(self.kernels.as_ref(), &self.state)
    }

    /// A copy of the model, where this rank has all of it.
    pub fn model(&self) -> Result<Option<NeuroLlm>, Error> {
        let whole = self.mesh.stages() == 1 && self.state.division.has_whole_weights();
        if !whole {
            return Ok(None);
        }
        let (k, plan) = (self.kernels.as_ref(), &self.plan);
        let mut params = Params::zeros(k, &plan.dims)?;
        let here = self.state.weights.iter().flat_map(|bucket| bucket.as_ref().into_named());
        for ((_, to), (_, from)) in params.as_mut().into_named().into_iter().zip(here) {
            elementwise::copy(k, to.view_mut(), from.view())?;
        }
        let precision = plan.precision;
        Ok(Some(NeuroLlm::new(k, plan.dims, precision, params, plan.train.seq_len)?))
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

/// The blocks of every stage, of which this rank's has `mine`. Collective; refuses what is no
/// division of all `layers`, on every rank alike.
fn all_stages(mesh: &Mesh, layers: usize, mine: &Range<usize>) -> Result<Vec<Range<usize>>, Error> {
    let world = mesh.world();
    let note = [mine.start as u64, mine.end as u64];
    let mut all = vec![[0u64; 2]; world.size()];
    world.all_gather(bytemuck::cast_slice(&note), bytemuck::cast_slice_mut(&mut all))?;
    let told = all.chunks_exact(mesh.data().size()).map(|ranks| {
        let alike = ranks.iter().all(|r| *r == ranks[0]);
        alike.then_some(ranks[0][0] as usize..ranks[0][1] as usize)
    });
    let stages: Option<Vec<_>> = told.collect();
    let fits = |stages: &Vec<Range<usize>>| {
        let next = stages.iter().try_fold(0, |next, s| (s.start == next).then_some(s.end));
        next == Some(layers) && stages.iter().all(|s| !s.is_empty())
    };
    stages.filter(fits).ok_or_else(|| {
        let what = format!("the ranks' stages do not make up the {layers} layers: {all:?}");
        Error::Collective(collective::Error::Group { what })
    })
}

/// Before step times are known.
const PATIENCE: Duration = Duration::from_secs(600);
