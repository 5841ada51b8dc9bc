//! BLAKE3 of bytes that are spread over ranks, or over a file: hashes of subtrees, merged.
//!
//! BLAKE3 is a binary tree over chunks of 1 KiB (BLAKE3 paper, section 2.1). A rank that holds a
//! range of a tensor hashes the maximal subtrees inside it, of which there are O(log n); merged
//! with those of the other ranks they give the hash of the whole tensor, which does not show how
//! it was cut.

use std::io;
use std::ops::Range;

use blake3::hazmat::{ChainingValue, ContextKey, HasherExt, Mode};
use blake3::hazmat::{hash_derive_key_context, left_subtree_len};
use blake3::hazmat::{merge_subtrees_non_root, merge_subtrees_root};
use rayon::prelude::*;

use super::span::Span;
use crate::crypto::Domain;
use crate::crypto::Hash;

/// The value of a subtree over some bytes of a tensor; of all of them, the tensor's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Which tensor of the table.
    pub tensor: u32,
    /// Where its bytes start in the tensor.
    pub offset: u64,
    /// How many they are.
    pub len: u64,
    /// Chaining value, or hash.
    pub value: [u8; 32],
}

/// Why the pieces of a tensor cannot be merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash {
    /// Two cover the same bytes, or one is no subtree.
    Overlap(u32),
    /// Two are of the same bytes and differ.
    Differ(u32),
}

/// What to make of two pieces of the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copies {
    /// A clash: every element has one owner.
    Refused,
    /// One of them is enough, if they are equal: replicas.
    Equal,
}

/// BLAKE3 in the domain of checkpoint data.
#[derive(Debug)]
pub(super) struct Tree {
    key: ContextKey,
}

impl Tree {
    /// The tree.
    pub fn new() -> Self {
        Self { key: hash_derive_key_context(Domain::CheckpointData.context()) }
    }

    /// The hash of a whole span, on all threads of the current pool.
    pub fn root<S: Span>(&self, span: S) -> io::Result<Hash> {
        if span.len() <= S::PIECE_BYTES {
            return Ok(Hash(*self.leaf(0, span, blake3::Hasher::finalize)?.as_bytes()));
        }
        let (a, b) = self.halves(0, span)?;
        Ok(Hash(*merge_subtrees_root(&a, &b, self.mode()).as_bytes()))
    }

    /// The pieces of a span that begins at byte `first` of the `total` bytes of tensor `tensor`.
    /// `first` and the end are multiples of [`SLICE_BYTES`], or the tensor's end.
    pub fn pieces<S: Span>(
        &self,
        tensor: u32,
        total: u64,
        first: u64,
        span: S,
    ) -> io::Result<Vec<Piece>> {
        if span.len() == total {
            let value = self.root(span)?.0;
            return Ok(vec![Piece { tensor, offset: 0, len: total, value }]);
        }
        let mut ranges = Vec::new();
        cover(0..total, &(first..first + span.len()), &mut ranges);
        let mut parts = Vec::with_capacity(ranges.len());
        let mut rest = span;
        for range in ranges {
            let (part, next) = rest.split_at(range.end - range.start);
            parts.push((range.start, part));
            rest = next;
        }
        let piece = |(offset, part): (u64, S)| {
            let len = part.len();
            Ok(Piece { tensor, offset, len, value: self.subtree(offset, part)? })
        };
        parts.into_par_iter().map(piece).collect()
    }

