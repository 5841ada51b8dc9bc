//! Merkle trees over short records, and proofs that a record is one of them.
//!
//! The shape is that of RFC 6962 and of BLAKE3: of `n > 1` leaves the left subtree has the largest
//! power of two below `n`. A leaf is the hash of its record in [`Domain::MerkleLeaf`], a node the
//! hash of its two children's in [`Domain::MerkleNode`], so that neither passes for the other. The
//! root does not say how many leaves there are: whoever signs or stores it does.

use super::Domain;
use super::Hash;
use super::Hasher;

/// The hash of a leaf's record.
pub fn leaf(record: &[u8]) -> Hash {
    Hash::of(Domain::MerkleLeaf, record)
}

/// The root over leaves; none where there are none.
pub fn root(leaves: &[Hash]) -> Option<Hash> {
    match leaves {
        [] => None,
        [only] => Some(*only),
        _ => {
            let (left, right) = leaves.split_at(left_leaves(leaves.len() as u64) as usize);
            Some(node(&root(left)?, &root(right)?))
        }
    }
}

/// The hashes beside the path from leaf `index` to the root, from the leaf upward; none where
/// there is no such leaf.
pub fn prove(leaves: &[Hash], index: usize) -> Option<Vec<Hash>> {
    if index >= leaves.len() {
        return None;
    }
    if leaves.len() == 1 {
        return Some(Vec::new());
    }
    let middle = left_leaves(leaves.len() as u64) as usize;
    let (left, right) = leaves.split_at(middle);
    let (mut path, beside) = match index < middle {
        true => (prove(left, index)?, root(right)?),
        false => (prove(right, index - middle)?, root(left)?),
    };
    path.push(beside);
    Some(path)
}

/// The root over `count` leaves of which the one at `index` is `leaf`, by the hashes beside its
/// path. None where the path has not the length that it must have.
pub fn root_by_path(leaf: Hash, index: u64, count: u64, path: &[Hash]) -> Option<Hash> {
    if index >= count || path.len() != path_len(index, count) {
        return None;
    }
    // Sides from the root down; the path goes up.
    let (mut index, mut count) = (index, count);
    let mut right = [false; 64];
    let mut depth = 0;
    while count > 1 {
        let left = left_leaves(count);
        right[depth] = index >= left;
        (index, count) = if index >= left { (index - left, count - left) } else { (index, left) };
        depth += 1;
    }
    let sides = right[..depth].iter().rev();
    Some(path.iter().zip(sides).fold(leaf, |value, (beside, &right)| match right {
        true => node(beside, &value),
        false => node(&value, beside),
    }))
}

/// Hashes beside the path of leaf `index` of `count`.
pub fn path_len(index: u64, count: u64) -> usize {
    let (mut index, mut count, mut depth) = (index, count, 0);
    while count > 1 {
        let left = left_leaves(count);
        (index, count) = if index >= left { (index - left, count - left) } else { (index, left) };
        depth += 1;
    }
    depth
}

fn node(left: &Hash, right: &Hash) -> Hash {
    let mut hasher = Hasher::new(Domain::MerkleNode);
    hasher.update(left.as_bytes()).update(right.as_bytes());
    hasher.finish()
}

/// Leaves in the left subtree of `count`, which is two or more: the largest power of two below.
fn left_leaves(count: u64) -> u64 {
    1 << (count - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(n: u64) -> Vec<Hash> {
        (0..n).map(|i| leaf(&i.to_le_bytes())).collect()
    }

    #[test]
    fn every_leaf_is_proved_and_no_other() {
        for n in 1..40 {
            let leaves = leaves(n);
            let root = root(&leaves).unwrap();
            for i in 0..n {
                let path = prove(&leaves, i as usize).unwrap();
                let at = |leaf, index, path: &[Hash]| root_by_path(leaf, index, n, path);
                let mine = leaves[i as usize];
                assert_eq!(at(mine, i, &path), Some(root), "{i} of {n}");
                assert_ne!(at(leaf(b"x"), i, &path), Some(root));
                for other in (0..n).filter(|&o| o != i) {
                    assert_ne!(at(mine, other, &path), Some(root), "{i} as {other} of {n}");
                }
                let longer = [&path[..], &[mine]].concat();
                assert_eq!(at(mine, i, &longer), None);
                for k in 0..path.len() {
                    assert_eq!(at(mine, i, &path[..k]), None);
                    let mut bad = path.clone();
                    bad[k].0[31] ^= 1;
                    assert_ne!(at(mine, i, &bad), Some(root));
                }
            }
            assert_eq!(prove(&leaves, n as usize), None);
        }
        assert_eq!(super::root(&[]), None);
    }

    #[test]
    fn numbers_from_outside_do_no_harm() {
        let hash = leaf(b"");
        assert_eq!(root_by_path(hash, 0, 0, &[]), None);
        assert_eq!(root_by_path(hash, 5, 5, &[]), None);
        assert_eq!(path_len(0, u64::MAX), 64);
        assert_eq!(path_len(u64::MAX - 1, u64::MAX), 63);
        let path = vec![hash; 64];
        assert!(root_by_path(hash, 0, u64::MAX, &path).is_some());
        assert!(root_by_path(hash, u64::MAX - 1, u64::MAX, &path).is_none());
    }

    #[test]
    fn leaves_are_no_nodes() {
        let pair = leaves(2);
        let both = [pair[0].0, pair[1].0].concat();
        assert_ne!(root(&pair), Some(leaf(&both)));
    }
}
