//! One token file: a header of 64 bytes, then the tokens, little-endian, then the tree.
//!
//! ```text
//! bytes  0..8   magic "NSTOKENS"
//!        8..12  version, 2; in version 1 no tree follows the tokens
//!       12..16  bytes of a token, 2 or 4
//!       16..24  number of tokens
//!       24..56  hash of the tokens' bytes, domain `TokenShard`
//!       56..64  zero
//! then          the tokens
//! then          per group of 16 KiB of the tokens' bytes the 32 bytes of its subtree's value
//! ```
//!
//! The hash is the root of BLAKE3's tree, in which the values are inner nodes: with them, tokens
//! are verified group by group, as they are first touched.

use std::fs::File;
use std::io;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use memmap2::Mmap;

use super::DataError;
use super::shard_header::Header;
use crate::crypto::ByteTree;
use crate::crypto::Domain;
use crate::crypto::GROUP_BYTES;
use crate::crypto::Hash;

/// A shard on disk, memory-mapped. Its tokens are verified when they are first read.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    map: Mmap,
    header: Header,
    tree: ByteTree,
    /// Whether the values of the groups (or, in version 1, the tokens) are those of the hash.
    intact: OnceLock<bool>,
    /// A bit per group: it has been verified.
    verified: Vec<AtomicU64>,
}

