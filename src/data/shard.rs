//! One token file: a header of 64 bytes, then the tokens, little-endian.
//!
//! ```text
//! bytes  0..8   magic "NSTOKENS"
//!        8..12  version, 1
//!       12..16  bytes of a token, 2 or 4
//!       16..24  number of tokens
//!       24..56  hash of the tokens' bytes, domain `TokenShard`
//!       56..64  zero
//! ```

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::OnceLock;

use memmap2::Mmap;

use super::DataError;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;

/// A shard on disk, memory-mapped. Its hash is verified when tokens are first read.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    map: Mmap,
    header: Header,
    /// Whether the tokens' bytes are those of the hash; decided at the first read.
    intact: OnceLock<bool>,
}

impl Shard {
    /// Maps the shard and checks its header and length, in time independent of its size.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(DataError::read(path))?;
        let length = file.metadata().map_err(DataError::read(path))?.len();
        let fail = |reason| DataError::Shard { path: path.to_path_buf(), reason };
        if length < HEADER_BYTES as u64 {
            return Err(fail(format!("truncated: {length} bytes, less than a header")));
        }
        // SAFETY: a mapping is sound while nobody changes the file. Shards are written under
        // another name and renamed, and nothing in this program opens one for writing afterwards;
        // that no other program does is the one thing the user must grant.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::read(path))?;
        let header = Header::parse(&map).map_err(fail)?;
        let want = header.file_bytes();
        if Some(length) != want || map.len() as u64 != length {
            let reason = match want {
                Some(want) if want > length => format!("truncated: {length} of {want} bytes"),
                _ => format!("{length} bytes do not hold {} tokens", header.tokens),
            };
            return Err(fail(reason));
        }
        Ok(Self { path: path.to_path_buf(), map, header, intact: OnceLock::new() })
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

    /// Copies the tokens from `start` on into `out`. The first call hashes the whole shard, on all
    /// threads. A changed shard, a token of `vocab_size` or more, or a range past the end is an
    /// error.
    pub fn read(&self, start: u64, out: &mut [u32], vocab_size: usize) -> Result<(), DataError> {
        self.verify()?;
        let end = start.checked_add(out.len() as u64).filter(|&end| end <= self.header.tokens);
        let Some(end) = end else {
            return Err(self.fail(format!("no tokens {start} + {}", out.len())));
        };
        let width = self.header.token_bytes as usize;
        let bytes = &self.payload()[start as usize * width..end as usize * width];
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
                let at = start + i as u64;
                Err(self.fail(format!("token {} at {at} of a vocabulary of {vocab_size}", out[i])))
            }
        }
    }

    /// Compares the hash of the tokens' bytes with the header's, once.
    pub fn verify(&self) -> Result<(), DataError> {
        let intact = self
            .intact
            .get_or_init(|| Hash::of(Domain::TokenShard, self.payload()) == self.header.hash);
        if *intact { Ok(()) } else { Err(self.fail("changed: its hash does not match".into())) }
    }

    fn payload(&self) -> &[u8] {
        &self.map[HEADER_BYTES..]
    }

    fn fail(&self, reason: String) -> DataError {
        DataError::Shard { path: self.path.clone(), reason }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    token_bytes: u32,
    tokens: u64,
    hash: Hash,
}

impl Header {
    fn parse(file: &[u8]) -> Result<Self, String> {
        let Some((header, _)) = file.split_first_chunk::<HEADER_BYTES>() else {
            return Err("truncated".into());
        };
        let word = |at: usize| {
            u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
        };
        if header[..8] != *MAGIC {
            return Err("not a token shard".into());
        }
        if word(8) != VERSION {
            return Err(format!("version {} is unknown to this program", word(8)));
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
        Ok(Self { token_bytes, tokens, hash })
    }

    fn bytes(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&self.token_bytes.to_le_bytes());
        out[16..24].copy_from_slice(&self.tokens.to_le_bytes());
        out[24..56].copy_from_slice(&self.hash.0);
        out
    }

    /// The length of a file with this header; none where no file could be so long.
    fn file_bytes(&self) -> Option<u64> {
        self.tokens.checked_mul(u64::from(self.token_bytes))?.checked_add(HEADER_BYTES as u64)
    }
}

/// Writes a shard under a temporary name; [`ShardWriter::finish`] gives it its own.
pub(super) struct ShardWriter {
    path: PathBuf,
    temporary: PathBuf,
    file: BufWriter<File>,
    hasher: Hasher,
    token_bytes: u32,
    tokens: u64,
    buffer: Vec<u8>,
}

impl ShardWriter {
    /// Starts the shard that will be at `path`. Tokens have `token_bytes` 2 or 4.
    pub fn create(path: &Path, token_bytes: u32) -> Result<Self, DataError> {
        let temporary = path.with_extension("tmp");
        let mut file =
            BufWriter::new(File::create(&temporary).map_err(DataError::write(&temporary))?);
        file.write_all(&[0; HEADER_BYTES]).map_err(DataError::write(&temporary))?;
        Ok(Self {
            path: path.to_path_buf(),
            temporary,
            file,
            hasher: Hasher::new(Domain::TokenShard),
            token_bytes,
            tokens: 0,
            buffer: Vec::new(),
        })
    }

    /// Number of tokens so far.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Appends tokens, which fit the shard's width.
    pub fn write(&mut self, tokens: &[u32]) -> Result<(), DataError> {
        self.buffer.clear();
        if self.token_bytes == 2 {
            self.buffer.extend(tokens.iter().flat_map(|&t| (t as u16).to_le_bytes()));
        } else {
            self.buffer.extend(tokens.iter().flat_map(|&t| t.to_le_bytes()));
        }
        self.hasher.update_rayon(&self.buffer);
        self.tokens += tokens.len() as u64;
        self.file.write_all(&self.buffer).map_err(DataError::write(&self.path))
    }

    /// Completes the header, syncs and renames. Returns the hash of the tokens' bytes.
    pub fn finish(self) -> Result<Hash, DataError> {
        let hash = self.hasher.finish();
        let header = Header { token_bytes: self.token_bytes, tokens: self.tokens, hash };
        let complete = || -> io::Result<()> {
            let mut file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
            io::Seek::rewind(&mut file)?;
            file.write_all(&header.bytes())?;
            file.sync_all()?;
            fs::rename(&self.temporary, &self.path)
        };
        complete().map_err(DataError::write(&self.path))?;
        Ok(hash)
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

const MAGIC: &[u8; 8] = b"NSTOKENS";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 64;
