//! Pseudo-gradients as bytes, and back as integers.
//!
//! An update is the flat vector of all tensors of a [`Layout`], in chunks of [`CHUNK`] elements. Every
//! codec decodes a chunk to integers times one power of two ([`Codes`]), so that what is computed
//! from updates (norms, inner products, sums) can be exact, whoever computes it in whatever order.
//! The bytes are canonical: an update has one encoding, and [`Update::parse`] takes no other.
//! docs/WIRE.md specifies them to the bit.

mod bits;
mod codes;
mod config;
mod dense;
mod e3m0;
mod error;
mod int8;
mod layout;
mod residual;
mod sign;
mod stream;
mod top_k;
mod update;

pub use codes::Chunk;
pub use codes::Codes;
pub use codes::MAX_CODE;
pub use codes::MAX_EXPONENT;
pub use codes::MIN_EXPONENT;
pub use codes::Support;
pub use config::Config;
pub use config::Kind;
pub use error::Error;
pub use layout::BLOCK;
pub use layout::CHUNK;
pub use layout::Layout;
pub use layout::Section;
pub use residual::Residual;
pub use stream::Stream;
pub use update::About;
pub use update::Update;
pub use update::encode;
pub use update::encode_to;

use std::fmt;

/// One way to write a block of an update. Pure: the same values give the same bytes on every
/// machine, thread and instruction set.
pub trait Codec: Send + Sync + fmt::Debug {
    /// Which codec, with which parameters: bytes of the header of every update, at most 32.
    fn spec(&self) -> Vec<u8>;

    /// Encodes `values` (finite, at most [`BLOCK`]), appending to `out`; `codes` receives what
    /// [`Self::decode`] will make of those bytes. Magnitudes below 2^[`MIN_EXPONENT`] become zero.
    fn encode(&self, values: &[f32], codes: &mut Codes, out: &mut Vec<u8>);

    /// Decodes a block of `elements` elements. `bytes` must be exactly the encoding of the values
    /// that it decodes to: what is truncated, longer or not canonical is an error. Never allocates
    /// beyond what `elements` bounds.
    fn decode(&self, bytes: &[u8], elements: usize, codes: &mut Codes) -> Result<(), Error>;

    /// No block of `elements` elements has more bytes.
    fn max_bytes(&self, elements: usize) -> usize;
}
