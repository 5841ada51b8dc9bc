//! `manifest.json` of a prepared folder: what it holds, and by which hashes to know it.
//!
//! Version 1. Roots over all shards and signatures will be fields of a later version.

use std::path::Path;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::DataError;
use super::shard::read_bounded;
use super::split::Split;
use super::split::SplitRule;
use super::tokenizer::MAX_VOCAB;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;

/// The contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of this format: 1.
    pub version: u32,
    /// Hash of `tokenizer.json`, domain `Tokenizer`.
    pub tokenizer: Hash,
    /// Tokens are below this.
    pub vocab_size: usize,
    /// Bytes of a token in the shards: 2 or 4.
    pub token_bytes: u32,
    /// Tokens in all shards.
    pub tokens: u64,
    /// Texts, each followed by one end-of-text token.
    pub documents: u64,
    /// What is held out.
    pub split: SplitRule,
    /// The shards, in the order of the stream.
    pub shards: Vec<ShardEntry>,
    /// The texts, in the order of the stream.
    pub inputs: Vec<InputEntry>,
}

/// A shard as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// Name within the folder.
    pub file: String,
    /// Number of tokens.
    pub tokens: u64,
    /// Hash of the tokens' bytes, domain `TokenShard`.
    pub hash: Hash,
}

/// A text as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputEntry {
    /// The file's name; below a folder, with the folder's name and the path within it.
    pub name: String,
    /// Bytes of text.
    pub bytes: u64,
    /// Hash of the text, domain `InputText`.
    pub hash: Hash,
}

impl Manifest {
    /// The version written here.
    pub const VERSION: u32 = 1;
    /// The manifest's name in its folder.
    pub const FILE: &str = "manifest.json";
    /// The tokenizer's name in the folder.
    pub const TOKENIZER_FILE: &str = "tokenizer.json";

    /// Reads and checks the manifest of a prepared folder.
    pub fn load(dir: &Path) -> Result<Self, DataError> {
        if !dir.join(Self::FILE).exists() {
            return Err(DataError::NotPrepared { dir: dir.into() });
        }
        let path = dir.join(Self::FILE);
        let bytes = read_bounded(&path, MAX_FILE_BYTES)?;
        let fail = |reason| DataError::Manifest { path: path.clone(), reason };
        // The version comes first: another version has other fields.
        let version: Version =
            serde_json::from_slice(&bytes).map_err(|e| fail(format!("not a manifest: {e}")))?;
        if version.version != Self::VERSION {
            return Err(fail(format!("version {} is unknown to this program", version.version)));
        }
        let manifest: Self = serde_json::from_slice(&bytes).map_err(|e| fail(e.to_string()))?;
        manifest.check().map_err(fail)?;
        Ok(manifest)
    }

    /// The split of this corpus.
    pub(super) fn split(&self) -> Result<Split, DataError> {
        Split::new(self.split, self.tokens)
    }

    /// What makes this data this data: tokenizer, shards and split, not the names of files.
    pub fn dataset_hash(&self) -> Hash {
        let mut hasher = Hasher::new(Domain::Dataset);
        hasher.update(b"prepared").update(self.tokenizer.as_bytes());
        let SplitRule { block_tokens, heldout_one_in, seed } = self.split;
        let numbers = [self.vocab_size as u64, self.tokens, block_tokens, heldout_one_in, seed];
        for number in numbers {
            hasher.update(&number.to_le_bytes());
        }
        for shard in &self.shards {
            hasher.update(&shard.tokens.to_le_bytes()).update(shard.hash.as_bytes());
        }
        hasher.finish()
    }

    fn check(&self) -> Result<(), String> {
        if !(1..=MAX_VOCAB).contains(&self.vocab_size) {
            return Err(format!("vocab_size = {}: must be 1 to {MAX_VOCAB}", self.vocab_size));
        }
        if self.token_bytes != token_bytes(self.vocab_size) {
            return Err(format!("token_bytes = {} does not fit vocab_size", self.token_bytes));
        }
        if self.shards.is_empty() || self.shards.len() > MAX_SHARDS {
            return Err(format!("{} shards: must be 1 to {MAX_SHARDS}", self.shards.len()));
        }
        let mut sum = 0u64;
        for ShardEntry { file, tokens, .. } in &self.shards {
            if Path::new(file).file_name() != Some(file.as_ref()) || file.contains('\\') {
                return Err(format!("shard {file:?}: must be a file in the same folder"));
            }
            if *tokens == 0 || *tokens > MAX_TOKENS {
                return Err(format!("shard {file:?}: {tokens} tokens"));
            }
            // At most 2^20 terms of 2^40 each.
            sum += tokens;
        }
        if sum != self.tokens {
            return Err(format!("tokens = {}, but the shards have {sum}", self.tokens));
        }
        if self.documents != self.inputs.len() as u64 {
            return Err(format!("documents = {}, inputs: {}", self.documents, self.inputs.len()));
        }
        Split::new(self.split, self.tokens).map(drop).map_err(|e| e.to_string())
    }
}

/// The width of tokens below `vocab_size`.
pub(super) fn token_bytes(vocab_size: usize) -> u32 {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}

/// The path of a shard.
pub(super) fn shard_path(dir: &Path, entry: &ShardEntry) -> PathBuf {
    dir.join(&entry.file)
}

/// Any version's manifest.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

const MAX_FILE_BYTES: u64 = 256 << 20;
const MAX_SHARDS: usize = 1 << 20;
const MAX_TOKENS: u64 = 1 << 40;
