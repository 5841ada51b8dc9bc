//! Bytes that are no update, or not the one that is due. They must be refused, counted and named; none
//! may reach an aggregate.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::Attack;
use super::Sent;
use super::View;
use crate::rng::Address;
use crate::rng::Purpose;

/// What is wrong with the bytes, or the values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// Random bytes, as many as an honest update has.
    #[default]
    Garbage,
    /// An honest update whose last bytes are random: most often not canonical.
    GarbageTail,
    /// An honest update whose last bytes are all ones: NaN in any IEEE format.
    Ones,
    /// An honest update with one bit turned.
    BitFlip,
    /// The first half of an honest update.
    Truncated,
    /// An honest update and a byte more.
    Trailing,
    /// An honest update of the round before (the first round: of the next).
    OldRound,
    /// An honest update of the round to come.
    NextRound,
    /// No byte.
    Empty,
    /// An honest update and 4 MiB of zeros.
    Long,
    /// Values as large as f32 has them: well formed, to be dealt with by the rule.
    Huge,
    /// Values too small for normal f32: well formed.
    Subnormal,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 12] = [
        Self::Garbage,
        Self::GarbageTail,
        Self::Ones,
        Self::BitFlip,
        Self::Truncated,
        Self::Trailing,
        Self::OldRound,
        Self::NextRound,
        Self::Empty,
        Self::Long,
        Self::Huge,
        Self::Subnormal,
    ];
}

#[derive(Debug)]
pub(super) struct Wire {
    pub fault: Fault,
}

impl Attack for Wire {
    fn round(&mut self, view: &View<'_>) -> Vec<Sent> {
        let sent = |k: &super::Known<'_>| self.sent(view, k.cluster as u64, k.update);
        view.colluders.iter().map(sent).collect()
    }
}

impl Wire {
    fn sent(&self, view: &View<'_>, cluster: u64, own: &[f32]) -> Sent {
        let scaled = |factor: f32| {
            let finite = |x: &f32| (x * factor).clamp(f32::MIN, f32::MAX);
            own.iter().map(finite).collect()
        };
        match self.fault {
            Fault::Huge => return Sent::Dense(scaled(f32::MAX)),
            Fault::Subnormal => return Sent::Dense(scaled(f32::MIN_POSITIVE / 1024.0)),
            Fault::Empty => return Sent::Bytes(Vec::new()),
            Fault::OldRound => {
                let round = view.round.checked_sub(1).unwrap_or(view.round + 1);
                return Sent::Bytes((view.encode)(own, round));
            }
            Fault::NextRound => return Sent::Bytes((view.encode)(own, view.round + 1)),
            _ => {}
        }
        let mut bytes = (view.encode)(own, view.round);
        let random = Random { view, cluster };
        let tail = bytes.len() - TAIL_BYTES.min(bytes.len() / 4);
        match self.fault {
            Fault::Garbage => random.fill(&mut bytes),
            Fault::GarbageTail => random.fill(&mut bytes[tail..]),
            Fault::Ones => bytes[tail..].fill(0xff),
            Fault::BitFlip => {
                let bit = random.address(0).below(8 * bytes.len() as u64);
                if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Fault::Truncated => bytes.truncate(bytes.len() / 2),
            Fault::Trailing => bytes.push(0),
            _ => bytes.resize(bytes.len() + LONG_BYTES, 0),
        }
        Sent::Bytes(bytes)
    }
}

/// Random bits of an attacker in a round.
struct Random<'a> {
    view: &'a View<'a>,
    cluster: u64,
}

impl Random<'_> {
    fn address(&self, index: u64) -> Address {
        let index = u64::from(self.view.fragment) << 56 | self.cluster << 36 | index;
        Address { seed: self.view.seed, purpose: Purpose::Attack, step: self.view.round, index }
    }

    fn fill(&self, bytes: &mut [u8]) {
        for (i, bytes) in bytes.chunks_mut(8).enumerate() {
            let random = self.address(i as u64).bits64().to_le_bytes();
            bytes.copy_from_slice(&random[..bytes.len()]);
        }
    }
}

/// Bytes at the end that a fault spoils: inside the last block of a real update.
const TAIL_BYTES: usize = 64;

/// Bytes too many.
const LONG_BYTES: usize = 4 << 20;

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::Kind;
    use super::super::testing::Room;
    use super::*;
    use crate::codec;
    use crate::codec::Update;

    /// No fault but those that are well formed yields an update that can be read, except that a turned
    /// bit may still be a value.
    #[test]
    fn faulty_bytes_are_refused_and_well_formed_ones_are_finite() {
        let room = Room { round: 3, ..Room::with_tensors(3, 2, &[("a", 5000), ("b", 7)]) };
        let codec = codec::Config::default().codec().expect("a codec");
        let readable = |bytes: &[u8]| {
            let update = Update::parse(bytes, codec.as_ref(), &room.layout(), &room.about(3));
            let mut codes = codec::Codes::default();
            update.and_then(|u| (0..2).try_for_each(|i| u.block(i, &mut codes)))
        };
        for fault in Fault::ALL {
            let config = Config { fault: Some(fault), ..Config::of(Kind::Wire) };
            let sent = room.view(|view| config.attack().expect("valid").round(&view));
            assert_eq!(sent.len(), 2);
            for (own, sent) in room.colluders.iter().zip(&sent) {
                match sent {
                    Sent::Dense(values) => {
                        assert!([Fault::Huge, Fault::Subnormal].contains(&fault));
                        assert!(values.iter().all(|x| x.is_finite()));
                        let signs = |(a, b): (&f32, &f32)| *b == 0.0 || a.signum() == b.signum();
                        assert!(values.iter().zip(own).all(signs));
                    }
                    Sent::Bytes(bytes) if fault == Fault::BitFlip => {
                        let honest = room.encode(own, 3);
                        let turned = bytes.iter().zip(&honest).map(|(a, b)| (a ^ b).count_ones());
                        assert_eq!(turned.sum::<u32>(), 1);
                    }
                    Sent::Bytes(bytes) if [Fault::Ones, Fault::GarbageTail].contains(&fault) => {
                        // The codec decides; it must not panic.
                        let _ = readable(bytes);
                        assert_ne!(*bytes, room.encode(own, 3));
                    }
                    Sent::Bytes(bytes) => assert!(readable(bytes).is_err(), "{fault:?}"),
                    other => panic!("{fault:?} sent {other:?}"),
                }
            }
        }
    }

    #[test]
    fn faults_are_the_same_every_time_and_differ_between_attackers() {
        let room = Room::of(2, 2, 600);
        let config = Config { fault: Some(Fault::Garbage), ..Config::of(Kind::Wire) };
        let of = |room: &Room| room.view(|view| config.attack().expect("valid").round(&view));
        assert_eq!(of(&room), of(&room));
        assert_ne!(of(&room)[0], of(&room)[1]);
        assert_ne!(of(&Room { round: 1, ..room.clone() }), of(&room));
    }
}
