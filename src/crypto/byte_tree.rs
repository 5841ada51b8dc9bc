//! BLAKE3's own tree over a long string of bytes, so that parts of it prove themselves.
//!
//! A hash in a [`Domain`] is the root of a binary tree over chunks of 1 KiB (BLAKE3 paper, section
//! 2.1). The values of its subtrees over groups of [`GROUP_BYTES`] say which group changed; a
//! [`slice`](ByteTree::prove) of chunks with the values beside its path proves itself against the
//! root. Hashing group by group is as fast as hashing the whole: a group fills the widest vectors.

use std::ops::Range;

use blake3::hazmat::{ChainingValue, ContextKey, HasherExt, Mode};
use blake3::hazmat::{hash_derive_key_context, left_subtree_len};
use blake3::hazmat::{merge_subtrees_non_root, merge_subtrees_root};
use rayon::prelude::*;

use super::Domain;
use super::Hash;

/// Bytes of a chunk, the smallest part that proves itself.
pub const CHUNK_BYTES: u64 = blake3::CHUNK_LEN as u64;
/// Bytes of a group of chunks: the unit in which changes are located.
pub const GROUP_BYTES: u64 = 16 * CHUNK_BYTES;

/// The tree of one domain.
#[derive(Clone, Debug)]
pub struct ByteTree {
    key: ContextKey,
}

impl ByteTree {
    /// The tree of `domain`.
    pub fn new(domain: Domain) -> Self {
        Self { key: hash_derive_key_context(domain.context()) }
    }

    /// Groups of a string of `len` bytes; the empty string has one.
    pub fn groups(len: u64) -> u64 {
        len.div_ceil(GROUP_BYTES).max(1)
    }

    /// The bytes of group `index` of a string of `len` bytes.
    pub fn group_range(index: u64, len: u64) -> Range<u64> {
        let start = (index * GROUP_BYTES).min(len);
        start..(start + GROUP_BYTES).min(len)
    }

    /// The value of group `index`, whose bytes are `group`, in a string of `len` bytes. The only
    /// group of a string has the string's hash.
    pub fn group_value(&self, index: u64, group: &[u8], len: u64) -> [u8; 32] {
        self.subtree(index * GROUP_BYTES, group, len)
    }

    /// The values of all groups of `bytes`, on all threads.
    pub fn group_values(&self, bytes: &[u8]) -> Vec<[u8; 32]> {
        let len = bytes.len() as u64;
        if bytes.is_empty() {
            return vec![self.group_value(0, bytes, len)];
        }
        let groups = bytes.par_chunks(GROUP_BYTES as usize).enumerate();
        groups.map(|(i, group)| self.group_value(i as u64, group, len)).collect()
    }

    /// The hash of a string, from the values of its groups; none where there are no values.
    pub fn root(&self, values: &[[u8; 32]]) -> Option<Hash> {
        let value = match values {
            [] => return None,
            [only] => *only,
            _ => {
                let (left, right) = values.split_at(left_groups(values.len()));
                let (a, b) = rayon::join(|| self.merged(left), || self.merged(right));
                *merge_subtrees_root(&a, &b, self.mode()).as_bytes()
            }
        };
        Some(Hash(value))
    }

    /// The chunks that hold the bytes `part` of a string of `len` bytes, as bytes. `part` is not
    /// empty and within the string.
    pub fn slice_range(part: &Range<u64>, len: u64) -> Range<u64> {
        let start = part.start / CHUNK_BYTES * CHUNK_BYTES;
        start..part.end.div_ceil(CHUNK_BYTES).saturating_mul(CHUNK_BYTES).min(len)
    }

    /// The values beside the path of the chunks `slice` (of [`Self::slice_range`]), in the order
    /// in which [`Self::slice_root`] wants them. `values` are those of the groups of `bytes`.
    pub fn prove(&self, bytes: &[u8], values: &[[u8; 32]], slice: &Range<u64>) -> Vec<[u8; 32]> {
        let mut beside = Vec::new();
        let len = bytes.len() as u64;
        walk(0..len, slice, &mut |node, within| {
            if !within {
                beside.push(self.node(bytes, values, &node));
            }
        });
        beside
    }

    /// How many values stand beside the path of `slice` in a string of `len` bytes.
    pub fn beside(len: u64, slice: &Range<u64>) -> usize {
        let mut count = 0;
        walk(0..len, slice, &mut |_, within| count += usize::from(!within));
        count
    }

    /// The hash of a string of `len` bytes that has `data` at `slice`, a range of whole chunks, by
    /// the values beside its path. None where `data` is not as long as the slice, or where there
    /// are more or fewer values than the path has. Of `len` only the number of chunks counts where
    /// the slice does not hold the last one: it must be known from elsewhere.
    pub fn slice_root(
        &self,
        len: u64,
        slice: &Range<u64>,
        data: &[u8],
        beside: &[[u8; 32]],
    ) -> Option<Hash> {
        let whole = slice.start < slice.end && slice.end <= len;
        if !whole || *slice != Self::slice_range(slice, len) {
            return None;
        }
        if data.len() as u64 != slice.end - slice.start || beside.len() != Self::beside(len, slice)
        {
            return None;
        }
        let mut rest = beside.iter();
        let value = self.rebuild(0..len, len, slice, data, &mut rest)?;
        Some(Hash(value))
    }