impl Shard {
    /// Maps the shard and checks its header and length; no token is read.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        Self::open_where(path, &|_| true)
    }

    /// As [`Self::open`]; a header that does not agree with the manifest is an error before the
    /// length is compared with it.
    pub(super) fn open_where(
        path: &Path,
        agrees: &dyn Fn(&Header) -> bool,
    ) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::read(path))?;
        let length = file.metadata().map_err(DataError::read(path))?.len();
        let fail = |bytes: Range<u64>, reason| DataError::Shard {
            path: path.to_path_buf(),
            bytes: Some(bytes),
            reason,
        };
        let header_bytes = Header::BYTES as u64;
        if length < header_bytes {
            let reason = format!("truncated: {length} bytes, less than a header");
            return Err(fail(length..header_bytes, reason));
        }
        // SAFETY: a mapping is sound while nobody changes the file. Shards are written under
        // another name and renamed, and nothing in this program opens one for writing afterwards;
        // that no other program does is the one thing the user must grant.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::read(path))?;
        let header = Header::parse(&map).map_err(|reason| fail(0..header_bytes, reason))?;
        if !agrees(&header) {
            return Err(fail(0..header_bytes, "its header is not what the manifest says".into()));
        }
        let want = header.file_bytes();
        if Some(length) != want || map.len() as u64 != length {
            return Err(match want {
                Some(want) if want > length => {
                    fail(length..want, format!("truncated: {length} of {want} bytes"))
                }
                _ => {
                    fail(0..length, format!("{length} bytes do not hold {} tokens", header.tokens))
                }
            });
        }
        let groups = ByteTree::groups(header.payload_bytes().unwrap_or(0));
        let words = if header.version >= 2 { groups.div_ceil(64) } else { 0 };
        Ok(Self {
            path: path.to_path_buf(),
            map,
            header,
            tree: ByteTree::new(Domain::TokenShard),
            intact: OnceLock::new(),
            // The file is long enough to hold a value for each group.
            verified: (0..words).map(|_| AtomicU64::new(0)).collect(),
        })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Of the file's format: 1, or 2 with the values of groups.
    pub fn version(&self) -> u32 {
        self.header.version
    }

    /// Number of tokens.
    pub fn tokens(&self) -> u64 {
        self.header.tokens
    }

    /// Bytes of a token: 2 or 4.
    pub fn token_bytes(&self) -> u32 {
        self.header.token_bytes
    }

    /// The hash that the header gives.
    pub fn hash(&self) -> Hash {
        self.header.hash
    }

    /// Copies the tokens from `start` on into `out`, once their groups are verified (of a shard of
    /// at most 1 MiB all groups; in version 1 the whole shard). A changed shard, a token of `vocab_size` or more, or a range past the end
    /// is an error.
    pub fn read(&self, start: u64, out: &mut [u32], vocab_size: usize) -> Result<(), DataError> {
        let end = start.checked_add(out.len() as u64).filter(|&end| end <= self.header.tokens);
        let Some(end) = end else {
            return Err(self.fail(None, format!("no tokens {start} + {}", out.len())));
        };
        let width = u64::from(self.header.token_bytes);
        let range = start * width..end * width;
        self.verify_touched(&range)?;
        let bytes = &self.payload()[range.start as usize..range.end as usize];
        if width == 2 {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(2)) {
                *o = u32::from(u16::from_le_bytes([b[0], b[1]]));
            }
        } else {
            for (o, b) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                *o = u32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            }
        }
        match out.iter().position(|&t| t as usize >= vocab_size) {
            None => Ok(()),
            Some(i) => {
                let (at, token) = (start + i as u64, out[i]);
                let reason = format!("token {token} at {at} of a vocabulary of {vocab_size}");
                Err(self.fail(None, reason))
            }
        }
    }

    /// Verifies all tokens and values, on all threads, and names the first bytes that are wrong.
    pub fn verify(&self) -> Result<(), DataError> {
        let values = self.tree.group_values(self.payload());
        let whole = self.tree.root(&values) == Some(self.header.hash);
        if self.header.version < 2 {
            let payload = self.in_file(0..self.payload().len() as u64);
            return match whole {
                true => Ok(()),
                false => Err(self.fail(Some(payload), CHANGED.into())),
            };
        }
        let differing = self.values().iter().zip(&values).position(|(a, b)| a != b);
        match differing {
            None if whole => Ok(()),
            // Tokens and values agree with each other.
            None => Err(self.fail(Some(Header::HASH_AT), "changed: the hash in its header".into())),
            Some(group) if whole => {
                let at = self.in_file(self.payload().len() as u64 + 32 * group as u64..0).start;
                Err(self.fail(Some(at..at + 32), "changed: the value of a group".into()))
            }
            Some(group) => Err(self.changed_group(group as u64)),
        }
    }

    /// Tokens' bytes.
    pub(super) fn payload(&self) -> &[u8] {
        &self.map[Header::BYTES..Header::BYTES + self.payload_bytes()]
    }

    /// The values of the groups; none in version 1.
    pub(super) fn values(&self) -> &[[u8; 32]] {
        self.map[Header::BYTES + self.payload_bytes()..].as_chunks().0
    }

    fn payload_bytes(&self) -> usize {
        // `open` compared it with the length of the file.
        (self.header.tokens * u64::from(self.header.token_bytes)) as usize
    }

    /// Verifies what holds the payload's bytes `range`, unless that has been done.
    fn verify_touched(&self, range: &Range<u64>) -> Result<(), DataError> {
        if self.header.version < 2 {
            let intact = self.intact.get_or_init(|| self.verify().is_ok());
            return if *intact { Ok(()) } else { self.verify() };
        }
        let values = self.values();
        if !self.intact.get_or_init(|| self.tree.root(values) == Some(self.header.hash)) {
            self.verify()?;
            return Err(self.fail(None, "changed while it was read".into()));
        }
        let len = self.payload_bytes() as u64;
        let mut groups = range.start / GROUP_BYTES..range.end.div_ceil(GROUP_BYTES);
        if self.verified.len() == 1 {
            // All of a small shard: up to 1 MiB are hashed in less time than a step has noise.
            groups = 0..ByteTree::groups(len);
        }
        for group in groups {
            let (word, bit) = (&self.verified[(group / 64) as usize], 1 << (group % 64));
            if word.load(Ordering::Relaxed) & bit != 0 {
                continue;
            }
            let bytes = ByteTree::group_range(group, len);
            let bytes = &self.payload()[bytes.start as usize..bytes.end as usize];
            if self.tree.group_value(group, bytes, len) != values[group as usize] {
                return Err(self.changed_group(group));
            }
            // Two threads may both hash a group; neither reads it before it has.
            word.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(())
    }

    fn changed_group(&self, group: u64) -> DataError {
        let range = ByteTree::group_range(group, self.payload_bytes() as u64);
        self.fail(Some(self.in_file(range)), CHANGED.into())
    }

    fn in_file(&self, payload: Range<u64>) -> Range<u64> {
        payload.start + Header::BYTES as u64..payload.end + Header::BYTES as u64
    }

    fn fail(&self, bytes: Option<Range<u64>>, reason: String) -> DataError {
        DataError::Shard { path: self.path.clone(), bytes, reason }
    }
}

/// The bytes of a file of at most `limit`, read whole.
pub(super) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, DataError> {
    let file = File::open(path).map_err(DataError::read(path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(DataError::read(path))?;
    if bytes.len() as u64 > limit {
        let source = io::Error::new(io::ErrorKind::FileTooLarge, format!("over {limit} bytes"));
        return Err(DataError::Read { path: path.to_path_buf(), source });
    }
    Ok(bytes)
}

const CHANGED: &str = "changed: its hash does not match";
