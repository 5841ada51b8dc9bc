//! BLAKE3 with a domain per use, so that a hash of one kind of thing never passes for another.
//!
//! A domain is a context string of BLAKE3's key derivation mode (BLAKE3 paper, section 2.3).

use std::fmt;
use std::io;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What is hashed. The context strings are part of every format: never change one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Domain {
    /// The payload of a token shard.
    TokenShard,
    /// A tokenizer file.
    Tokenizer,
    /// A text that was prepared.
    InputText,
    /// The identity of a dataset.
    Dataset,
    /// The data of one tensor or file of a checkpoint.
    CheckpointData,
    /// The identity of a training state.
    TrainingState,
    /// A run's plan, or all its settings.
    Plan,
    /// A program, to compare those of a job's ranks.
    Program,
    /// Results of an operation, to compare those of two runs or devices.
    Bench,
    /// The tensors of an update and their division into blocks.
    UpdateLayout,
    /// A whole encoded update.
    Update,
    /// Outer weights, momentum and residuals.
    OuterState,
    /// A scenario of a simulation.
    Scenario,
    /// A leaf of a Merkle tree.
    MerkleLeaf,
    /// A node of a Merkle tree.
    MerkleNode,
    /// Inputs and filters of a prepared folder.
    Provenance,
    /// All that a manifest says: the root of a dataset.
    DatasetRoot,
    /// The root of a dataset, as its maker signs it.
    SignedDataset,
    /// A document, to find its copies.
    Document,
    /// What a preparation is, to go on with one that was broken off.
    Preparation,
}

impl Domain {
    /// The context string.
    pub const fn context(self) -> &'static str {
        match self {
            Self::TokenShard => "neuroshard 2025 v1 token shard",
            Self::Tokenizer => "neuroshard 2025 v1 tokenizer",
            Self::InputText => "neuroshard 2025 v1 input text",
            Self::Dataset => "neuroshard 2025 v1 dataset",
            Self::CheckpointData => "neuroshard 2025 v1 checkpoint data",
            Self::TrainingState => "neuroshard 2025 v1 training state",
            Self::Plan => "neuroshard 2025 v1 plan",
            Self::Program => "neuroshard 2025 v1 program",
            Self::Bench => "neuroshard 2025 v1 bench",
            Self::UpdateLayout => "neuroshard 2025 v1 update layout",
            Self::Update => "neuroshard 2025 v1 update",
            Self::OuterState => "neuroshard 2025 v1 outer state",
            Self::Scenario => "neuroshard 2025 v1 scenario",
            Self::MerkleLeaf => "neuroshard 2025 v1 merkle leaf",
            Self::MerkleNode => "neuroshard 2025 v1 merkle node",
            Self::Provenance => "neuroshard 2025 v1 provenance",
            Self::DatasetRoot => "neuroshard 2025 v1 dataset root",
            Self::SignedDataset => "neuroshard 2025 v1 signed dataset",
            Self::Document => "neuroshard 2025 v1 document",
            Self::Preparation => "neuroshard 2025 v1 preparation",
        }
    }
}

/// A BLAKE3 hash. Text form: 64 lower-case hex digits, also in files.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The hash of `bytes` in `domain`.
    pub fn of(domain: Domain, bytes: &[u8]) -> Self {
        let mut hasher = Hasher::new(domain);
        hasher.update_rayon(bytes);
        hasher.finish()
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A hash being computed over a stream.
#[derive(Clone, Debug)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// An empty stream in `domain`.
    pub fn new(domain: Domain) -> Self {
        Self(blake3::Hasher::new_derive_key(domain.context()))
    }

    /// Appends `bytes`, on this thread.
    pub fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// Appends `bytes` on all threads: for buffers of 128 KiB and more.
    pub fn update_rayon(&mut self, bytes: &[u8]) -> &mut Self {
        if bytes.len() < PARALLEL_BYTES {
            self.0.update(bytes);
        } else {
            self.0.update_rayon(bytes);
        }
        self
    }

    /// The hash of all that was appended.
    pub fn finish(&self) -> Hash {
        Hash(*self.0.finalize().as_bytes())
    }
}

/// The hash of a file's bytes, memory-mapped and on all threads.
pub fn hash_file(domain: Domain, path: &Path) -> io::Result<Hash> {
    let mut hasher = Hasher::new(domain);
    hasher.0.update_mmap_rayon(path)?;
    Ok(hasher.finish())
}

/// Text that is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a hash is 64 hexadecimal digits")]
pub struct HashParseError;

impl FromStr for Hash {
    type Err = HashParseError;

    fn from_str(text: &str) -> Result<Self, HashParseError> {
        // Only lower case: a hash has one text form.
        if text.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(HashParseError);
        }
        blake3::Hash::from_hex(text).map(|h| Self(*h.as_bytes())).map_err(|_| HashParseError)
    }
}

impl TryFrom<String> for Hash {
    type Error = HashParseError;

    fn try_from(text: String) -> Result<Self, HashParseError> {
        text.parse()
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> Self {
        hash.to_string()
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

const PARALLEL_BYTES: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let hash = Hash::of(Domain::Dataset, b"abc");
        assert_eq!(hash.to_string().parse(), Ok(hash));
        let json = serde_json::to_string(&hash).unwrap();
        assert_eq!(json, format!("\"{hash}\""));
        assert_eq!(serde_json::from_str::<Hash>(&json).unwrap(), hash);
    }

    #[test]
    fn other_text_is_refused() {
        let good = Hash::of(Domain::Dataset, b"abc").to_string();
        for bad in ["", "00", &good[1..], &format!("{good}0"), &good.to_uppercase(), "é"] {
            assert_eq!(bad.parse::<Hash>(), Err(HashParseError), "{bad}");
        }
        assert!(serde_json::from_str::<Hash>("\"xyz\"").is_err());
    }

    #[test]
    fn domains_differ_and_streams_equal_wholes() {
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i % 251) as u8).collect();
        let whole = Hash::of(Domain::TokenShard, &bytes);
        assert_ne!(whole, Hash::of(Domain::Tokenizer, &bytes));
        let mut hasher = Hasher::new(Domain::TokenShard);
        hasher.update(&bytes[..1]).update_rayon(&bytes[1..200_001]).update(&bytes[200_001..]);
        assert_eq!(hasher.finish(), whole);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        assert_eq!(hash_file(Domain::TokenShard, file.path()).unwrap(), whole);
        assert_eq!(whole.0, blake3::derive_key(Domain::TokenShard.context(), &bytes));
    }
}
