//! The first 64 bytes of a token shard.

use crate::crypto::ByteTree;
use crate::crypto::Hash;

/// What a shard says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// 1, or 2: the values of the groups follow the tokens.
    pub version: u32,
    /// 2 or 4.
    pub token_bytes: u32,
    pub tokens: u64,
    /// Of the tokens' bytes, domain `TokenShard`.
    pub hash: Hash,
}

impl Header {
    /// Bytes of a header.
    pub const BYTES: usize = 64;
    /// Where the hash stands.
    pub const HASH_AT: std::ops::Range<u64> = 24..56;
    /// The version written here.
    pub const VERSION: u32 = 2;

    /// The header of a file, or why there is none.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        let Some((header, _)) = file.split_first_chunk::<{ Self::BYTES }>() else {
            return Err("truncated".into());
        };
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if header[..8] != *MAGIC {
            return Err("not a token shard".into());
        }
        let version = word(8);
        if !(1..=Self::VERSION).contains(&version) {
            return Err(format!("version {version} is unknown to this program"));
        }
        let token_bytes = word(12);
        if token_bytes != 2 && token_bytes != 4 {
            return Err(format!("changed: tokens of {token_bytes} bytes"));
        }
        if header[56..] != [0; 8] {
            return Err("changed: the end of the header is not zero".into());
        }
        let tokens = u64::from(word(20)) << 32 | u64::from(word(16));
        let mut hash = Hash([0; 32]);
        hash.0.copy_from_slice(&header[24..56]);
        Ok(Self { version, token_bytes, tokens, hash })
    }

    /// The header as it is written.
    pub fn bytes(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&self.version.to_le_bytes());
        out[12..16].copy_from_slice(&self.token_bytes.to_le_bytes());
        out[16..24].copy_from_slice(&self.tokens.to_le_bytes());
        out[24..56].copy_from_slice(&self.hash.0);
        out
    }

    /// Bytes of all tokens; none where no file could hold them.
    pub fn payload_bytes(&self) -> Option<u64> {
        self.tokens.checked_mul(u64::from(self.token_bytes)).filter(|&bytes| bytes < 1 << 62)
    }

    /// The length of a file with this header; none where no file could be so long.
    pub fn file_bytes(&self) -> Option<u64> {
        let payload = self.payload_bytes()?;
        let values = if self.version >= 2 { 32 * ByteTree::groups(payload) } else { 0 };
        payload.checked_add(values)?.checked_add(Self::BYTES as u64)
    }
}

const MAGIC: &[u8; 8] = b"NSTOKENS";
