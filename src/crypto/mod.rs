//! Who said it, and is it the same bytes: hashes here; keys, trees and signatures enter later.

mod hash;
mod peer;

pub use hash::Domain;
pub use hash::Hash;
pub use hash::HashParseError;
pub use hash::Hasher;
pub use hash::hash_file;
pub use peer::PeerId;
