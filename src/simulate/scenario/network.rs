//! The `[network]` and `[round]` tables: how updates travel, and when a round closes.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// `[network]`: how updates travel, and the connection of clusters that do not say their own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Network {
    /// Who carries updates.
    pub topology: Topology,
    /// Peers that a peer forwards an update to in a `tree`; 1 to 64.
    pub fanout: usize,
    /// Bandwidth toward the others, in Mbit/s.
    pub up_mbit: f64,
    /// Bandwidth from the others, in Mbit/s.
    pub down_mbit: f64,
    /// Time from a cluster to the middle of the network, in ms: half of the way to another cluster.
    pub delay_ms: f64,
    /// Part of the packets that a connection loses, 0 to 0.5; they are sent again.
    pub loss: f64,
    /// Bytes of a packet; 64 to 65535.
    pub packet_bytes: u64,
    /// On the links an update counts as so many times its bytes: a small model in place of a large
    /// one.
    pub scale: f64,
    /// Time of aggregation, outer step and agreement on what counts, in ms.
    pub settle_ms: f64,
}

/// Who carries updates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Topology {
    /// Every peer sends its update to every other one.
    #[default]
    Direct,
    /// A tree over all peers for each update, its sender at the root; a peer forwards what it has
    /// whole.
    Tree,
    /// Every peer sends its update once, to a store that is always fast enough, and fetches the
    /// others' from there.
    Store,
}

/// `[round]`: when a round closes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Round {
    /// Seconds of virtual time after its opening when a round closes with those updates that are
    /// there, if they are enough; 0: it waits for all.
    pub deadline_s: f64,
    /// Part of the clusters whose updates must be there for a round to close at its deadline, and
    /// part of the clusters that must have an update for it to be there; above 0, up to 1.
    pub quorum: f64,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            topology: Topology::default(),
            fanout: 2,
            up_mbit: 1000.0,
            down_mbit: 1000.0,
            delay_ms: 10.0,
            loss: 0.0,
            packet_bytes: 1200,
            scale: 1.0,
            settle_ms: 0.0,
        }
    }
}

impl Default for Round {
    fn default() -> Self {
        Self { deadline_s: 0.0, quorum: 0.67 }
    }
}

impl Network {
    /// What cannot be about the table, each as `key: why`.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut wrong = link("network", self.up_mbit, self.down_mbit, self.delay_ms, self.loss);
        if !(1..=MAX_FANOUT).contains(&self.fanout) {
            wrong.push(format!("network.fanout: {} is not within 1..={MAX_FANOUT}", self.fanout));
        }
        if !(64..=MAX_PACKET_BYTES).contains(&self.packet_bytes) {
            let why = format!("{} is not within 64..={MAX_PACKET_BYTES}", self.packet_bytes);
            wrong.push(format!("network.packet_bytes: {why}"));
        }
        if !(self.scale > 0.0 && self.scale <= 1e9) {
            wrong.push(format!("network.scale: {} is not above 0 and at most 1e9", self.scale));
        }
        if !(0.0..=MAX_MS).contains(&self.settle_ms) {
            wrong.push(format!("network.settle_ms: {} is not within 0..={MAX_MS}", self.settle_ms));
        }
        wrong
    }
}

impl Round {
    /// What cannot be about the table, each as `key: why`.
    pub(super) fn complaints(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        if !(0.0..=MAX_MS / 1e3).contains(&self.deadline_s) {
            let why = format!("{} is no number of seconds from 0 (none) up", self.deadline_s);
            wrong.push(format!("round.deadline_s: {why}"));
        }
        if !(self.quorum > 0.0 && self.quorum <= 1.0) {
            let why = format!("{} is not above 0 and at most 1", self.quorum);
            wrong.push(format!("round.quorum: {why}"));
        }
        wrong
    }
}

/// What cannot be about a connection, under the keys of table `of`.
pub(super) fn link(of: &str, up: f64, down: f64, delay_ms: f64, loss: f64) -> Vec<String> {
    let mut wrong = Vec::new();
    for (key, mbit) in [("up_mbit", up), ("down_mbit", down)] {
        if !(MIN_MBIT..=MAX_MBIT).contains(&mbit) {
            wrong.push(format!("{of}.{key}: {mbit} is not within {MIN_MBIT}..={MAX_MBIT}"));
        }
    }
    if !(0.0..=MAX_MS).contains(&delay_ms) {
        wrong.push(format!("{of}.delay_ms: {delay_ms} is not within 0..={MAX_MS}"));
    }
    if !(0.0..=MAX_LOSS).contains(&loss) {
        wrong.push(format!("{of}.loss: {loss} is not within 0..={MAX_LOSS}"));
    }
    wrong
}

/// A kbit/s: less is no connection, and times stay far below what 64 bits of nanoseconds hold.
const MIN_MBIT: f64 = 1e-3;
const MAX_MBIT: f64 = 1e9;
/// Some days.
const MAX_MS: f64 = 1e9;
/// Above this, connections break.
const MAX_LOSS: f64 = 0.5;
const MAX_FANOUT: usize = 64;
const MAX_PACKET_BYTES: u64 = 65_535;
