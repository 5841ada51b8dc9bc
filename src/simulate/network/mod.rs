//! A network in virtual time: whole nanoseconds, whole bits, the same on every machine.
//!
//! Every cluster has one connection with a bandwidth each way, a delay to the middle of the network,
//! and a loss. Transfers under way share all uplinks and downlinks max-min fairly, as flows of a
//! fluid: whenever one begins or ends, all rates are found anew. A transfer is a number of packets;
//! those that are lost are sent again, a round trip after the last one of their pass. There is no
//! model of congestion control, and none of queues.

mod exchange;
mod flows;
mod loss;

pub use exchange::Closed;
pub use exchange::Closing;
pub use exchange::Sending;
pub use exchange::exchange;
pub use loss::Dice;
pub use loss::Use;

use super::scenario::Network;
use super::scenario::Topology;

/// Virtual time, from the beginning of the simulation.
pub type Nanos = u64;

/// A cluster's connection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Bits per second toward the others.
    pub up: u64,
    /// Bits per second from the others.
    pub down: u64,
    /// To the middle of the network.
    pub delay: Nanos,
    /// Part of the packets that are lost, on the way out or in.
    pub loss: f64,
}

/// Everything that does not change from round to round.
#[derive(Clone, Debug, PartialEq)]
pub struct Net {
    /// By cluster.
    pub links: Vec<Link>,
    /// Who carries updates.
    pub topology: Topology,
    /// Peers that a peer forwards to, in a tree.
    pub fanout: usize,
    /// Bits of a packet.
    pub packet_bits: u64,
    /// What a byte of an update counts.
    pub scale: f64,
}

impl Net {
    /// The network of clusters with the given connections.
    pub fn new(network: &Network, links: Vec<Link>) -> Self {
        Self {
            links,
            topology: network.topology,
            fanout: network.fanout,
            packet_bits: network.packet_bytes * 8,
            scale: network.scale,
        }
    }

    /// Bytes that `bytes` of an update count on the links.
    pub fn scaled(&self, bytes: u64) -> u64 {
        (bytes as f64 * self.scale).ceil() as u64
    }
}

/// Milliseconds as nanoseconds, rounded.
pub fn from_ms(ms: f64) -> Nanos {
    (ms * 1e6).round() as Nanos
}

/// Seconds as nanoseconds, rounded.
pub fn from_s(s: f64) -> Nanos {
    (s * 1e9).round() as Nanos
}

/// Nanoseconds as seconds.
pub fn to_s(nanos: Nanos) -> f64 {
    nanos as f64 / 1e9
}
