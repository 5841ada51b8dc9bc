//! Which data rank owns which elements of a weight, its gradient and its moments.

use crate::collective::Parts;

/// Slices consist of whole blocks of this many elements: those of the global norm, and whole
/// subtrees of BLAKE3 (16 KiB).
pub const BLOCK_ELEMENTS: usize = 4096;

/// The slices of a tensor of `len` elements among `data_ranks` ranks.
pub fn parts_of(len: usize, data_ranks: usize) -> Parts {
    Parts::even(len, data_ranks, BLOCK_ELEMENTS)
}
