//! Hashes of the training state: parallel BLAKE3 per tensor, and one hash over all.
//!
//! The state hash covers, in this order and nothing else (integers little-endian, strings with
//! their length as u64 before them): the arithmetic version (u32), step, seed,
//! next sequence (u64 each), the guard's words (count, then u64 each), the number of tensors (u64),
//! and per tensor in canonical order: group (u8), name, rank (u64), extents (u64), BLAKE3 of its
//! bytes. Random numbers are addressed by (seed, purpose, step, index), so seed and step are their
//! whole state. Threads, level, micro-batch and folder names do not enter.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use blake3::hazmat::{ChainingValue, ContextKey, HasherExt, Mode};
use blake3::hazmat::{hash_derive_key_context, left_subtree_len};
use blake3::hazmat::{merge_subtrees_non_root, merge_subtrees_root};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Error, Source};
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;

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

/// One tensor as the state hash sees it.
pub(super) struct Leaf<'a> {
    pub group: super::Group,
    pub name: &'a str,
    pub shape: &'a [usize],
    pub hash: Hash,
}

/// Hash of a state in memory; `tensors` in canonical order.
pub fn state_hash(progress: &Progress, tensors: &[Source<'_>]) -> Result<Hash, Error> {
    let hashes = hash_sources(tensors)?;
    let shapes: Vec<_> = tensors.iter().map(|t| t.view.shape()).collect();
    let leaves = tensors.iter().zip(&shapes).zip(&hashes).map(|((tensor, shape), &hash)| Leaf {
        group: tensor.group,
        name: &tensor.name,
        shape,
        hash,
    });
    Ok(combine(progress, leaves))
}

/// Hash of every tensor, on all threads of the current pool.
pub(super) fn hash_sources(tensors: &[Source<'_>]) -> Result<Vec<Hash>, Error> {
    tensors.par_iter().map(|tensor| Ok(hash_bytes(bytes_of(tensor)?))).collect()
}

/// The bytes of an f32 tensor on the host.
pub(super) fn bytes_of<'a>(tensor: &Source<'a>) -> Result<&'a [u8], Error> {
    let floats = tensor.view.host::<f32>();
    let floats = floats.ok_or_else(|| Error::Place { name: tensor.name.clone() })?;
    Ok(bytemuck::cast_slice(floats))
}

/// BLAKE3 of `bytes` in the domain of checkpoint data, on all threads of the current pool.
pub fn hash_bytes(bytes: &[u8]) -> Hash {
    Hash::of(Domain::CheckpointData, bytes)
}

/// The state hash from the hashes of the tensors.
pub(super) fn combine<'a>(
    progress: &Progress,
    leaves: impl ExactSizeIterator<Item = Leaf<'a>>,
) -> Hash {
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
    word(leaves.len() as u64);
    for leaf in leaves {
        hasher.update(&[leaf.group as u8]);
        hasher.update(&(leaf.name.len() as u64).to_le_bytes());
        hasher.update(leaf.name.as_bytes());
        hasher.update(&(leaf.shape.len() as u64).to_le_bytes());
        for &extent in leaf.shape {
            hasher.update(&(extent as u64).to_le_bytes());
        }
        hasher.update(leaf.hash.as_bytes());
    }
    hasher.finish()
}

/// [`hash_bytes`] of `len` bytes of `file` from `start`: pieces are read and hashed on all threads
/// of the current pool, through buffers that stay in cache.
pub fn hash_range(file: &File, start: u64, len: u64) -> io::Result<Hash> {
    let range =
        Range { file, start, key: hash_derive_key_context(Domain::CheckpointData.context()) };
    if len <= PIECE_BYTES {
        return Ok(Hash(*range.piece(0, len, |hasher| hasher.finalize())?.as_bytes()));
    }
    let (a, b) = range.halves(0, len)?;
    Ok(Hash(*merge_subtrees_root(&a, &b, range.mode()).as_bytes()))
}

/// Bytes of a file from `start` on, hashed as a tree of subtrees.
struct Range<'a> {
    file: &'a File,
    start: u64,
    key: ContextKey,
}

impl Range<'_> {
    fn mode(&self) -> Mode<'_> {
        Mode::DeriveKeyMaterial(&self.key)
    }

    /// Chaining value of the subtree over `len` bytes at `offset`.
    fn subtree(&self, offset: u64, len: u64) -> io::Result<ChainingValue> {
        if len <= PIECE_BYTES {
            return self.piece(offset, len, |hasher| hasher.finalize_non_root());
        }
        let (a, b) = self.halves(offset, len)?;
        Ok(merge_subtrees_non_root(&a, &b, self.mode()))
    }

    /// Chaining values of the two children of the subtree over `len` bytes at `offset`.
    fn halves(&self, offset: u64, len: u64) -> io::Result<(ChainingValue, ChainingValue)> {
        let left = left_subtree_len(len);
        let (a, b) =
            rayon::join(|| self.subtree(offset, left), || self.subtree(offset + left, len - left));
        Ok((a?, b?))
    }

    /// Reads and hashes at most [`PIECE_BYTES`].
    fn piece<R>(
        &self,
        offset: u64,
        len: u64,
        finish: impl FnOnce(&blake3::Hasher) -> R,
    ) -> io::Result<R> {
        thread_local! {
            static PIECE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
        }
        let mut hasher = blake3::Hasher::new_from_context_key(&self.key);
        hasher.set_input_offset(offset);
        PIECE.with_borrow_mut(|piece| {
            piece.resize(PIECE_BYTES as usize, 0);
            let piece = &mut piece[..len as usize];
            self.file.read_exact_at(piece, self.start + offset)?;
            hasher.update(piece);
            Ok(finish(&hasher))
        })
    }
}

/// Version of docs/ARITHMETIC.md whose results these states are.
pub(super) const ARITHMETIC: u32 = 1;

/// Bytes read at a time: a power of two of BLAKE3 chunks that stays in a core's own cache.
const PIECE_BYTES: u64 = 256 << 10;

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

    #[test]
    fn every_part_of_the_state_shows_in_its_hash() {
        let progress = Progress { step: 3, next_sequence: 12, seed: 1, guard: vec![7] };
        let data = [1.0f32, 2.0, 3.0, 4.0];
        let tensors = |name: &str, shape: &[usize]| {
            [Source {
                group: super::super::Group::Weights,
                name: name.into(),
                view: crate::tensor::View::of(&data, shape),
            }]
            .to_vec()
        };
        let base = state_hash(&progress, &tensors("w", &[2, 2])).unwrap();
        assert_eq!(base, state_hash(&progress.clone(), &tensors("w", &[2, 2])).unwrap());
        let others = [
            state_hash(&progress, &tensors("x", &[2, 2])),
            state_hash(&progress, &tensors("w", &[4])),
            state_hash(&Progress { step: 4, ..progress.clone() }, &tensors("w", &[2, 2])),
            state_hash(&Progress { seed: 4, ..progress.clone() }, &tensors("w", &[2, 2])),
            state_hash(&Progress { next_sequence: 0, ..progress.clone() }, &tensors("w", &[2, 2])),
            state_hash(&Progress { guard: vec![8], ..progress.clone() }, &tensors("w", &[2, 2])),
            state_hash(&progress, &[]),
        ];
        for other in others {
            assert_ne!(base, other.unwrap());
        }
    }
}
