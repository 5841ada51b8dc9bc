//! What a rule remembers from round to round.

use std::collections::BTreeMap;

use super::Contribution;
use super::Error;
use super::MAX_PEERS;
use crate::codec;
use crate::codec::CHUNK;
use crate::codec::Codes;
use crate::codec::Layout;
use crate::codec::MAX_EXPONENT;
use crate::codec::MIN_EXPONENT;
use crate::crypto::PeerId;

/// The previous aggregate and the scores of peers: decides the next aggregate's bits, and so
/// belongs into checkpoints. Rules that look at neither keep it empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Flat, of the layout; empty before the first round.
    previous: Vec<f32>,
    /// At most [`MAX_PEERS`]: who has been away longest is forgotten first.
    scores: BTreeMap<PeerId, Score>,
}

/// A peer's trust.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Score {
    value: f64,
    /// The last round with an update of the peer.
    round: u64,
}

impl Memory {
    /// The previous aggregate; empty if there is none.
    pub fn previous(&self) -> &[f32] {
        &self.previous
    }

    /// A peer's trust, from -1 to 1; none for one who never contributed.
    pub fn score(&self, peer: &PeerId) -> Option<f64> {
        self.scores.get(peer).map(|score| score.value)
    }

    pub(super) fn remember(&mut self, aggregate: &[f32]) {
        self.previous.clear();
        self.previous.extend_from_slice(aggregate);
    }

    pub(super) fn rate(&mut self, round: u64, scores: impl Iterator<Item = (PeerId, f64)>) {
        self.scores.extend(scores.map(|(peer, value)| (peer, Score { value, round })));
        while self.scores.len() > MAX_PEERS {
            let oldest = self.scores.iter().min_by_key(|(_, score)| score.round);
            let Some(peer) = oldest.map(|(peer, _)| *peer) else { break };
            self.scores.remove(&peer);
        }
    }

    /// Version 1, little-endian: version (u32), elements (u64), scores (u32), the previous aggregate
    /// (f32 each), then for every peer, ascending, its identity, score (f64) and round (u64).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = VERSION.to_le_bytes().to_vec();
        bytes.extend((self.previous.len() as u64).to_le_bytes());
        bytes.extend((self.scores.len() as u32).to_le_bytes());
        self.previous.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
        for (peer, score) in &self.scores {
            bytes.extend(peer.0);
            bytes.extend(score.value.to_le_bytes());
            bytes.extend(score.round.to_le_bytes());
        }
        bytes
    }

    /// Reads [`Self::to_bytes`], for a model of `elements` elements; anything else is an error.
    pub fn from_bytes(elements: usize, bytes: &[u8]) -> Result<Self, Error> {
        let wrong = |what| Error::Bytes { what };
        let short = wrong("a memory that ends too early");
        let (version, rest) = bytes.split_first_chunk::<4>().ok_or(short.clone())?;
        if u32::from_le_bytes(*version) != VERSION {
            return Err(wrong("a memory of another version"));
        }
        let (found, rest) = rest.split_first_chunk::<8>().ok_or(short.clone())?;
        let (count, rest) = rest.split_first_chunk::<4>().ok_or(short)?;
        let (found, count) = (u64::from_le_bytes(*found), u32::from_le_bytes(*count) as usize);
        if found != 0 && found != elements as u64 {
            return Err(wrong("a memory of another model"));
        }
        if count > MAX_PEERS || rest.len() as u64 != 4 * found + (count * SCORE_BYTES) as u64 {
            return Err(wrong("a memory of another length than it says"));
        }
        let (values, scores) = rest.split_at(4 * found as usize);
        let values = values.as_chunks::<4>().0;
        let previous: Vec<f32> = values.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if !previous.iter().all(|x| x.is_finite()) {
            return Err(wrong("a memory of a value that is not finite"));
        }
        let scores = scores.as_chunks::<SCORE_BYTES>().0.iter().map(score).collect::<Vec<_>>();
        let ascend = scores.is_sorted_by(|a, b| a.0 < b.0);
        if !ascend || !scores.iter().all(|(_, s)| (-1.0..=1.0).contains(&s.value)) {
            return Err(wrong("a memory of scores that do not ascend by peer, or exceed 1"));
        }
        Ok(Self { previous, scores: scores.into_iter().collect() })
    }
}

