//! Tokens, and that they are the agreed ones.
//!
//! [`prepare()`] makes a folder of token shards from text, [`Dataset`] opens it (or generates the
//! synthetic language), [`Loader`] says which sequences a training step reads.

mod corpus;
mod encode;
mod error;
mod loader;
mod manifest;
mod permutation;
mod prepare;
#[allow(unsafe_code, reason = "memory-mapped files")]
mod shard;
mod split;
mod synthetic;
mod text;
mod tokenizer;

pub use corpus::Corpus;
pub use error::DataError;
pub use loader::Batch;
pub use loader::Config;
pub use loader::Dataset;
pub use loader::Loader;
pub use manifest::InputEntry;
pub use manifest::Manifest;
pub use manifest::ShardEntry;
pub use permutation::Permutation;
pub use prepare::Options;
pub use prepare::Progress;
pub use prepare::ProgressFn;
pub use prepare::Stage;
pub use prepare::prepare;
pub use shard::Shard;
pub use split::SplitRule;
pub use synthetic::Synthetic;
pub use tokenizer::END_OF_TEXT;
pub use tokenizer::Tokenizer;
