//! Who said it, and is it the same bytes: hashes and trees of them; keys and signatures.

mod byte_tree;
mod hash;
pub mod merkle;
mod peer;

pub use byte_tree::ByteTree;
pub use byte_tree::CHUNK_BYTES;
pub use byte_tree::GROUP_BYTES;
pub use hash::Domain;
pub use hash::Hash;
pub use hash::HashParseError;
pub use hash::Hasher;
pub use hash::hash_file;
pub use peer::PeerId;
