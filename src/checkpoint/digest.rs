//! Hashes of the training state: parallel BLAKE3 per tensor, and one hash over all.
//!
//! The state hash covers, in this order and nothing else (integers little-endian, strings with
//! their length as u64 before them): the arithmetic version (u32), step, seed,
//! next sequence (u64 each), the guard's words (count, then u64 each), the number of tensors (u64),
//! and per tensor in canonical order: group (u8), name, rank (u64), extents (u64), BLAKE3 of its
//! bytes. Random numbers are addressed by (seed, purpose, step, index), so seed and step are their
//! whole state. Threads, level, micro-batch and folder names do not enter.

use std::fs::File;
use std::io;

use serde::{Deserialize, Serialize};

use super::slice;
use super::span::OnDisk;
use super::subtree::{Copies, Tree};
use super::{Error, Row, Source};
use crate::collective::Communicator;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;
use crate::ops::Kernels;

/// Everything of a run's state but its tensors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Optimizer steps done.
    pub step: u64,
    /// Position of the next training sequence in the keyed order of all epochs.
    pub next_sequence: u64,
    /// Seed of every random number. With the step, their whole state.
    pub seed: u64,
    /// State of the outlier guard, as 64-bit words.
    pub guard: Vec<u64>,
}

/// Hash of a state in memory, of whose tensors this rank has `slices`; those of all ranks make up
/// `table`, in canonical order, each element once. `kernels` are those whose memory the slices are
/// in. Collective, and the same on all ranks.
pub fn state_hash(
    kernels: &dyn Kernels,
    progress: &Progress,
    table: &[Row],
    slices: &[Source<'_>],
    comm: &dyn Communicator,
) -> Result<Hash, Error> {
    let tree = Tree::new();
    let mine = slice::hash_slices(kernels, &tree, table, slices);
    let hashes = slice::hashes(&tree, table, mine, Copies::Refused, comm)?;
    Ok(combine(progress, table, &slice::all(table, hashes)?))
}

/// BLAKE3 of `bytes` in the domain of checkpoint data, on all threads of the current pool.
pub fn hash_bytes(bytes: &[u8]) -> Hash {
    Hash::of(Domain::CheckpointData, bytes)
}

/// The state hash from the hashes of the tensors.
pub(super) fn combine(progress: &Progress, table: &[Row], hashes: &[Hash]) -> Hash {
    let mut hasher = Hasher::new(Domain::TrainingState);
    let mut word = |value: u64| {
        hasher.update(&value.to_le_bytes());
    };
    word(u64::from(ARITHMETIC));
    word(progress.step);
    word(progress.seed);
    word(progress.next_sequence);
    word(progress.guard.len() as u64);
    progress.guard.iter().for_each(|&w| word(w));
    word(table.len() as u64);
    for (row, hash) in table.iter().zip(hashes) {
        hasher.update(&[row.group as u8]);
        hasher.update(&(row.name.len() as u64).to_le_bytes());
        hasher.update(row.name.as_bytes());
        let extents = &row.shape[..];
        hasher.update(&(extents.len() as u64).to_le_bytes());
        for &extent in extents {
            hasher.update(&(extent as u64).to_le_bytes());
        }
        hasher.update(hash.as_bytes());
    }
    hasher.finish()
}

/// [`hash_bytes`] of `len` bytes of `file` from `start`: pieces are read and hashed on all threads
/// of the current pool, through buffers that stay in cache.
pub fn hash_range(file: &File, start: u64, len: u64) -> io::Result<Hash> {
    Tree::new().root(OnDisk { file, at: start, len })
}

/// Version of docs/ARITHMETIC.md whose results these states are.
pub(super) const ARITHMETIC: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn ranges_of_files_hash_as_their_bytes() {
        let bytes: Vec<u8> = (0..3_000_017u32).map(|i| (i * 31 % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        for (start, len) in [
            (0, 0),
            (5, 1),
            (0, 256 << 10),
            (3, (256 << 10) + 1),
            (0, 512 << 10),
            (7, 1_000_003),
            (17, 3_000_000),
        ] {
            let got = hash_range(&file, start as u64, len as u64).unwrap();
            assert_eq!(got, hash_bytes(&bytes[start..start + len]), "{len} bytes from {start}");
        }
        assert!(hash_range(&file, 3_000_000, 18).is_err());
    }
}
