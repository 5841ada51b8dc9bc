//! Runs of bytes that can be cut and brought into memory: where hashing meets reading and writing.
//!
//! Reading, writing and hashing go over the bytes once, piece by piece, while a piece is in cache.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::blocks::InFile;
use super::flush::Flush;

/// A run of consecutive bytes.
pub(super) trait Span: Sized + Send {
    /// Bytes brought into memory at a time: a power of two of BLAKE3 chunks.
    const PIECE_BYTES: u64;
    /// How many bytes.
    fn len(&self) -> u64;
    /// The first `at` bytes, and the others.
    fn split_at(self, at: u64) -> (Self, Self);
    /// Brings the bytes, at most [`Self::PIECE_BYTES`], into memory and calls `look` with them.
    fn visit<R>(self, look: impl FnOnce(&[u8]) -> R) -> io::Result<R>;
}

/// Bytes that are in memory.
pub(super) struct InMemory<'a>(pub &'a [u8]);

impl Span for InMemory<'_> {
    const PIECE_BYTES: u64 = CACHED_BYTES;

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn split_at(self, at: u64) -> (Self, Self) {
        let (a, b) = self.0.split_at(at as usize);
        (Self(a), Self(b))
    }

    fn visit<R>(self, look: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
        Ok(look(self.0))
    }
}

/// Bytes in memory on their way into a file.
pub(super) struct Saving<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// The file.
    pub file: &'a File,
    /// Where they go.
    pub at: u64,
    /// Hears of what is written.
    pub flush: &'a Flush,
}

impl Span for Saving<'_> {
    const PIECE_BYTES: u64 = TRANSFER_BYTES;

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn split_at(self, at: u64) -> (Self, Self) {
        let (a, b) = self.bytes.split_at(at as usize);
        (Self { bytes: a, ..self }, Self { bytes: b, at: self.at + at, ..self })
    }

    fn visit<R>(self, look: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
        self.file.write_all_at(self.bytes, self.at)?;
        self.flush.wrote(self.bytes.len() as u64);
        Ok(look(self.bytes))
    }
}

/// Bytes of a file on their way into memory.
pub(super) struct Loading<'a> {
    /// Overwritten.
    pub bytes: &'a mut [u8],
    /// The file.
    pub file: &'a File,
    /// Where they come from.
    pub at: u64,
}

impl Span for Loading<'_> {
    const PIECE_BYTES: u64 = TRANSFER_BYTES;

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn split_at(self, at: u64) -> (Self, Self) {
        let (a, b) = self.bytes.split_at_mut(at as usize);
        let rest = Self { bytes: b, file: self.file, at: self.at + at };
        (Self { bytes: a, file: self.file, at: self.at }, rest)
    }

    fn visit<R>(self, look: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
        self.file.read_exact_at(self.bytes, self.at)?;
        Ok(look(self.bytes))
    }
}

impl InFile for Loading<'_> {
    fn place(&self) -> (&File, u64) {
        (self.file, self.at)
    }
}

/// Bytes of a file that are only looked at.
pub(super) struct OnDisk<'a> {
    /// The file.
    pub file: &'a File,
    /// Where they begin.
    pub at: u64,
    /// How many.
    pub len: u64,
}

impl Span for OnDisk<'_> {
    const PIECE_BYTES: u64 = CACHED_BYTES;

    fn len(&self) -> u64 {
        self.len
    }

    fn split_at(self, at: u64) -> (Self, Self) {
        let rest = Self { at: self.at + at, len: self.len - at, ..self };
        (Self { len: at, ..self }, rest)
    }

    fn visit<R>(self, look: impl FnOnce(&[u8]) -> R) -> io::Result<R> {
        thread_local! {
            static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        PIECE.with_borrow_mut(|piece| {
            piece.resize(CACHED_BYTES as usize, 0);
            let piece = &mut piece[..self.len as usize];
            self.file.read_exact_at(piece, self.at)?;
            Ok(look(piece))
        })
    }
}

impl InFile for OnDisk<'_> {
    fn place(&self) -> (&File, u64) {
        (self.file, self.at)
    }
}

/// Stays in a core's own cache.
const CACHED_BYTES: u64 = 256 << 10;

/// Large enough for a file system that is reached over a network.
const TRANSFER_BYTES: u64 = 4 << 20;
