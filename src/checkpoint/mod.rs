//! A run on disk: folders that are whole or not there at all.
//!
//! `checkpoints/00000100/` holds `manifest.json`, `weights.safetensors` (Hugging Face names),
//! `optimizer.safetensors` (both moments) and attachments such as the tokenizer. A folder is written
//! under a temporary name, synced, and renamed; every byte of it is covered by a BLAKE3 hash.
//! Nothing read is trusted: sizes, offsets and shapes are bounded before memory is taken.
//!
//! All ranks of a job write and read together, each its slices of the tensors; the bytes on disk do
//! not depend on who wrote them, so any number of ranks continues from any other's.

mod background;
mod blocks;
mod digest;
mod error;
mod flush;
mod folder;
mod layout;
mod manifest;
mod ranks;
mod read;
mod seal;
mod slice;
mod span;
mod subtree;
mod together;
mod verify;
mod write;

pub use background::{Background, Written};
pub use digest::{Progress, hash_bytes, hash_range, state_hash};
pub use error::Error;
pub use folder::{Latest, latest, list, path_of, remove_old, remove_unfinished};
pub use manifest::{FORMAT, FileEntry, Manifest, TensorEntry, VERSION};
pub use read::Saved;
pub use seal::{UNSEALED, seal, seal_holds};
pub use together::{all_agree, on_first};
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

/// A tensor of the state: a row of the table of all, which is the same on all ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is to its weight.
    pub group: Group,
    /// The weight's name.
    pub name: String,
    /// Extents of the whole tensor.
    pub shape: Shape,
}

/// The table of a model's weights and moments, in canonical order.
pub fn table(weights: &[Expected]) -> Vec<Row> {
    let row = |group, (name, shape): &Expected| Row { group, name: name.clone(), shape: *shape };
    Group::ALL.iter().flat_map(|&g| weights.iter().map(move |w| row(g, w))).collect()
}

/// A slice of a tensor, to be saved or hashed.
#[derive(Clone, Debug)]
pub struct Source<'a> {
    /// What the tensor is to its weight.
    pub group: Group,
    /// The weight's name.
    pub name: String,
    /// Extents of the whole tensor.
    pub shape: Shape,
    /// Where the slice starts in the flattened tensor, in elements: a multiple of
    /// [`SLICE_ELEMENTS`].
    pub first: usize,
    /// The elements of the slice, f32, of any extents: on the host to be written, anywhere to be
    /// hashed or copied. It ends at a multiple of [`SLICE_ELEMENTS`] or with the tensor.
    pub view: View<'a>,
}

impl<'a> Source<'a> {
    /// A whole tensor.
    pub fn whole(group: Group, name: String, view: View<'a>) -> Self {
        Self { group, name, shape: view.shape(), first: 0, view }
    }
}

/// A slice of a tensor, to be filled from a file.
#[derive(Debug)]
pub struct Target<'a> {
    /// What the tensor is to its weight.
    pub group: Group,
    /// The weight's name.
    pub name: String,
    /// Extents of the whole tensor.
    pub shape: Shape,
    /// Where the slice starts in the flattened tensor, in elements: a multiple of
    /// [`SLICE_ELEMENTS`].
    pub first: usize,
    /// Overwritten; f32, of any extents. It ends at a multiple of [`SLICE_ELEMENTS`] or with the
    /// tensor.
    pub view: ViewMut<'a>,
}

impl<'a> Target<'a> {
    /// A whole tensor.
    pub fn whole(group: Group, name: String, view: ViewMut<'a>) -> Self {
        Self { group, name, shape: view.shape(), first: 0, view }
    }
}

/// Slices consist of whole blocks of this many elements (16 KiB): whole subtrees of BLAKE3. Only
/// the last block of a tensor may be shorter.
pub const SLICE_ELEMENTS: usize = 4096;

/// Name and extents of a weight that a model expects.
pub type Expected = (String, Shape);
