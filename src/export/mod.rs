//! A model as a Hugging Face folder, and such a folder as a model.
//!
//! [`write()`] makes the folder that `transformers` loads as a `LlamaForCausalLM` with its
//! tokenizer; [`Folder`] reads one that anybody made. The layout of NeuroLLM's weights is Llama's
//! (rotary pairs included), so values are only split into Hugging Face's tensors and never moved
//! within them. Nothing read is trusted or executed: sizes, offsets, names and shapes are bounded
//! before memory is taken. docs/HUGGINGFACE.md is the guide.

mod config;
mod error;
mod folder;
mod header;
mod refusals;
mod shards;
mod staging;
mod tensors;
mod tokenizer;
mod write;

pub use config::{Model, shortest};
pub use error::Error;
pub use folder::Folder;
pub use staging::Staging;
pub use tensors::{Part, Weight, weights};
pub use tokenizer::{TOKENIZER, synthetic_tokenizer};
pub use write::{Contents, DEFAULT_FILE_BYTES, Exported, Float, write};
