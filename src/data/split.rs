//! Which tokens are trained on and which are held out, by arithmetic.
//!
//! The corpus is one stream of tokens, cut into blocks of `block_tokens`. Of every group of
//! `heldout_one_in` consecutive blocks one is held out: the one that `below` picks at
//! (seed, `Purpose::HeldOut`, step 0, index = group). Of the last, smaller group of `s` blocks one
//! is held out if the pick is below `s`; if it is the only group, the pick is among its `s`.
//! What is left after the last whole block is trained on.
//!
//! A block holds `(block_tokens - 1) / seq_len` sequences. Sequence `j` reads the tokens
//! `j * seq_len ..= (j + 1) * seq_len` of its block: inputs, and the next token of each. No
//! sequence leaves its block, so no held-out token is ever seen in training.

use serde::{Deserialize, Serialize};

use super::DataError;
use crate::rng::Address;
use crate::rng::Purpose;

/// The rule, as the manifest has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitRule {
    /// Tokens of a block; sequences are shorter.
    pub block_tokens: u64,
    /// One block of so many is held out.
    pub heldout_one_in: u64,
    /// Key of the choice.
    pub seed: u64,
}

impl SplitRule {
    /// The block for a corpus of `tokens`: 8192 predictions, halved down to 1024 while there are
    /// fewer than 64 blocks.
    pub fn default_block_tokens(tokens: u64) -> u64 {
        let mut predictions = 8192;
        while predictions > 1024 && tokens / (predictions + 1) < 64 {
            predictions /= 2;
        }
        predictions + 1
    }
}

/// A corpus under its rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Split {
    rule: SplitRule,
    tokens: u64,
    /// Groups of which one block is held out for certain.
    groups: u64,
    /// Blocks held out.
    heldout_blocks: u64,
    train_blocks: u64,
}

impl Split {
    /// Applies a rule to a corpus of `tokens`.
    pub fn new(rule: SplitRule, tokens: u64) -> Result<Self, DataError> {
        let bounds = [
            ("block_tokens", rule.block_tokens, 2, MAX_BLOCK_TOKENS, "2 to 16777217"),
            ("heldout_one_in", rule.heldout_one_in, 2, 1 << 20, "2 to 1048576"),
        ];
        for (key, value, least, most, bounds) in bounds {
            if !(least..=most).contains(&value) {
                return Err(DataError::OutOfRange { key, value, bounds });
            }
        }
        let blocks = tokens / rule.block_tokens;
        if blocks < 2 {
            return Err(DataError::TooLittleText { tokens, block_tokens: rule.block_tokens });
        }
        let (groups, rest) = (blocks / rule.heldout_one_in, blocks % rule.heldout_one_in);
        let mut split = Self { rule, tokens, groups, heldout_blocks: 0, train_blocks: 0 };
        split.heldout_blocks = groups + u64::from(split.pick(groups) < rest);
        split.train_blocks = blocks - split.heldout_blocks;
        Ok(split)
    }

    /// The longest sequences that blocks can hold.
    pub fn max_seq_len(&self) -> u64 {
        self.rule.block_tokens - 1
    }

    /// Sequences trained on.
    pub fn num_train(&self, seq_len: u64) -> u64 {
        self.train_blocks * self.per_block(seq_len) + self.tail_len().saturating_sub(1) / seq_len
    }

    /// Sequences held out.
    pub fn num_heldout(&self, seq_len: u64) -> u64 {
        self.heldout_blocks * self.per_block(seq_len)
    }

    /// The first token of training sequence `index`, which is below [`Self::num_train`].
    pub fn train_start(&self, index: u64, seq_len: u64) -> u64 {
        let (k, j) = (index / self.per_block(seq_len), index % self.per_block(seq_len));
        if k >= self.train_blocks {
            let in_tail = index - self.train_blocks * self.per_block(seq_len);
            return self.tokens - self.tail_len() + in_tail * seq_len;
        }
        let per_group = self.rule.heldout_one_in - 1;
        let group = (k / per_group).min(self.groups);
        let place = k - group * per_group;
        let skip = u64::from(place >= self.pick(group));
        let block = group * self.rule.heldout_one_in + place + skip;
        block * self.rule.block_tokens + j * seq_len
    }

