//! `rounds.jsonl`: one JSON object for each exchange. Every number is the same on every machine.

use serde::Serialize;

/// An exchange of one fragment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Record {
    /// Its number, from 0.
    pub exchange: u64,
    /// The round of its fragment, from 0.
    pub round: u64,
    /// Which fragment.
    pub fragment: usize,
    /// Inner steps done when it began.
    pub step: u64,
    /// Virtual seconds from the beginning to its closing.
    pub time_s: f64,
    /// Tokens that all clusters together have trained on so far.
    pub tokens: u64,
    /// Bytes sent in it, by all together, with what was sent again.
    pub bytes_up: u64,
    /// Bytes received in it, by all together.
    pub bytes_down: u64,
    /// Mean over the honest clusters of their mean loss since the last exchange.
    pub train_loss: Option<f64>,
    /// Loss of the outer weights on held-out data, where it was measured.
    pub eval_loss: Option<f64>,
    /// Part of their time that the clusters computed, since the last exchange.
    pub utilization: f64,
    /// Clusters that took part.
    pub members: usize,
    /// Updates that entered the aggregate.
    pub counted: usize,
    /// Updates that came and were refused.
    pub rejected: usize,
    /// Why no outer step was taken, where none was.
    pub skipped: Option<String>,
    /// Norm of the aggregate.
    pub aggregate_norm: Option<f64>,
    /// Cosine between this aggregate and the one before.
    pub aggregate_lag1: Option<f64>,
    /// Norm of the outer step before any bound.
    pub step_norm: Option<f64>,
    /// What became of every cluster that has joined and not left.
    pub peers: Vec<PeerRecord>,
}

/// A cluster in an exchange.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PeerRecord {
    /// Its number.
    pub cluster: usize,
    /// What became of it.
    pub fate: Fate,
    /// Virtual seconds from the beginning until its update was ready.
    pub ready_s: Option<f64>,
    /// Length of its update.
    pub bytes: Option<u64>,
    /// Its mean loss since the last exchange.
    pub loss: Option<f64>,
    /// Norm of its update.
    pub norm: Option<f64>,
    /// What its update was multiplied with before the rule.
    pub clip: Option<f64>,
    /// Its weight in the aggregate, where the rule has weights.
    pub weight: Option<f64>,
    /// Cosine between its pseudo-gradient and the one before.
    pub lag1: Option<f64>,
    /// Norm of what its update did not say.
    pub residual_norm: Option<f64>,
    /// Why its update was refused, or why it has none.
    pub why: Option<String>,
}

/// What became of a cluster in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Its update is in the aggregate, or could have been: the exchange was skipped.
    Counted,
    /// Its update was refused.
    Rejected,
    /// Its update was not there in time.
    Late,
    /// It sent nothing.
    Silent,
    /// Its training came to a value that is not finite.
    Diverged,
    /// It crashed.
    Crashed,
    /// It has not come back from a crash.
    Down,
}

impl PeerRecord {
    /// Of a cluster with nothing but a fate.
    pub fn of(cluster: usize, fate: Fate) -> Self {
        Self {
            cluster,
            fate,
            ready_s: None,
            bytes: None,
            loss: None,
            norm: None,
            clip: None,
            weight: None,
            lag1: None,
            residual_norm: None,
            why: None,
        }
    }
}
