//! Liars of a simulation: what they send instead of what they trained.
//!
//! The attackers of a scenario form groups; a group follows one [`Config`], colludes, and is asked
//! once a round for everything its members send, after the honest updates of the round are known.
//! So every attack is as strong as a peer that waits for the others and has friends can make it.
//!
//! Attacks are pure: the same view and memory give the same updates on every machine. Sums are f64
//! in the order of the clusters, random numbers are addressed, transcendental functions are `libm`'s.
//! Updates are pseudo-gradients (old weights minus new), so `-u` undoes what `u` does.

mod alie;
mod along;
mod burst;
mod config;
mod direction;
mod error;
mod kind;
mod labels;
mod lazy;
mod mimic;
mod min_max;
mod moments;
mod noise;
mod replay;
mod search;
mod support;
#[cfg(test)]
mod testing;
mod wire;

pub use config::Config;
pub use config::Deviation;
pub use config::Knowledge;
pub use config::Objective;
pub use config::Strength;
pub use config::Training;
pub use config::Word;
pub use error::Error;
pub use kind::Kind;
pub use labels::flip_targets;
pub use wire::Fault;

use crate::codec::Layout;

/// What a group of attackers does, with what it remembers from round to round.
pub trait Attack: Send {
    /// What the members send in a round, in the order of `view.colluders`.
    fn round(&mut self, view: &View<'_>) -> Vec<Sent>;
}

/// What a group of attackers knows of a round.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The outer round, from 0.
    pub round: u64,
    /// Which fragment of the model the round exchanges, from 0.
    pub fragment: u32,
    /// The scenario's seed.
    pub seed: u64,
    /// The tensors of an update.
    pub layout: &'a Layout,
    /// All honest updates of the round as the others decode them, by cluster.
    pub honest: &'a [Known<'a>],
    /// The members of the group, by cluster, with what each would send if it were honest, before
    /// encoding: zeros where [`Config::training`] says that it trained nothing.
    pub colluders: &'a [Known<'a>],
    /// The aggregate of the last round of this fragment.
    pub previous: Option<&'a [f32]>,
    /// What the real rule makes of the honest updates and of the given ones, one for each colluder
    /// in order, encoded and decoded as the codec does. `None` if it refuses.
    pub aggregate: &'a Rule<'a>,
    /// The bytes of an update of the layout, of this job and fragment, for the given round.
    pub encode: &'a dyn Fn(&[f32], u64) -> Vec<u8>,
}

/// A rule as a function of what the colluders send.
pub type Rule<'a> = dyn Fn(&[&[f32]]) -> Option<Vec<f32>> + 'a;

/// An update, and the cluster that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Known<'a> {
    /// Number of the cluster in the scenario.
    pub cluster: usize,
    /// Of the layout, flat.
    pub update: &'a [f32],
}

/// What an attacker sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Sent {
    /// What it would send if it were honest, residual and all.
    Own,
    /// These values, all finite, encoded as an honest update is, but with no residual kept.
    Dense(Vec<f32>),
    /// These bytes in place of an update.
    Bytes(Vec<u8>),
    /// Nothing at all.
    Nothing,
}
