//! Who said it, and is it the same bytes: hashes and trees of them; keys and signatures.

mod byte_tree;
mod hash;
mod keys;
pub mod merkle;
mod peer;
mod signed;

pub use byte_tree::ByteTree;
pub use byte_tree::CHUNK_BYTES;
pub use byte_tree::GROUP_BYTES;
pub use hash::Domain;
pub use hash::Hash;
pub use hash::HashParseError;
pub use hash::Hasher;
pub use hash::hash_file;
pub use keys::KeyError;
pub use keys::SigningKey;
pub use peer::PeerId;
pub use signed::Signature;
pub use signed::Signed;
