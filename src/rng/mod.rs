//! Random numbers by address: a pure function of (seed, purpose, step, index), with no state.
//!
//! Any number can be recomputed alone, by anyone, in any order and on any machine: the generator
//! is integer arithmetic, and the distributions use exact or software floating point only.

mod distribution;
mod philox;

pub use distribution::fill_normal;
pub use philox::philox4x32;

/// What a random number is for. The numbers are part of the format: never reuse or change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// Initial weights.
    Init = 1,
    /// Order of the training sequences; step is the epoch.
    Permutation = 2,
    /// Which blocks of a corpus are held out.
    HeldOut = 3,
    /// The tables of the synthetic language.
    SyntheticTables = 4,
    /// The text of the synthetic language; step is the sequence.
    SyntheticText = 5,
    /// Sampling of generated text.
    Sampling = 6,
    /// Inputs of tests and benches.
    Test = 7,
    /// Which updates share a bucket before aggregation; step is the round.
    Bucketing = 8,
    /// What a simulated network, its faults and its churn do.
    Simulation = 9,
    /// What a simulated attacker sends; step is the round.
    Attack = 10,
}

/// The address of 128 random bits.
///
/// The Philox key is the seed, low word first. The counter's words are `index` (two words, low
/// first), the low word of `step`, and `purpose << 24 | attempt << 16 | step >> 32`, where
/// `attempt` is 0 but inside [`Address::below`]. Of `step` the low 48 bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// The run's or the dataset's seed.
    pub seed: u64,
    /// Keeps streams of different use apart.
    pub purpose: Purpose,
    /// Which step, epoch, tensor or sequence; below 2^48.
    pub step: u64,
    /// Which number within the step.
    pub index: u64,
}

impl Address {
    /// The same stream at another index.
    pub fn at(self, index: u64) -> Self {
        Self { index, ..self }
    }

    /// The 128 bits at this address, as four words.
    pub fn words(self) -> [u32; 4] {
        self.attempt(0)
    }

    /// The first two words as one number, the first in the low half.
    pub fn bits64(self) -> u64 {
        let [lo, hi, _, _] = self.words();
        join(lo, hi)
    }

    fn attempt(self, attempt: u8) -> [u32; 4] {
        let step_high = (self.step >> 32) as u32 & 0xffff;
        let tag = (self.purpose as u32) << 24 | u32::from(attempt) << 16 | step_high;
        let counter = [self.index as u32, (self.index >> 32) as u32, self.step as u32, tag];
        philox4x32(counter, [self.seed as u32, (self.seed >> 32) as u32])
    }
}

/// Two words as one number, the first in the low half.
fn join(lo: u32, hi: u32) -> u64 {
    u64::from(hi) << 32 | u64::from(lo)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Address = Address { seed: 1, purpose: Purpose::Test, step: 2, index: 3 };

    #[test]
    fn every_part_of_the_address_counts() {
        let parts = [
            BASE,
            Address { seed: 1 << 32, ..BASE },
            Address { seed: 2, ..BASE },
            Address { purpose: Purpose::Init, ..BASE },
            Address { step: 3, ..BASE },
            Address { step: 2 + (1 << 47), ..BASE },
            BASE.at(4),
            BASE.at(3 + (1 << 63)),
        ];
        for (i, a) in parts.iter().enumerate() {
            for b in &parts[..i] {
                assert_ne!(a.words(), b.words(), "{a:?} {b:?}");
            }
        }
    }

    /// Golden: the layout of the counter is a format.
    #[test]
    fn address_layout_is_fixed() {
        let address = Address {
            seed: 0x299f_31d0_a409_3822,
            purpose: Purpose::Init,
            step: 0x0370_1319_8a2e,
            index: 0x85a3_08d3_243f_6a88,
        };
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0100_0370];
        assert_eq!(address.words(), philox4x32(counter, [0xa409_3822, 0x299f_31d0]));
        assert_eq!(address.bits64() as u32, address.words()[0]);
    }
}
