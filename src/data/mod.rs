//! Tokens, and that they are the agreed ones.
//!
//! [`prepare()`] makes a folder of token shards from text, [`Dataset`] opens it (or generates the
//! synthetic language), [`Loader`] says which sequences a training step reads.

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
