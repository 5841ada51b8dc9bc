//! A run on disk: folders that are whole or not there at all.
//!
//! `checkpoints/00000100/` holds `manifest.json`, `weights.safetensors` (Hugging Face names),
//! `optimizer.safetensors` (both moments) and attachments such as the tokenizer. A folder is written
//! under a temporary name, synced, and renamed; every byte of it is covered by a BLAKE3 hash.
//! Nothing read is trusted: sizes, offsets and shapes are bounded before memory is taken.

mod digest;
mod error;
mod folder;
mod manifest;
mod read;
mod write;

pub use digest::{Progress, hash_bytes, hash_range, state_hash};
pub use error::Error;
pub use folder::{Latest, latest, list, path_of, remove_old, remove_unfinished};
pub use manifest::{FORMAT, FileEntry, Manifest, TensorEntry, VERSION};
pub use read::Saved;
pub use write::{Attachment, Contents, write};

use crate::tensor::Shape;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// The three values that training keeps per weight.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum Group {
    /// The weights, f32.
    Weights,
    /// AdamW's first moments.
    FirstMoments,
    /// AdamW's second moments.
    SecondMoments,
}

impl Group {
    /// All, in canonical order.
    pub const ALL: [Self; 3] = [Self::Weights, Self::FirstMoments, Self::SecondMoments];

    /// The file that holds it.
    pub fn file(self) -> &'static str {
        match self {
            Self::Weights => "weights.safetensors",
            Self::FirstMoments | Self::SecondMoments => "optimizer.safetensors",
        }
    }

    /// The name in that file of the tensor that belongs to weight `name`.
    pub fn key(self, name: &str) -> String {
        match self {
            Self::Weights => name.to_owned(),
            Self::FirstMoments => format!("first_moment.{name}"),
            Self::SecondMoments => format!("second_moment.{name}"),
        }
    }
}

/// One tensor to be saved or hashed.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// What it is to its weight.
    pub group: Group,
    /// The weight's name.
    pub name: String,
    /// Its elements, f32, on the host.
    pub view: View<'a>,
}

/// One tensor to be filled from a file.
#[derive(Debug)]
pub struct Target<'a> {
    /// What it is to its weight.
    pub group: Group,
    /// The weight's name.
    pub name: String,
    /// Overwritten; f32, on the host.
    pub view: ViewMut<'a>,
}

/// Name and extents of a weight that a model expects.
pub type Expected = (String, Shape);
