//! `manifest.json`: what a checkpoint holds, sealed by a hash of the manifest itself (`seal.rs`).

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::digest::ARITHMETIC;
use super::seal::{UNSEALED, seal, seal_holds};
use super::{Error, Group, Progress};
use crate::crypto::Hash;

/// What the `format` field says.
pub const FORMAT: &str = "neuroshard checkpoint";

/// The version that is written.
pub const VERSION: u64 = 1;

/// Contents of `manifest.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// BLAKE3 (plain) of this file with zeros in place of this field's digits.
    pub seal: String,
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`] of the layout.
    pub version: u64,
    /// Version of docs/ARITHMETIC.md.
    pub arithmetic: u32,
    /// Hash of the whole training state; see `digest.rs`.
    pub state_hash: Hash,
    /// Step, data cursor, random-number addresses, guard.
    pub progress: Progress,
    /// Hash of the plan: of everything that decides the numbers of the run.
    pub plan_hash: Hash,
    /// What the plan hash covers, by key, so that a difference can be named.
    pub plan: BTreeMap<String, String>,
    /// The model's configuration.
    pub model: serde_json::Value,
    /// The run's configuration as TOML.
    pub config: String,
    /// Every other file of the folder.
    pub files: Vec<FileEntry>,
    /// Every tensor, in canonical order: weights, first moments, second moments.
    pub tensors: Vec<TensorEntry>,
}

/// One file of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Name within the folder.
    pub name: String,
    /// Its length.
    pub size_bytes: u64,
    /// How many bytes from the start `head_hash` covers: up to the first tensor, or all.
    pub head_bytes: u64,
    /// BLAKE3 of those.
    pub head_hash: Hash,
}

/// One tensor of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TensorEntry {
    /// What it is to its weight; decides the file.
    pub group: Group,
    /// The weight's name.
    pub name: String,
    /// Element type; `f32`.
    pub dtype: String,
    /// Extents.
    pub shape: Vec<usize>,
    /// Where its bytes start in the file.
    pub offset: u64,
    /// BLAKE3 of its bytes.
    pub hash: Hash,
}

impl TensorEntry {
    /// Bytes of its elements; `None` if that is no number a machine can have.
    pub fn size_bytes(&self) -> Option<u64> {
        let count = self.shape.iter().try_fold(4u64, |n, &d| n.checked_mul(d as u64))?;
        (count <= isize::MAX as u64 / 8).then_some(count)
    }
}

impl Manifest {
    /// The text of the file, with its seal.
    pub(super) fn sealed_text(mut self) -> String {
        self.seal = UNSEALED.into();
        let mut text = serde_json::to_string_pretty(&self).unwrap_or_default();
        text.push('\n');
        seal(&text)
    }

    /// Reads and checks the manifest of the checkpoint in `folder`.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(FILE);
        let malformed = |why: String| Error::Malformed { path: path.clone(), why };
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::Absent { path: folder.to_owned() });
            }
            Err(e) => return Err(Error::io("open", &path)(e)),
        };
        let mut text = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(Error::io("read", &path))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(malformed(format!("more than {MAX_BYTES} bytes")));
        }
        let head: Head =
            serde_json::from_slice(&text).map_err(|e| malformed(format!("not a manifest: {e}")))?;
        if head.format != FORMAT {
            return Err(malformed(format!("format is {:?}, not {FORMAT:?}", head.format)));
        }
        if head.version != VERSION {
            return Err(Error::Version { path, found: head.version, newest: VERSION });
        }
        if !seal_holds(&text, &head.seal) {
            return Err(Error::Corrupt { path, what: "the manifest".into() });
        }
        let manifest: Self =
            serde_json::from_slice(&text).map_err(|e| malformed(format!("not a manifest: {e}")))?;
        if manifest.arithmetic != ARITHMETIC {
            return Err(malformed(format!(
                "made by version {} of the arithmetic; this program has version {ARITHMETIC}",
                manifest.arithmetic
            )));
        }
        Ok(manifest)
    }

    /// The entry of file `name`.
    pub fn file(&self, name: &str) -> Option<&FileEntry> {
        self.files.iter().find(|f| f.name == name)
    }
}

/// The fields that every version has.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    seal: String,
    #[serde(default)]
    format: String,
    #[serde(default)]
    version: u64,
}

/// Name of the file.
pub(super) const FILE: &str = "manifest.json";

/// A manifest of the largest model has some thousand lines; more is an attack or a mistake.
const MAX_BYTES: u64 = 64 << 20;
