//! Why there is no aggregate.

use thiserror::Error;

use crate::codec;
use crate::crypto::PeerId;

/// Why updates cannot be aggregated.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Nobody contributed.
    #[error("there is no update to aggregate")]
    NoUpdates,
    /// A peer's update cannot be decoded.
    #[error("the update of peer {peer}")]
    Update {
        /// Whose.
        peer: PeerId,
        /// What is wrong with it.
        #[source]
        source: codec::Error,
    },
}