    /// The value of a node that lies in the slice, beside it, or across its border.
    fn rebuild(
        &self,
        node: Range<u64>,
        len: u64,
        slice: &Range<u64>,
        data: &[u8],
        beside: &mut std::slice::Iter<'_, [u8; 32]>,
    ) -> Option<[u8; 32]> {
        if node.end <= slice.start || slice.end <= node.start {
            return beside.next().copied();
        }
        if slice.start <= node.start && node.end <= slice.end {
            let at = (node.start - slice.start) as usize;
            let bytes = data.get(at..at + (node.end - node.start) as usize)?;
            return Some(self.subtree(node.start, bytes, len));
        }
        let middle = node.start + left_subtree_len(node.end - node.start);
        let root = node.start == 0 && node.end == len;
        let left = self.rebuild(node.start..middle, len, slice, data, beside)?;
        let right = self.rebuild(middle..node.end, len, slice, data, beside)?;
        Some(match root {
            true => *merge_subtrees_root(&left, &right, self.mode()).as_bytes(),
            false => merge_subtrees_non_root(&left, &right, self.mode()),
        })
    }

    /// The value of a node of the tree over `bytes`, which is not the root.
    fn node(&self, bytes: &[u8], values: &[[u8; 32]], node: &Range<u64>) -> ChainingValue {
        if node.end - node.start < GROUP_BYTES {
            let part = &bytes[node.start as usize..node.end as usize];
            return self.subtree(node.start, part, bytes.len() as u64);
        }
        let groups = node.start / GROUP_BYTES..node.end.div_ceil(GROUP_BYTES);
        self.merged(&values[groups.start as usize..groups.end as usize])
    }

    /// The value of the subtree over `part`, at `offset` of a string of `len` bytes; of the whole
    /// string its hash.
    fn subtree(&self, offset: u64, part: &[u8], len: u64) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_from_context_key(&self.key);
        if part.len() as u64 == len {
            return *hasher.update(part).finalize().as_bytes();
        }
        hasher.set_input_offset(offset).update(part).finalize_non_root()
    }

    fn merged(&self, values: &[ChainingValue]) -> ChainingValue {
        if let [only] = values {
            return *only;
        }
        let (left, right) = values.split_at(left_groups(values.len()));
        let (a, b) = match values.len() > PARALLEL_GROUPS {
            true => rayon::join(|| self.merged(left), || self.merged(right)),
            false => (self.merged(left), self.merged(right)),
        };
        merge_subtrees_non_root(&a, &b, self.mode())
    }

    fn mode(&self) -> Mode<'_> {
        Mode::DeriveKeyMaterial(&self.key)
    }
}

/// Tells `visit` of the maximal subtrees beside the slice (false) and within it (true), from left
/// to right.
fn walk(node: Range<u64>, slice: &Range<u64>, visit: &mut impl FnMut(Range<u64>, bool)) {
    if node.end <= slice.start || slice.end <= node.start {
        return visit(node, false);
    }
    if slice.start <= node.start && node.end <= slice.end {
        return visit(node, true);
    }
    let middle = node.start + left_subtree_len(node.end - node.start);
    walk(node.start..middle, slice, visit);
    walk(middle..node.end, slice, visit);
}

/// Groups in the left subtree of `groups`, which are two or more: the largest power of two below.
fn left_groups(groups: usize) -> usize {
    groups.next_power_of_two() / 2
}

/// Merging fewer values is not worth waking a thread.
const PARALLEL_GROUPS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(len: u64) -> Vec<u8> {
        (0..len).map(|i| (i * 31 % 251) as u8).collect()
    }

    const LENGTHS: &[u64] = &[
        1, 2, 1023, 1024, 1025, 2048, 5000, 16_384, 16_385, 17_408, 32_768, 40_001, 81_920, 262_145,
    ];

    #[test]
    fn groups_merge_to_the_hash_of_the_whole() {
        let tree = ByteTree::new(Domain::TokenShard);
        for &len in [0].iter().chain(LENGTHS) {
            let bytes = bytes(len);
            let values = tree.group_values(&bytes);
            assert_eq!(values.len() as u64, ByteTree::groups(len));
            let want = Hash(blake3::derive_key(Domain::TokenShard.context(), &bytes));
            assert_eq!(tree.root(&values), Some(want), "{len}");
        }
        assert_eq!(tree.root(&[]), None);
    }

    #[test]
    fn slices_prove_themselves_and_nothing_else() {
        let tree = ByteTree::new(Domain::TokenShard);
        for &len in LENGTHS {
            let bytes = bytes(len);
            let values = tree.group_values(&bytes);
            let root = tree.root(&values);
            for (start, part) in [(0, 1), (0, len), (len / 2, 2050), (len - 1, 1), (1000, 40)] {
                let part = start..(start + part).min(len);
                if part.start >= part.end {
                    continue;
                }
                let slice = ByteTree::slice_range(&part, len);
                let mut data = bytes[slice.start as usize..slice.end as usize].to_vec();
                let mut beside = tree.prove(&bytes, &values, &slice);
                assert_eq!(tree.slice_root(len, &slice, &data, &beside), root, "{len} {part:?}");
                assert!(beside.len() <= 2 * 9);
                data[0] ^= 1;
                assert_ne!(tree.slice_root(len, &slice, &data, &beside), root);
                data[0] ^= 1;
                beside.push([0; 32]);
                assert_eq!(tree.slice_root(len, &slice, &data, &beside), None);
                for i in 0..beside.len() - 1 {
                    let mut other = beside[..beside.len() - 1].to_vec();
                    other[i][7] ^= 0x20;
                    assert_ne!(tree.slice_root(len, &slice, &data, &other), root);
                }
            }
        }
    }

    #[test]
    fn slices_that_are_none_are_refused() {
        let tree = ByteTree::new(Domain::TokenShard);
        for slice in [0..0, 0..1025, 1..1024, 1024..4096, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
            assert_eq!(tree.slice_root(3000, &slice, &[0; 1024], &[]), None, "{slice:?}");
        }
    }
}
