//! What dishonest clusters send.
//!
//! An attacker trains like everybody else, then sees what the honest clusters will send in the
//! round (it is omniscient) and says what it sends instead. Attackers of one kind collude: they
//! know their number and their place among themselves, and share the seed. Every random number is
//! addressed ([`crate::rng::Purpose::Attack`], the round as step), so a round can be replayed.

mod config;
mod sign_flip;

pub use config::Config;

use std::fmt;

use crate::codec::Layout;

/// What an attacker knows when it must send.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The outer round, from 0.
    pub round: u64,
    /// The scenario's seed.
    pub seed: u64,
    /// The tensors of the update: every vector below is flat, of this layout.
    pub layout: &'a Layout,
    /// What the honest clusters' updates of this round decode to, by identity, ascending. May be
    /// empty.
    pub honest: &'a [&'a [f32]],
    /// What this cluster would send if it were honest: its pseudo-gradient and residual, before
    /// encoding.
    pub own: &'a [f32],
    /// How many attackers of this group there are in this round, this one included.
    pub colluders: usize,
    /// Its place among them, from 0.
    pub index: usize,
}

/// What an attacker sends.
#[derive(Clone, Debug, PartialEq)]
pub enum Sent {
    /// These values, encoded by the scenario's codec. Values that are not finite go out as bytes
    /// that no encoder writes.
    Dense(Vec<f32>),
    /// These bytes, as they are.
    Bytes(Vec<u8>),
    /// Its own update of so many rounds ago, byte for byte: 1 is the last one. Nothing, if there
    /// was none.
    Replay(u64),
    /// Nothing.
    Nothing,
}

/// A strategy, with what it remembers from round to round. One per attacker.
pub trait Attack: Send + fmt::Debug {
    /// What it sends in the round of `view`.
    fn update(&mut self, view: &View<'_>) -> Sent;
}
