//! `summary.json`: a whole run in some numbers.

use serde::Deserialize;
use serde::Serialize;

use super::record::Fate;
use super::record::Record;
use crate::crypto::Hash;
use crate::simulate::scenario::Scenario;
use crate::simulate::world::Ending;
use crate::simulate::world::Outcome;

/// A run. All but `machine` is the same on every machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// The scenario's name.
    pub name: String,
    /// The scenario's seed.
    pub seed: u64,
    /// Identity of the scenario.
    pub scenario: Hash,
    /// Identity of the data, where there is any.
    pub data: Option<Hash>,
    /// `finished` or `diverged`.
    pub ending: String,
    /// Why it could not go on, where it could not.
    pub why: Option<String>,
    /// Weights of the model.
    pub weights: u64,
    /// Loss below which no model comes on average, where that is known.
    pub entropy_floor: Option<f64>,
    /// Loss of the first weights on held-out data.
    pub first_loss: Option<f64>,
    /// Of the last weights: clusters' training loss in the last exchange.
    pub train_loss: Option<f64>,
    /// Of the last weights: loss on held-out data.
    pub eval_loss: Option<f64>,
    /// What was added up over the exchanges.
    #[serde(flatten)]
    pub tally: Tally,
    /// Part of their time that the clusters computed.
    pub utilization: f64,
    /// Identity of the outer weights and momentum (of a control, of the whole training state).
    pub outer_hash: Hash,
    /// What depends on this machine.
    pub machine: Machine,
}

/// What was added up over the exchanges.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tally {
    /// How many.
    pub exchanges: u64,
    /// Those without an outer step.
    pub skipped: u64,
    /// Tokens of all clusters.
    pub tokens: u64,
    /// Virtual seconds.
    pub time_s: f64,
    /// Sent, with what was sent again.
    pub bytes_up: u64,
    /// Received.
    pub bytes_down: u64,
    /// Updates that entered an aggregate.
    pub counted: u64,
    /// Updates that were refused.
    pub rejected: u64,
    /// Updates that were not there in time.
    pub late: u64,
    /// Crashes.
    pub crashes: u64,
    /// Clusters that were there, summed over the exchanges.
    pub members: u64,
    /// Mean length of an update, in bits per weight of its fragment.
    pub bits_per_weight: Option<f64>,
    #[serde(skip)]
    update_bytes: u64,
    #[serde(skip)]
    updates: u64,
}

/// What a run took on this machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The device.
    pub device: String,
    /// Seconds that the run took.
    pub wall_s: f64,
    /// Seconds of that in inner steps.
    pub inner_s: f64,
    /// Seconds of that in evaluations.
    pub evaluations_s: f64,
    /// Part of the time outside of evaluations that inner steps took: the simulation's speed, over
    /// that of the training in it.
    pub inner_share: f64,
    /// Tokens per second of the inner training alone.
    pub inner_tokens_per_s: f64,
    /// Tokens per second of the whole, evaluations left out.
    pub tokens_per_s: f64,
}

impl Tally {
    /// Adds an exchange of a fragment of `weights` weights.
    pub fn add(&mut self, record: &Record, weights: u64) {
        let count = |fate| record.peers.iter().filter(|peer| peer.fate == fate).count() as u64;
        self.exchanges += 1;
        self.skipped += u64::from(record.skipped.is_some());
        self.tokens = record.tokens;
        self.time_s = record.time_s;
        self.bytes_up += record.bytes_up;
        self.bytes_down += record.bytes_down;
        self.counted += record.counted as u64;
        self.rejected += record.rejected as u64;
        self.late += count(Fate::Late);
        self.crashes += count(Fate::Crashed);
        self.members += record.members as u64;
        let counted = record.peers.iter().filter(|peer| peer.fate == Fate::Counted);
        for bytes in counted.filter_map(|peer| peer.bytes) {
            (self.update_bytes, self.updates) = (self.update_bytes + bytes, self.updates + 1);
        }
        if self.updates > 0 && weights > 0 {
            let each = self.update_bytes as f64 / self.updates as f64;
            self.bits_per_weight = Some(each * 8.0 / weights as f64);
        }
    }
}

impl Summary {
    /// Of a run of `scenario` that has ended.
    pub fn new(scenario: &Scenario, outcome: &Outcome, tally: Tally, last: &Record) -> Self {
        let (ending, why) = match &outcome.ending {
            Ending::Finished => ("finished", None),
            Ending::Diverged { exchange, why } => {
                ("diverged", Some(format!("exchange {exchange}: {why}")))
            }
        };
        let spent = &outcome.spent;
        let (wall_s, inner_s) = (spent.all.as_secs_f64(), spent.inner.as_secs_f64());
        let evaluations_s = spent.evaluations.as_secs_f64();
        let over = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        let tokens = tally.tokens as f64;
        Self {
            name: scenario.scenario.name.clone(),
            seed: scenario.scenario.seed,
            scenario: scenario.hash(),
            data: None,
            ending: ending.to_owned(),
            why,
            weights: 0,
            entropy_floor: None,
            first_loss: outcome.first_loss,
            train_loss: last.train_loss,
            eval_loss: last.eval_loss,
            tally,
            utilization: outcome.utilization,
            outer_hash: outcome.outer_hash,
            machine: Machine {
                device: String::new(),
                wall_s,
                inner_s,
                evaluations_s,
                inner_share: over(inner_s, wall_s - evaluations_s),
                inner_tokens_per_s: over(tokens, inner_s),
                tokens_per_s: over(tokens, wall_s - evaluations_s),
            },
        }
    }

    /// Whether training ended, and with a loss no worse than it began with.
    pub fn is_sound(&self) -> bool {
        let is_worse = match (self.first_loss, self.eval_loss) {
            (Some(first), Some(last)) => last.is_nan() || last > first,
            _ => false,
        };
        self.ending == "finished" && !is_worse
    }
}
