//! BLAKE3 subtrees: merged, they give the hash that the crate gives of all bytes.

use blake3::hazmat::Mode;
use blake3::hazmat::hash_derive_key_context;
use blake3::hazmat::merge_subtrees_non_root;
use blake3::hazmat::merge_subtrees_root;
use neuroshard::ops::OpError;
use neuroshard::ops::digest;
use neuroshard::ops::digest::SUBTREE_BYTES;
use neuroshard::tensor::View;

use crate::{each_cpu, paint, refused};

const CONTEXT: &str = "NeuroShard 2026 test of subtrees";

#[test]
fn subtrees_make_up_the_hash() {
    let numbers = paint(3 * SUBTREE_BYTES / 4, 1009);
    let key = hash_derive_key_context(CONTEXT);
    let want = *blake3::Hasher::new_derive_key(CONTEXT)
        .update(bytemuck::cast_slice(&numbers))
        .finalize()
        .as_bytes();
    each_cpu(|cpu, name| {
        let mut values = [[0; 32]; 3];
        // In two calls, as where a tensor is spread.
        for (nth, range) in [(0, 0..1), (1, 1..3)] {
            let elements = SUBTREE_BYTES / 4;
            let part = &numbers[range.start * elements..range.end * elements];
            let args = digest::Subtrees {
                values: &mut values[range.clone()],
                inp: View::of(part, &[part.len()]),
                key: &key,
                offset: (nth * SUBTREE_BYTES) as u64,
            };
            digest::subtrees(cpu, args).unwrap();
        }
        let mode = || Mode::DeriveKeyMaterial(&key);
        let left = merge_subtrees_non_root(&values[0], &values[1], mode());
        let root = merge_subtrees_root(&left, &values[2], mode());
        assert_eq!(*root.as_bytes(), want, "{name}");
    });
}

#[test]
fn bytes_that_are_no_subtrees_are_refused() {
    each_cpu(|cpu, _| {
        let numbers = vec![0.0f32; SUBTREE_BYTES / 4];
        let key = hash_derive_key_context(CONTEXT);
        let call = |values: usize, offset| {
            let mut values = vec![[0; 32]; values];
            let inp = View::of(&numbers, &[numbers.len()]);
            digest::subtrees(cpu, digest::Subtrees { values: &mut values, inp, key: &key, offset })
        };
        let want = refused("digest::subtrees inp", &[2 * SUBTREE_BYTES], &[SUBTREE_BYTES]);
        assert_eq!(call(2, 0), want);
        assert!(matches!(call(1, 1024), Err(OpError::Extent { .. })));
    });
}
