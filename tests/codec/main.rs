//! Codecs as senders, receivers and attackers use them. docs/WIRE.md is the specification.

#![allow(clippy::unwrap_used, reason = "tests")]

mod golden;
mod hostile;
mod mutations;
mod properties;
mod sizes;
mod streams;

use neuroshard::codec::Codec;
use neuroshard::codec::Config;
use neuroshard::codec::Kind;

const KINDS: [Kind; 6] = [Kind::F32, Kind::Bf16, Kind::Int8, Kind::E3m0, Kind::Sign, Kind::TopK];

fn codec(kind: Kind, k: usize) -> Box<dyn Codec> {
    Config { kind, k }.codec().unwrap()
}

/// A linear congruential generator: the next 32 bits.
fn next(state: &mut u32) -> u32 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    *state
}