    /// Merges pieces as far as possible. `totals`: bytes of every tensor. The result is sorted.
    pub fn merge(
        &self,
        mut pieces: Vec<Piece>,
        totals: &[u64],
        copies: Copies,
    ) -> Result<Vec<Piece>, Clash> {
        pieces.sort_unstable_by_key(|p| (p.tensor, p.offset, p.len));
        let same =
            |a: &Piece, b: &Piece| (a.tensor, a.offset, a.len) == (b.tensor, b.offset, b.len);
        if let Some(pair) = pieces.windows(2).find(|pair| same(&pair[0], &pair[1])) {
            if copies == Copies::Refused {
                return Err(Clash::Overlap(pair[0].tensor));
            }
            let differ = pieces.windows(2).find(|p| same(&p[0], &p[1]) && p[0] != p[1]);
            if let Some(pair) = differ {
                return Err(Clash::Differ(pair[0].tensor));
            }
            pieces.dedup();
        }
        let mut merged = Vec::new();
        for group in pieces.chunk_by(|a, b| a.tensor == b.tensor) {
            let tensor = group[0].tensor;
            let total = totals.get(tensor as usize).copied().unwrap_or(0);
            merged.extend(self.reduce(0..total, total, group).ok_or(Clash::Overlap(tensor))?);
        }
        Ok(merged)
    }

    /// Merges the pieces of one tensor that lie in its node over the bytes `node`; `None` if they
    /// overlap or are no subtrees.
    fn reduce(&self, node: Range<u64>, total: u64, pieces: &[Piece]) -> Option<Vec<Piece>> {
        let exactly = |p: &Piece, range: &Range<u64>| {
            p.offset == range.start && p.len == range.end - range.start
        };
        match pieces {
            [] => return Some(Vec::new()),
            [one] if exactly(one, &node) => return Some(vec![*one]),
            _ if node.end - node.start <= blake3::CHUNK_LEN as u64 => return None,
            _ => {}
        }
        let middle = node.start + left_subtree_len(node.end - node.start);
        let (left, right) = pieces.split_at(pieces.partition_point(|p| p.offset < middle));
        let inside = |p: &Piece, end| p.offset.checked_add(p.len).is_some_and(|e| e <= end);
        if !left.iter().all(|p| inside(p, middle)) || !right.iter().all(|p| inside(p, node.end)) {
            return None;
        }
        let left = self.reduce(node.start..middle, total, left)?;
        let right = self.reduce(middle..node.end, total, right)?;
        match (&left[..], &right[..]) {
            ([a], [b]) if exactly(a, &(node.start..middle)) && exactly(b, &(middle..node.end)) => {
                let len = node.end - node.start;
                let value = match len == total {
                    true => *merge_subtrees_root(&a.value, &b.value, self.mode()).as_bytes(),
                    false => merge_subtrees_non_root(&a.value, &b.value, self.mode()),
                };
                Some(vec![Piece { tensor: a.tensor, offset: node.start, len, value }])
            }
            _ => Some([left, right].concat()),
        }
    }

    /// The key of the context.
    pub fn key(&self) -> &ContextKey {
        &self.key
    }

    fn mode(&self) -> Mode<'_> {
        Mode::DeriveKeyMaterial(&self.key)
    }

    /// Chaining value of the subtree over `span`, which begins at byte `offset`.
    fn subtree<S: Span>(&self, offset: u64, span: S) -> io::Result<ChainingValue> {
        if span.len() <= S::PIECE_BYTES {
            return self.leaf(offset, span, |hasher| hasher.finalize_non_root());
        }
        let (a, b) = self.halves(offset, span)?;
        Ok(merge_subtrees_non_root(&a, &b, self.mode()))
    }

    /// Chaining values of the two children of the subtree over `span`.
    fn halves<S: Span>(&self, offset: u64, span: S) -> io::Result<(ChainingValue, ChainingValue)> {
        let left_len = left_subtree_len(span.len());
        let (left, right) = span.split_at(left_len);
        let (a, b) =
            rayon::join(|| self.subtree(offset, left), || self.subtree(offset + left_len, right));
        Ok((a?, b?))
    }

    /// Brings at most [`Span::PIECE_BYTES`] into memory and hashes them.
    fn leaf<S: Span, R>(
        &self,
        offset: u64,
        span: S,
        finish: impl FnOnce(&blake3::Hasher) -> R,
    ) -> io::Result<R> {
        let mut hasher = blake3::Hasher::new_from_context_key(&self.key);
        hasher.set_input_offset(offset);
        span.visit(|bytes| finish(hasher.update(bytes)))
    }
}

