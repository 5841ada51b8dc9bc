//! Reading in the order of the file, with the disk a batch ahead of the hashing.

use std::fs::File;
use std::num::NonZeroU64;

use rayon::prelude::*;
use rustix::fs::{Advice, fadvise};

use super::Error;
use super::span::Span;
use super::subtree::{Piece, Tree};

/// A span whose bytes are in a file.
pub(super) trait InFile: Span {
    /// The file, and where its bytes start in it.
    fn place(&self) -> (&File, u64);
}

/// Some bytes of a tensor, to be read and hashed.
pub(super) struct Block<S> {
    /// Which tensor of the table.
    pub tensor: usize,
    /// Bytes of the whole tensor.
    pub total: u64,
    /// Where the span starts in the tensor.
    pub first: u64,
    /// The bytes.
    pub span: S,
}

/// Reads and hashes `slices`, which are sorted by file and place, on all threads of the current
/// pool. `failed` makes an error of a tensor.
pub(super) fn read<S: InFile>(
    tree: &Tree,
    slices: Vec<Block<S>>,
    failed: impl Fn(usize, std::io::Error) -> Error + Sync,
) -> Result<Vec<Piece>, Error> {
    let mut batches = batches(slices).into_iter().peekable();
    if let Some(first) = batches.peek() {
        announce(first);
    }
    let mut pieces = Vec::new();
    while let Some(batch) = batches.next() {
        if let Some(next) = batches.peek() {
            announce(next);
        }
        let one = |Block { tensor, total, first, span }: Block<S>| {
            tree.pieces(tensor as u32, total, first, span).map_err(|e| failed(tensor, e))
        };
        let found: Result<Vec<_>, Error> = batch.into_par_iter().map(one).collect();
        pieces.extend(found?.into_iter().flatten());
    }
    Ok(pieces)
}

/// Cuts slices at multiples of [`BATCH_BYTES`] of their tensors, which are borders of subtrees, and
/// groups them to batches of about that size.
fn batches<S: InFile>(slices: Vec<Block<S>>) -> Vec<Vec<Block<S>>> {
    let (mut batches, mut batch, mut batch_bytes) = (Vec::new(), Vec::new(), 0);
    for Block { tensor, total, mut first, span } in slices {
        let mut rest = Some(span);
        while let Some(span) = rest.take() {
            let room = BATCH_BYTES - first % BATCH_BYTES;
            let (span, next) = match span.len() > room {
                true => {
                    let (span, next) = span.split_at(room);
                    (span, Some(next))
                }
                false => (span, None),
            };
            let len = span.len();
            batch.push(Block { tensor, total, first, span });
            (first, rest, batch_bytes) = (first + len, next, batch_bytes + len);
            if batch_bytes >= BATCH_BYTES {
                batches.push(std::mem::take(&mut batch));
                batch_bytes = 0;
            }
        }
    }
    batches.push(batch);
    batches
}

/// Asks the system to read a batch before it is wanted: threads that read a file in several places
/// are no pattern that it would see.
fn announce<S: InFile>(batch: &[Block<S>]) {
    for block in batch {
        let (file, at) = block.span.place();
        // A system that does not take the advice is only slower.
        let _ = fadvise(file, at, NonZeroU64::new(block.span.len()), Advice::WillNeed);
    }
}

/// Twice this is being read or hashed at a time.
const BATCH_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::super::SLICE_ELEMENTS;
    use super::super::digest::hash_bytes;
    use super::super::span::OnDisk;
    use super::super::subtree::Copies;
    use super::*;
    use std::io::Write;

    #[test]
    fn batches_do_not_show_in_hashes() {
        let slice = SLICE_ELEMENTS as u64 * 4;
        // Longer than two batches with a tail, exactly one batch, small.
        let totals = [2 * BATCH_BYTES + 5 * slice + 4, BATCH_BYTES, slice - 4, 3 * slice];
        let len = totals.iter().sum::<u64>();
        let bytes: Vec<u8> = (0..len).map(|i| (i * 31 % 251) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let tree = Tree::new();
        // Cut nowhere, at odd places, just beside the border of a batch.
        for cut in [0, slice, 7 * slice, BATCH_BYTES - slice, BATCH_BYTES + slice] {
            let (mut slices, mut at) = (Vec::new(), 0);
            for (tensor, &total) in totals.iter().enumerate() {
                let cut = if cut < total { cut } else { 0 };
                for (first, end) in [(0, cut), (cut, total)].into_iter().filter(|(a, b)| a < b) {
                    let span = OnDisk { file: &file, at: at + first, len: end - first };
                    slices.push(Block { tensor, total, first, span });
                }
                at += total;
            }
            let pieces = read(&tree, slices, |_, e| panic!("{e}")).unwrap();
            let found = tree.merge(pieces, &totals, Copies::Refused).unwrap();
            let mut at = 0;
            for (tensor, &len) in totals.iter().enumerate() {
                let value = hash_bytes(&bytes[at as usize..(at + len) as usize]).0;
                let want = Piece { tensor: tensor as u32, offset: 0, len, value };
                assert_eq!(found[tensor], want, "cut at {cut}");
                at += len;
            }
            assert_eq!(found.len(), totals.len());
        }
        let span = OnDisk { file: &file, at: len - slice, len: 2 * slice };
        let beyond = vec![Block { tensor: 0, total: 2 * slice, first: 0, span }];
        let failed = |_, e| Error::io("read", "x".as_ref())(e);
        assert!(matches!(read(&tree, beyond, failed), Err(Error::Io { .. })));
    }
}
