//! Tokens, and that they are the agreed ones.
//!
//! [`prepare()`] makes a folder of token shards from text, [`Dataset`] opens it (or generates the
//! synthetic language), [`Loader`] says which sequences a training step reads.

mod assignment;
mod corpus;
mod encode;
mod error;
mod facts;
mod input;
mod loader;
mod manifest;
mod permutation;
mod prepare;
mod proof;
mod provenance;
#[allow(unsafe_code, reason = "memory-mapped files")]
mod shard;
mod shard_header;
mod shard_writer;
mod split;
mod staging;
mod stated;
mod survey;
mod synthetic;
mod text;
mod tokenizer;

pub use assignment::Assignment;
pub use assignment::Place;
pub use assignment::Sample;
pub use corpus::Corpus;
pub use error::DataError;
pub use loader::Batch;
pub use loader::Config;
pub use loader::Dataset;
pub use loader::Loader;
pub use manifest::Manifest;
pub use manifest::ShardEntry;
pub use permutation::Permutation;
pub use prepare::Options;
pub use prepare::Progress;
pub use prepare::ProgressFn;
pub use prepare::Stage;
pub use prepare::prepare;
pub use proof::MAX_PROOF_BYTES;
pub use proof::NoProof;
pub use proof::Part;
pub use proof::Proven;
pub use proof::check_proof;
pub use provenance::FilterEntry;
pub use provenance::InputEntry;
pub use provenance::Origin;
pub use shard::Shard;
pub use split::SplitRule;
pub use synthetic::Synthetic;
pub use tokenizer::END_OF_TEXT;
pub use tokenizer::Tokenizer;