/// The maximal subtrees of the node over the bytes `node` that lie in `wanted`, ascending.
fn cover(node: Range<u64>, wanted: &Range<u64>, found: &mut Vec<Range<u64>>) {
    if wanted.end <= node.start || node.end <= wanted.start {
        return;
    }
    if wanted.start <= node.start && node.end <= wanted.end {
        found.push(node);
        return;
    }
    let middle = node.start + left_subtree_len(node.end - node.start);
    cover(node.start..middle, wanted, found);
    cover(middle..node.end, wanted, found);
}

#[cfg(test)]
mod tests {
    use super::super::digest::hash_bytes;
    use super::super::span::InMemory;
    use super::*;

    const SLICE: usize = super::super::SLICE_ELEMENTS * 4;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    /// Pieces of `bytes` cut at `cuts` slices.
    fn cut(tree: &Tree, bytes: &[u8], cuts: &[usize]) -> Vec<Piece> {
        let ends = cuts.iter().map(|c| (c * SLICE).min(bytes.len())).chain([bytes.len()]);
        let (mut start, mut pieces) = (0, Vec::new());
        for end in ends {
            if end > start {
                let span = InMemory(&bytes[start..end]);
                pieces.extend(tree.pieces(0, bytes.len() as u64, start as u64, span).unwrap());
            }
            start = end;
        }
        pieces
    }

    #[test]
    fn however_bytes_are_cut_their_hash_is_the_same() {
        let tree = Tree::new();
        for len in [1, 1024, SLICE, SLICE + 1, 3 * SLICE, 64 * SLICE, 77 * SLICE + 13] {
            let (bytes, total) = (bytes(len), len as u64);
            for cuts in [&[][..], &[1], &[1, 2, 3], &[2, 40], &[5, 6, 33, 70]] {
                let mut pieces = cut(&tree, &bytes, cuts);
                assert!(pieces.len() <= (cuts.len() + 1) * 14, "{} pieces", pieces.len());
                pieces.reverse();
                let merged = tree.merge(pieces, &[total], Copies::Refused).unwrap();
                let value = hash_bytes(&bytes).0;
                let want = Piece { tensor: 0, offset: 0, len: total, value };
                assert_eq!(merged, [want], "{len} bytes cut at {cuts:?}");
            }
        }
    }

    #[test]
    fn holes_stay_and_copies_are_told_from_overlaps() {
        let tree = Tree::new();
        let bytes = bytes(8 * SLICE);
        let totals = [bytes.len() as u64];
        let pieces = cut(&tree, &bytes, &[1, 3, 5]);
        let holes = tree.merge(pieces[1..].to_vec(), &totals, Copies::Refused).unwrap();
        assert!(holes.iter().all(|p| p.offset > 0));
        let twice = [&pieces[..], &pieces[..1]].concat();
        let refused = tree.merge(twice.clone(), &totals, Copies::Refused);
        assert_eq!(refused, Err(Clash::Overlap(0)));
        assert_eq!(tree.merge(twice.clone(), &totals, Copies::Equal).unwrap().len(), 1);
        let mut differ = twice;
        differ.last_mut().unwrap().value[0] ^= 1;
        assert_eq!(tree.merge(differ, &totals, Copies::Equal), Err(Clash::Differ(0)));
        let nested = [&pieces[..], &cut(&tree, &bytes, &[])[..]].concat();
        assert_eq!(tree.merge(nested, &totals, Copies::Equal), Err(Clash::Overlap(0)));
        let nonsense = Piece { tensor: 0, offset: 7, len: u64::MAX, value: [0; 32] };
        assert_eq!(tree.merge(vec![nonsense], &totals, Copies::Equal), Err(Clash::Overlap(0)));
    }
}
