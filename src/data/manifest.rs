//! `manifest.json` of a prepared folder: what it holds, and by which hashes to know it.
//!
//! Version 2 has a root over everything that it says. Folders of version 1 still open.

use std::path::Path;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::DataError;
use super::facts::Facts;
use super::facts::shard_leaf;
use super::provenance::FilterEntry;
use super::provenance::InputEntry;
use super::provenance::provenance_hash;
use super::shard::read_bounded;
use super::split::Split;
use super::split::SplitRule;
use super::tokenizer::MAX_VOCAB;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;
use crate::crypto::PeerId;
use crate::crypto::Signed;
use crate::crypto::SigningKey;
use crate::crypto::merkle;

/// The contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Of this format: 1 or 2.
    pub version: u32,
    /// The root of the dataset, see [`Manifest::compute_root`]; none in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<Hash>,
    /// Who vouches for the root; none where it is not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed: Option<Signed>,
    /// Hash of `tokenizer.json`, domain `Tokenizer`.
    pub tokenizer: Hash,
    /// Tokens are below this.
    pub vocab_size: usize,
    /// Bytes of a token in the shards: 2 or 4.
    pub token_bytes: u32,
    /// Tokens in all shards.
    pub tokens: u64,
    /// Documents, each followed by one end-of-text token.
    pub documents: u64,
    /// What is held out.
    pub split: SplitRule,
    /// The rules by which documents were left out, in the order of their use; none in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filters: Option<Vec<FilterEntry>>,
    /// The shards, in the order of the stream.
    pub shards: Vec<ShardEntry>,
    /// The inputs, in the order of the stream.
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

impl Manifest {
    /// The version written here.
    pub const VERSION: u32 = 2;
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
        if !(1..=Self::VERSION).contains(&version.version) {
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

    /// The root over everything that the manifest says but its signature: what a genesis file
    /// names, and what a proof of a sequence leads to. None where the manifest has no shards.
    pub fn compute_root(&self) -> Option<Hash> {
        Some(self.facts().root(&merkle::root(&self.shard_leaves())?))
    }

    /// Refuses the manifest of `dir` unless its root is `root`.
    pub fn expect_root(&self, dir: &Path, root: &Hash) -> Result<(), DataError> {
        let reason = match self.root {
            Some(mine) if mine == *root => return Ok(()),
            Some(mine) => format!("root = {mine}, not {root}: it is another dataset"),
            None => "version 1 has no root to compare".into(),
        };
        Err(DataError::Manifest { path: dir.join(Self::FILE), reason })
    }

    /// Refuses the manifest of `dir` unless `maker` signed it.
    pub fn expect_maker(&self, dir: &Path, maker: &PeerId) -> Result<(), DataError> {
        // That the signature holds was checked when the manifest was loaded.
        let reason = match &self.signed {
            Some(signed) if signed.signer == *maker => return Ok(()),
            Some(signed) => format!("signed by {}, not by {maker}", signed.signer),
            None => format!("not signed, so not by {maker}"),
        };
        Err(DataError::Manifest { path: dir.join(Self::FILE), reason })
    }

    /// Signs the root.
    pub fn sign(&mut self, key: &SigningKey) {
        self.signed = self.root.map(|r| Signed::new(key, Domain::SignedDataset, r.as_bytes()));
    }

    /// What the root says besides the shards.
    pub(super) fn facts(&self) -> Facts {
        Facts {
            tokenizer: self.tokenizer,
            vocab_size: self.vocab_size as u64,
            token_bytes: self.token_bytes,
            tokens: self.tokens,
            documents: self.documents,
            split: self.split,
            shards: self.shards.len() as u64,
            provenance: provenance_hash(self.filters.as_deref().unwrap_or(&[]), &self.inputs),
        }
    }

    /// The leaves of the tree over all shards.
    pub(super) fn shard_leaves(&self) -> Vec<Hash> {
        let mut start = 0;
        let leaf = |ShardEntry { tokens, hash, .. }: &ShardEntry| {
            let leaf = shard_leaf(start, *tokens, hash);
            start += tokens;
            leaf
        };
        self.shards.iter().map(leaf).collect()
    }

    /// The manifest as it stands in its folder.
    pub(super) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        let mut json = serde_json::to_vec_pretty(self)?;
        json.push(b'\n');
        Ok(json)
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
        for (i, ShardEntry { file, tokens, .. }) in self.shards.iter().enumerate() {
            if *file != shard_name(i) {
                return Err(format!("shards[{i}].file = {file:?}: must be {:?}", shard_name(i)));
            }
            if *tokens == 0 || *tokens > MAX_TOKENS {
                return Err(format!("shards[{i}].tokens = {tokens}: must be 1 to {MAX_TOKENS}"));
            }
            // At most 2^20 terms of 2^40 each.
            sum += tokens;
        }
        if sum != self.tokens {
            return Err(format!("tokens = {}, but the shards have {sum}", self.tokens));
        }
        Split::new(self.split, self.tokens).map(drop).map_err(|e| e.to_string())?;
        match self.version {
            1 => self.check_version_1(),
            _ => self.check_version_2(),
        }
    }

    fn check_version_1(&self) -> Result<(), String> {
        let newer = self.inputs.iter().any(|i| i.origin.is_some());
        if newer || self.root.is_some() || self.filters.is_some() || self.signed.is_some() {
            return Err("version = 1, with fields of version 2".into());
        }
        if self.documents != self.inputs.len() as u64 {
            return Err(format!("documents = {}, inputs: {}", self.documents, self.inputs.len()));
        }
        Ok(())
    }

    fn check_version_2(&self) -> Result<(), String> {
        let Some(filters) = &self.filters else { return Err("filters: missing".into()) };
        if filters.len() > MAX_FILTERS {
            return Err(format!("{} filters: must be at most {MAX_FILTERS}", filters.len()));
        }
        let mut sum = 0u64;
        for (i, input) in self.inputs.iter().enumerate() {
            let Some(origin) = &input.origin else {
                return Err(format!("inputs[{i}].origin: missing"));
            };
            sum = sum.saturating_add(origin.documents);
        }
        if sum != self.documents {
            return Err(format!("documents = {}, but the inputs have {sum}", self.documents));
        }
        match self.root {
            None => Err("root: missing".into()),
            Some(root) if self.compute_root() != Some(root) => Err(format!(
                "root = {root} is not the root of the other fields: one of them, or it, was changed"
            )),
            Some(root) => match &self.signed {
                Some(signed) if !signed.holds(Domain::SignedDataset, root.as_bytes()) => {
                    Err(format!("signed: {} did not sign this root", signed.signer))
                }
                _ => Ok(()),
            },
        }
    }
}

/// The width of tokens below `vocab_size`.
pub(super) fn token_bytes(vocab_size: usize) -> u32 {
    if vocab_size <= 1 << 16 { 2 } else { 4 }
}

/// The name of shard `index` in its folder.
pub(super) fn shard_name(index: usize) -> String {
    format!("shard-{index:06}.tokens")
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
/// The most shards a folder may have.
pub(super) const MAX_SHARDS: usize = 1 << 20;
const MAX_FILTERS: usize = 64;
/// The most tokens a shard may have.
pub(super) const MAX_TOKENS: u64 = 1 << 40;
