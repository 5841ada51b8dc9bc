//! NeuroLLM: a decoder-only transformer of the Llama family, forward and backward by hand.
//!
//! `B` sequences · `T` tokens in a sequence · `N = B·T` rows · `C` model width · `H` query heads ·
//! `K` key/value heads · `D` head width · `F` feed-forward width · `V` vocabulary · `L` layers.

mod activations;
mod block;
mod bucket;
mod config;
mod generate;
mod head;
mod memory;
mod neurollm;
mod params;
mod pass;
mod sampling;

pub use activations::Activations;
pub use activations::BlockActivations;
pub use activations::Extent;
pub use activations::Passes;
pub use activations::Scratch;
pub use activations::Slot;
pub use bucket::Bucket;
pub use bucket::TiedHead;
pub use config::Config;
pub use config::Dims;
pub use config::PRESETS;
pub use config::Preset;
pub use generate::Session;
pub use head::Head;
pub use memory::ActivationSizes;
pub use memory::WeightSizes;
pub use neurollm::Batch;
pub use neurollm::Gradients;
pub use neurollm::NeuroLlm;
pub use params::BlockParams;
pub use params::Params;
pub use params::entering;
pub use params::entering_dtype;
pub use params::initial;
pub use params::is_norm;
pub use pass::Frame;
pub use pass::Pass;
pub use sampling::Sampling;
pub use sampling::choose;

use crate::ops::OpError;

/// Why the model could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// An operation refused its arguments or failed.
    #[error("{place}: {source}")]
    Op {
        /// Layer or part of the model.
        place: String,
        /// What the operation says.
        source: OpError,
    },
    /// A sequence is longer than what was prepared for it.
    #[error("{tokens} tokens do not fit into {room} positions; ask for a longer context")]
    TooLong {
        /// Tokens asked for.
        tokens: usize,
        /// Positions there are.
        room: usize,
    },
}

/// Names the part of the model in which an operation failed.
pub(crate) trait At<T> {
    /// Adds the place.
    fn at(self, place: impl FnOnce() -> String) -> Result<T, ModelError>;
}

impl<T> At<T> for Result<T, OpError> {
    fn at(self, place: impl FnOnce() -> String) -> Result<T, ModelError> {
        self.map_err(|source| ModelError::Op { place: place(), source })
    }
}
