//! The identity of a cluster.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Hash;
use super::HashParseError;

/// A cluster as other clusters know it: the 32 bytes of its public signing key. Text form: 64
/// lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "Hash", from = "Hash")]
pub struct PeerId(pub [u8; 32]);

impl PeerId {
    /// A made-up identity for cluster `index` of a simulation: its number, big-endian, so that
    /// identities sort as numbers do.
    pub fn numbered(index: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[24..].copy_from_slice(&index.to_be_bytes());
        Self(bytes)
    }
}

impl From<Hash> for PeerId {
    fn from(digits: Hash) -> Self {
        Self(digits.0)
    }
}

impl From<PeerId> for Hash {
    fn from(peer: PeerId) -> Self {
        Self(peer.0)
    }
}

impl FromStr for PeerId {
    type Err = HashParseError;

    fn from_str(text: &str) -> Result<Self, HashParseError> {
        text.parse::<Hash>().map(Self::from)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Hash(self.0), f)
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbered_identities_sort_as_numbers() {
        let all: Vec<_> = [0, 1, 255, 256, 1 << 40].map(PeerId::numbered).to_vec();
        assert!(all.is_sorted());
        assert_eq!(all[1].to_string().len(), 64);
    }
}