/// The previous aggregate as a vector among the updates: every chunk on the grid of its largest
/// magnitude with 24 bits, nearest, ties to even.
impl Contribution for (&Memory, &Layout) {
    fn block(&self, index: usize, codes: &mut Codes) -> Result<(), codec::Error> {
        let (memory, layout) = self;
        codes.clear();
        for chunk in memory.previous[layout.blocks()[index].clone()].chunks(CHUNK) {
            let largest = chunk.iter().fold(0.0f32, |m, x| m.max(x.abs()));
            let exponent = (largest.to_bits() >> 23) as i32 - 127 - 23;
            let exponent = exponent.clamp(MIN_EXPONENT, MAX_EXPONENT);
            // A power of two: division is exact, and only the rounding to an integer rounds.
            let step = super::exact_sum::power_of_two(exponent);
            let code = |x: &f32| (f64::from(*x) / step).round_ties_even() as i32;
            codes.push_dense(exponent, chunk.iter().map(code));
        }
        Ok(())
    }
}

fn score(bytes: &[u8; SCORE_BYTES]) -> (PeerId, Score) {
    let mut id = [0; 32];
    id.copy_from_slice(&bytes[..32]);
    let word = |at: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[at..at + 8]);
        u64::from_le_bytes(word)
    };
    (PeerId(id), Score { value: f64::from_bits(word(32)), round: word(40) })
}

const VERSION: u32 = 1;
const SCORE_BYTES: usize = 32 + 8 + 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::MAX_CODE;

    fn memory() -> Memory {
        let mut memory = Memory::default();
        memory.remember(&[1.0, -2.5, f32::MIN_POSITIVE / 4.0, 0.0]);
        memory.rate(7, [(PeerId::numbered(3), 0.5), (PeerId::numbered(1), -1.0)].into_iter());
        memory
    }

    #[test]
    fn bytes_come_back_and_others_do_not() {
        let bytes = memory().to_bytes();
        assert_eq!(Memory::from_bytes(4, &bytes), Ok(memory()));
        assert_eq!(Memory::from_bytes(4, &Memory::default().to_bytes()), Ok(Memory::default()));
        assert!(Memory::from_bytes(5, &bytes).is_err(), "another model");
        for end in 0..bytes.len() {
            assert!(Memory::from_bytes(4, &bytes[..end]).is_err(), "{end}");
        }
        let change = |at: usize, with: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + with.len()].copy_from_slice(with);
            bytes
        };
        let head = 4 + 8 + 4;
        for (at, with) in [
            (0, &2u32.to_le_bytes()[..]),
            (4, &u64::MAX.to_le_bytes()),
            (12, &u32::MAX.to_le_bytes()),
            (head, &f32::NAN.to_le_bytes()),
            (head + 16 + 32, &f64::NAN.to_le_bytes()),
            (head + 16 + 32, &1.5f64.to_le_bytes()),
            (head + 16, &[255; 32]),
        ] {
            assert!(Memory::from_bytes(4, &change(at, with)).is_err(), "{at} {with:?}");
        }
    }

    #[test]
    fn who_was_away_longest_is_forgotten_first() {
        let mut memory = memory();
        for round in 8..8 + MAX_PEERS as u64 - 1 {
            memory.rate(round, [(PeerId::numbered(round), 0.0)].into_iter());
        }
        assert_eq!(memory.scores.len(), MAX_PEERS);
        let known = |id| memory.score(&PeerId::numbered(id)).is_some();
        assert!(!known(1) && known(3) && known(8));
    }

    #[test]
    fn the_previous_aggregate_is_a_vector_of_codes() {
        let layout = Layout::new([("a", 3), ("b", 2)]);
        let mut memory = Memory::default();
        let largest = (MAX_CODE as f32) * 2f32.powi(MAX_EXPONENT);
        let values = [1.5, -largest, 0.0, 3.0 * f32::MIN_POSITIVE, -1e-45];
        memory.remember(&values);
        let (mut codes, mut written) = (Codes::default(), [f32::NAN; 5]);
        for (i, block) in layout.blocks().iter().enumerate() {
            (&memory, &layout).block(i, &mut codes).expect("codes");
            codes.write_to(&mut written[block.clone()]);
        }
        assert_eq!(written, [0.0, -largest, 0.0, 3.0 * f32::MIN_POSITIVE, 0.0]);
    }
}
