//! The `[[clusters]]` tables: groups of clusters that are alike.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::network::link;
use crate::simulate::attack;

/// `[[clusters]]`: so many clusters that are alike; any number of such tables, one a group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Group {
    /// How many; 0 leaves the group out.
    pub count: usize,
    /// Tokens that a cluster trains on in a second of virtual time.
    pub tokens_per_s: f64,
    /// How much the time of an inner step varies from round to round: the deviation of its
    /// logarithm, 0 to 2.
    pub jitter: f64,
    /// Bandwidth toward the others, in Mbit/s. Default: `network.up_mbit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_mbit: Option<f64>,
    /// Bandwidth from the others, in Mbit/s. Default: `network.down_mbit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub down_mbit: Option<f64>,
    /// Time to the middle of the network, in ms. Default: `network.delay_ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<f64>,
    /// Part of the packets that are lost. Default: `network.loss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// The first exchange that it takes part in, from 0; one that comes later takes over the outer
    /// state.
    pub join_round: u64,
    /// The exchange before which it leaves; above `join_round`. Default: it stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leave_round: Option<u64>,
    /// What goes wrong, by chance. Default: nothing.
    #[serde(skip_serializing_if = "Faults::is_none")]
    pub faults: Faults,
    /// What its clusters do instead of working honestly. Default: they are honest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attack: Option<attack::Config>,
}

/// What goes wrong in a cluster, by chance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// Crashes in an hour of computing. What was computed since the last exchange is lost.
    pub crashes_per_hour: f64,
    /// Seconds after a crash until the cluster is back, beside the download of the outer state.
    pub recover_s: f64,
    /// What a crash destroys.
    pub loses: Loses,
    /// How likely a cluster is slow in a round; 0 to 1.
    pub slow_rate: f64,
    /// How many times slower it then is; 1 or more. Default: `10`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_factor: Option<f64>,
    /// How likely an update arrives damaged: cut short, with bytes after its end, or with a bit
    /// turned; 0 to 1.
    pub damage_rate: f64,
}

/// What a crash destroys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Loses {
    /// The inner steps since the last exchange.
    #[default]
    Work,
    /// These, and what updates have not said yet.
    Residual,
    /// These, and the moments of the inner optimizer.
    All,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            count: 1,
            tokens_per_s: 100_000.0,
            jitter: 0.0,
            up_mbit: None,
            down_mbit: None,
            delay_ms: None,
            loss: None,
            join_round: 0,
            leave_round: None,
            faults: Faults::default(),
            attack: None,
        }
    }
}

impl Faults {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// How many times slower a slow cluster is.
    pub fn slowness(&self) -> f64 {
        self.slow_factor.unwrap_or(10.0)
    }
}

impl Group {
    /// What cannot be about group `index`, each as `key: why`.
    pub(super) fn complaints(&self, index: usize) -> Vec<String> {
        let of = format!("clusters.{index}");
        let (up, down) = (self.up_mbit.unwrap_or(1.0), self.down_mbit.unwrap_or(1.0));
        let (delay, loss) = (self.delay_ms.unwrap_or(0.0), self.loss.unwrap_or(0.0));
        let mut wrong = link(&of, up, down, delay, loss);
        let mut check = |holds: bool, key: &str, why: String| {
            if !holds {
                wrong.push(format!("{of}.{key}: {why}"));
            }
        };
        let speed = self.tokens_per_s;
        check((1e-3..=1e15).contains(&speed), "tokens_per_s", format!("{speed} is no speed"));
        check(
            (0.0..=2.0).contains(&self.jitter),
            "jitter",
            format!("{} is not within 0..=2", self.jitter),
        );
        let left = self.leave_round.is_none_or(|leave| leave > self.join_round);
        check(left, "leave_round", format!("not after join_round = {}", self.join_round));
        let faults = &self.faults;
        for (key, rate) in [("slow_rate", faults.slow_rate), ("damage_rate", faults.damage_rate)] {
            let why = format!("{rate} is not within 0..=1");
            check((0.0..=1.0).contains(&rate), &format!("faults.{key}"), why);
        }
        let crashes = faults.crashes_per_hour;
        let why = format!("{crashes} is not within 0..=1e9");
        check((0.0..=1e9).contains(&crashes), "faults.crashes_per_hour", why);
        let recover = faults.recover_s;
        let why = format!("{recover} is no number of seconds from 0 up");
        check((0.0..=1e6).contains(&recover), "faults.recover_s", why);
        let slow = faults.slowness();
        let why = format!("{slow} is not within 1..=1e6");
        check((1.0..=1e6).contains(&slow), "faults.slow_factor", why);
        if let Some(Err(error)) = self.attack.as_ref().map(attack::Config::check) {
            wrong.push(format!("{of}.{error}"));
        }
        wrong
    }
}