    /// The first token of held-out sequence `index`, which is below [`Self::num_heldout`].
    pub fn heldout_start(&self, index: u64, seq_len: u64) -> u64 {
        let (group, j) = (index / self.per_block(seq_len), index % self.per_block(seq_len));
        let block = group * self.rule.heldout_one_in + self.pick(group);
        block * self.rule.block_tokens + j * seq_len
    }

    /// Which block of a group is held out.
    fn pick(&self, group: u64) -> u64 {
        let address =
            Address { seed: self.rule.seed, purpose: Purpose::HeldOut, step: 0, index: group };
        let only_group = self.groups == 0;
        let among = if only_group { self.blocks() } else { self.rule.heldout_one_in };
        address.below(among)
    }

    fn blocks(&self) -> u64 {
        self.tokens / self.rule.block_tokens
    }

    fn tail_len(&self) -> u64 {
        self.tokens % self.rule.block_tokens
    }

    fn per_block(&self, seq_len: u64) -> u64 {
        (self.rule.block_tokens - 1) / seq_len
    }
}

const MAX_BLOCK_TOKENS: u64 = (1 << 24) + 1;

#[cfg(test)]
mod tests {
    use super::*;

    /// Every token's use, counted by brute force.
    fn check(rule: SplitRule, tokens: u64, seq_len: u64) {
        let split = Split::new(rule, tokens).unwrap();
        let mut used = vec![' '; tokens as usize];
        let mut targets = vec![0; tokens as usize];
        let heldout: Vec<_> =
            (0..split.num_heldout(seq_len)).map(|i| split.heldout_start(i, seq_len)).collect();
        let train: Vec<_> =
            (0..split.num_train(seq_len)).map(|i| split.train_start(i, seq_len)).collect();
        for (starts, mark) in [(&heldout, 'h'), (&train, 't')] {
            for &start in starts {
                assert!(start + seq_len < tokens, "{rule:?} {tokens} {seq_len}");
                for p in start..=start + seq_len {
                    assert!([' ', mark].contains(&used[p as usize]), "{rule:?} {tokens} {p}");
                    used[p as usize] = mark;
                    targets[p as usize] += i32::from(p > start);
                }
            }
        }
        // No prediction twice; every whole block used.
        assert!(targets.iter().all(|&n| n <= 1), "{rule:?} {tokens} {seq_len}");
        let blocks = tokens / rule.block_tokens;
        for block in 0..blocks {
            assert_ne!(used[(block * rule.block_tokens) as usize], ' ', "{rule:?} {tokens}");
        }
        let per_block = (rule.block_tokens - 1) / seq_len;
        let held = heldout.len() as u64 / per_block;
        assert!(held >= 1 && held < blocks);
        assert!(held.abs_diff(blocks / rule.heldout_one_in) <= 1);
    }

    #[test]
    fn no_token_is_both_trained_on_and_held_out() {
        for heldout_one_in in [2, 3, 64] {
            for block_tokens in [2, 17, 33] {
                for tokens in [2, 3, 5, 63, 64, 65, 127, 128, 191, 200].map(|b| b * block_tokens) {
                    for extra in [0, 1, block_tokens - 1] {
                        for seq_len in [1, 2, 5, block_tokens - 1] {
                            let rule = SplitRule { block_tokens, heldout_one_in, seed: tokens };
                            if seq_len < block_tokens {
                                check(rule, tokens + extra, seq_len);
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn impossible_rules_and_small_texts_are_refused() {
        let rule = SplitRule { block_tokens: 17, heldout_one_in: 64, seed: 0 };
        assert!(matches!(Split::new(rule, 33), Err(DataError::TooLittleText { .. })));
        assert!(Split::new(rule, 34).is_ok());
        for (block_tokens, heldout_one_in) in [(1, 64), (0, 64), (u64::MAX, 64), (17, 1), (17, 0)] {
            let rule = SplitRule { block_tokens, heldout_one_in, seed: 0 };
            assert!(matches!(Split::new(rule, 1 << 40), Err(DataError::OutOfRange { .. })));
        }
    }

    #[test]
    fn blocks_shrink_with_the_corpus() {
        let blocks = [0, 66_000, 140_000, 270_000, 530_000, 1 << 40];
        assert_eq!(
            blocks.map(SplitRule::default_block_tokens),
            [1025, 1025, 2049, 4097, 8193, 8193]
        );
    }
}
