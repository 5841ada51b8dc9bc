//! Packets that are lost, and what sending them again costs.

use crate::rng::Address;
use crate::rng::Purpose;

/// Random numbers of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Dice {
    /// The scenario's seed.
    pub seed: u64,
    /// The exchange's number.
    pub exchange: u64,
}

/// What a random number of a simulation is for: the top byte of its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Use {
    /// Lost packets.
    Loss = 1,
    /// How long computing takes.
    Jitter = 2,
    /// Whether a cluster is slow.
    Slow = 3,
    /// When it crashes.
    Crash = 4,
    /// Whether and how its update is damaged.
    Damage = 5,
    /// The toy's gradient noise.
    Noise = 6,
    /// The toy's optima and examples.
    Toy = 7,
}

impl Dice {
    /// Random number `index` (below 2^56) for `what`.
    pub fn at(self, what: Use, index: u64) -> Address {
        debug_assert!(index < 1 << 56);
        let index = (what as u64) << 56 | index;
        Address { seed: self.seed, purpose: Purpose::Simulation, step: self.exchange, index }
    }
}

/// A transfer with its repetitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Bits on the way, those sent again included.
    pub bits: u64,
    /// Times that lost packets were sent again: each costs a round trip.
    pub repeats: u64,
}

/// What it takes to send `bits` as packets of `packet_bits` with a part `loss` of them lost. `first`
/// is the first of its random numbers, of which it has 2^24.
pub fn send(bits: u64, packet_bits: u64, loss: f64, first: Address) -> Sent {
    let mut sent = Sent { bits, repeats: 0 };
    let mut packets = bits.div_ceil(packet_bits);
    while loss > 0.0 && sent.repeats < MAX_REPEATS {
        packets = lost(packets, loss, first.at(first.index + (sent.repeats << 16)));
        if packets == 0 {
            break;
        }
        // The last packet may be shorter: which are lost is not drawn, only how many.
        sent.bits = sent.bits.saturating_add(packets.saturating_mul(packet_bits).min(bits));
        sent.repeats += 1;
    }
    sent
}

/// How many of `packets` are lost: binomial, drawn one by one where they are few, else from the
/// normal distribution of the same mean and variance.
fn lost(packets: u64, loss: f64, first: Address) -> u64 {
    if packets <= FEW {
        let is_lost = |i: &u64| first.at(first.index + i).uniform_f64() < loss;
        return (0..packets).filter(is_lost).count() as u64;
    }
    let mean = packets as f64 * loss;
    let deviation = (mean * (1.0 - loss)).sqrt();
    let drawn = mean + deviation * f64::from(first.normal_f32());
    (drawn.round().max(0.0) as u64).min(packets)
}

/// Packets that are drawn one by one.
const FEW: u64 = 256;
/// With half of all lost, 2^40 packets are through after 40 repetitions.
const MAX_REPEATS: u64 = 200;

#[cfg(test)]
mod tests {
    use super::*;

    const DICE: Dice = Dice { seed: 5, exchange: 9 };

    #[test]
    fn lost_packets_are_sent_again() {
        let packet = 9600;
        for (packets, loss) in [(1, 0.3), (40, 0.02), (256, 0.1), (257, 0.1), (100_000, 0.01)] {
            let (mut bits, mut repeats, n) = (0.0, 0.0, 2000);
            for i in 0..n {
                let sent = send(packets * packet, packet, loss, DICE.at(Use::Loss, i << 24));
                (bits, repeats) = (bits + sent.bits as f64, repeats + sent.repeats as f64);
            }
            let mean = bits / f64::from(n as u32) / (packets * packet) as f64;
            // Every packet is sent 1 / (1 - loss) times on average; 5 deviations of the estimate.
            let deviation = (loss / (packets as f64 * n as f64)).sqrt() / (1.0 - loss);
            let expected = 1.0 / (1.0 - loss);
            assert!((mean - expected).abs() < 5.0 * deviation + 1e-5, "{packets} {loss} {mean}");
            assert!(repeats > 0.0);
        }
    }

    #[test]
    fn without_loss_nothing_is_drawn() {
        let sent = send(12_345, 9600, 0.0, DICE.at(Use::Loss, 0));
        assert_eq!(sent, Sent { bits: 12_345, repeats: 0 });
        assert_eq!(send(0, 9600, 0.5, DICE.at(Use::Loss, 0)), Sent { bits: 0, repeats: 0 });
    }
}
