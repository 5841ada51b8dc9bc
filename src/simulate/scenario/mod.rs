//! A scenario: what is trained, by whom, over which network, and what goes wrong.

mod clusters;
mod complaints;
mod network;
mod toy;

pub use clusters::Faults;
pub use clusters::Group;
pub use clusters::Loses;
pub use network::Network;
pub use network::Round;
pub use network::Topology;
pub use toy::Toy;
pub use toy::ToyKind;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use crate::aggregate;
use crate::codec;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::data;
use crate::diloco;
use crate::model;
use crate::optim;
use crate::shard;
use crate::train;

/// What a scenario file says. docs/CONFIG.md has every field, docs/SIMULATE.md is the guide.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scenario {
    /// Name, seed, and what is simulated.
    pub scenario: About,
    /// The model's extents, or a preset.
    pub model: model::Config,
    /// The text to train on.
    pub data: data::Config,
    /// The arithmetic.
    pub numerics: train::Numerics,
    /// How a cluster's batch is divided; of this table, only `shards` has a meaning here.
    pub parallel: shard::Config,
    /// Length of training, and the batch of one cluster.
    pub train: train::Config,
    /// The inner optimizer.
    pub optim: optim::Config,
    /// The toy objective.
    pub toy: Toy,
    /// The outer loop.
    pub outer: diloco::Config,
    /// How updates are written.
    pub codec: codec::Config,
    /// How updates become one.
    pub aggregate: aggregate::Config,
    /// How updates travel.
    pub network: Network,
    /// When rounds close.
    pub round: Round,
    /// Who takes part.
    pub clusters: Vec<Group>,
}

/// `[scenario]`: name, seed, and what is simulated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct About {
    /// Begins the name of the result's folder: 1 to 64 letters, digits, `-`, `_`, `.`.
    pub name: String,
    /// Seed of everything random; below 2^63.
    pub seed: u64,
    /// What clusters train.
    pub objective: Objective,
    /// Whether the clusters are one synchronous data-parallel job instead: same batches, tokens and
    /// links, gradients exchanged after every inner step. Tune its `optim.lr` apart.
    pub control: bool,
    /// Whether every cluster aggregates for itself, in its own order, and all results are compared;
    /// without, one does it for all. Changes no result; costs time and memory.
    pub replicas: bool,
    /// Exchanges between evaluations; 0: only at the end.
    pub eval_every: u64,
}

/// What clusters train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Objective {
    /// A NeuroLLM, as `[model]`, `[data]`, `[train]` and `[optim]` say.
    #[default]
    NeuroLlm,
    /// A function of some hundred parameters, as `[toy]` says.
    Toy,
}

impl Default for About {
    fn default() -> Self {
        Self {
            name: "scenario".into(),
            seed: 1,
            objective: Objective::default(),
            control: false,
            replicas: false,
            eval_every: 1,
        }
    }
}

/// A cluster of the scenario.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its number, from 0.
    pub cluster: usize,
    /// Its group's number.
    pub group: usize,
    /// What it is like.
    pub like: &'a Group,
}

impl Scenario {
    /// Everything that cannot be, each as `key: why`.
    pub fn complaints(&self) -> Vec<String> {
        complaints::of(self)
    }

    /// The clusters, group by group.
    pub fn members(&self) -> impl Iterator<Item = Member<'_>> {
        let groups = self.clusters.iter().enumerate();
        let each = groups.flat_map(|(group, like)| std::iter::repeat_n((group, like), like.count));
        each.enumerate().map(|(cluster, (group, like))| Member { cluster, group, like })
    }

    /// The inner training of a cluster, or of all of them as one job.
    pub fn parts<'a>(&'a self, run: &'a train::Run) -> train::Parts<'a> {
        train::Parts {
            run,
            model: &self.model,
            numerics: &self.numerics,
            parallel: &self.parallel,
            train: &self.train,
            optim: &self.optim,
        }
    }

    /// The `[run]` table that the inner training has.
    pub fn run(&self) -> train::Run {
        train::Run { dir: "simulation".into(), seed: self.scenario.seed }
    }

    /// Inner steps of every cluster.
    pub fn steps(&self) -> u64 {
        match self.train.stop_after {
            0 => self.train.steps,
            steps => steps.min(self.train.steps),
        }
    }

    /// Tokens of an inner step of one cluster.
    pub fn tokens_per_step(&self) -> u64 {
        (self.train.batch_sequences as u64).saturating_mul(self.train.seq_len as u64)
    }

    /// All settings, as the text of a scenario file.
    pub fn to_toml(&self) -> String {
        // Plain tables of numbers and strings: this cannot fail.
        toml::to_string(self).unwrap_or_default()
    }

    /// Identity of everything that decides the results.
    pub fn hash(&self) -> Hash {
        // Names and checks decide nothing.
        let about = About { name: String::new(), replicas: false, ..self.scenario.clone() };
        let text = Self { scenario: about, ..self.clone() }.to_toml();
        Hash::of(Domain::Scenario, format!("{VERSION}\n{text}").as_bytes())
    }
}

/// Of the simulation: results of another version are others.
const VERSION: u32 = 1;
