//! Where a dataset comes from and what was left out of it, as the manifest has it.

use serde::{Deserialize, Serialize};

use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;

/// An input as the manifest has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputEntry {
    /// The file's name; below a folder, with the folder's name and the path within it.
    pub name: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Hash of the file's bytes, domain `InputText`.
    pub hash: Hash,
    /// How it was read and where it is from; none in version 1, where each is one text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// How an input was read and where it is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Origin {
    /// `txt`, `jsonl`, `parquet` or `bin`; with `+gz` or `+zst` where it was compressed.
    pub kind: String,
    /// The field of JSON lines, or the column of Parquet, that was read; else empty.
    pub field: String,
    /// Documents of it that are in the dataset.
    pub documents: u64,
    /// The licence of the text, as the maker states it; may be empty.
    pub licence: String,
    /// Where the text is from, as the maker states it; may be empty.
    pub source: String,
}

/// A rule by which documents were left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilterEntry {
    /// `empty` or `exact-duplicate`.
    pub name: String,
    /// Of the rule: another rule has another number.
    pub version: u32,
    /// Documents that it left out.
    pub dropped: u64,
}

/// The hash of filters and inputs: `docs/DATA.md`, section 4.
pub(super) fn provenance_hash(filters: &[FilterEntry], inputs: &[InputEntry]) -> Hash {
    let mut hasher = Hasher::new(Domain::Provenance);
    let text = |hasher: &mut Hasher, text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    };
    hasher.update(&(filters.len() as u64).to_le_bytes());
    for FilterEntry { name, version, dropped } in filters {
        text(&mut hasher, name);
        hasher.update(&version.to_le_bytes()).update(&dropped.to_le_bytes());
    }
    hasher.update(&(inputs.len() as u64).to_le_bytes());
    for InputEntry { name, bytes, hash, origin } in inputs {
        text(&mut hasher, name);
        hasher.update(&bytes.to_le_bytes()).update(hash.as_bytes());
        if let Some(Origin { kind, field, documents, licence, source }) = origin {
            hasher.update(&documents.to_le_bytes());
            [kind, field, licence, source].into_iter().for_each(|t| text(&mut hasher, t));
        }
    }
    hasher.finish()
}
