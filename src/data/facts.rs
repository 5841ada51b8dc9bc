//! What the root of a dataset commits to, besides the shards: enough to know where a sequence is.

use super::split::SplitRule;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;
use crate::crypto::merkle;

/// The facts of a dataset. `docs/DATA.md`, section 4, has their encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub tokenizer: Hash,
    pub vocab_size: u64,
    /// 2 or 4.
    pub token_bytes: u32,
    pub tokens: u64,
    pub documents: u64,
    pub split: SplitRule,
    pub shards: u64,
    /// Hash of inputs and filters.
    pub provenance: Hash,
}

impl Facts {
    /// Bytes of the encoding.
    pub const BYTES: usize = 124;

    /// The encoding: the only one.
    pub fn bytes(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        let SplitRule { block_tokens, heldout_one_in, seed } = self.split;
        out[..32].copy_from_slice(self.tokenizer.as_bytes());
        out[32..36].copy_from_slice(&self.token_bytes.to_le_bytes());
        let numbers = [
            self.vocab_size,
            self.tokens,
            self.documents,
            block_tokens,
            heldout_one_in,
            seed,
            self.shards,
        ];
        for (place, number) in out[36..92].chunks_exact_mut(8).zip(numbers) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        out[92..].copy_from_slice(self.provenance.as_bytes());
        out
    }

    /// The facts of an encoding, whose numbers may be anything.
    pub fn parse(bytes: &[u8; Self::BYTES]) -> Self {
        let number = |i: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[36 + 8 * i..44 + 8 * i]);
            u64::from_le_bytes(number)
        };
        let hash = |at: usize| {
            let mut hash = Hash([0; 32]);
            hash.0.copy_from_slice(&bytes[at..at + 32]);
            hash
        };
        Self {
            tokenizer: hash(0),
            token_bytes: u32::from_le_bytes([bytes[32], bytes[33], bytes[34], bytes[35]]),
            vocab_size: number(0),
            tokens: number(1),
            documents: number(2),
            split: SplitRule {
                block_tokens: number(3),
                heldout_one_in: number(4),
                seed: number(5),
            },
            shards: number(6),
            provenance: hash(92),
        }
    }

    /// The root of the dataset that has these facts, and `shards` as the root over its shards.
    pub fn root(&self, shards: &Hash) -> Hash {
        let mut hasher = Hasher::new(Domain::DatasetRoot);
        hasher.update(&VERSION.to_le_bytes()).update(&self.bytes()).update(shards.as_bytes());
        hasher.finish()
    }
}

/// A shard's leaf in the tree over all shards: where it starts in the stream, its tokens, its hash.
pub(super) fn shard_leaf(start: u64, tokens: u64, hash: &Hash) -> Hash {
    let mut record = [0; 48];
    record[..8].copy_from_slice(&start.to_le_bytes());
    record[8..16].copy_from_slice(&tokens.to_le_bytes());
    record[16..].copy_from_slice(hash.as_bytes());
    merkle::leaf(&record)
}

/// Of the formula of the root, and of manifests that have one.
const VERSION: u32 = 2;
