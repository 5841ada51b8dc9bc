//! Chaining values of BLAKE3 subtrees over a tensor's bytes, where the tensor lives, so that a hash
//! of the state needs no copy of it (BLAKE3 paper, O'Connor et al. 2020, section 2.1).
//!
//! A subtree has [`SUBTREE_BYTES`] bytes: 128 chunks of 1 KiB. Merged on the host, its values give
//! the hash of all bytes in the mode `derive_key`.

use super::{Kernels, OpError, expect_shape};
use crate::tensor::View;

/// Bytes of a subtree.
pub const SUBTREE_BYTES: usize = 128 << 10;

/// Arguments of [`subtrees`].
#[derive(Debug)]
pub struct Subtrees<'a> {
    /// One value per subtree, overwritten.
    pub values: &'a mut [[u8; 32]],
    /// The tensor, or rows of it: a multiple of [`SUBTREE_BYTES`] bytes.
    pub inp: View<'a>,
    /// Key of the hash's context.
    pub key: &'a [u8; 32],
    /// Where the bytes begin in what is hashed: a multiple of [`SUBTREE_BYTES`].
    pub offset: u64,
}

/// The chaining value of every subtree.
pub fn subtrees(kernels: &dyn Kernels, args: Subtrees<'_>) -> Result<(), OpError> {
    let bytes = args.inp.shape().len() * args.inp.dtype().size_bytes();
    expect_shape("digest::subtrees inp", &[bytes], &[args.values.len() * SUBTREE_BYTES])?;
    if !args.offset.is_multiple_of(SUBTREE_BYTES as u64) {
        let why = format!("{} is no multiple of {SUBTREE_BYTES}", args.offset);
        return Err(OpError::Extent { what: "digest::subtrees offset", why });
    }
    kernels.digest_subtrees(args)
}

/// What a backend supplies. Shapes have been checked.
pub trait Kernel {
    /// See [`subtrees`].
    fn digest_subtrees(&self, args: Subtrees<'_>) -> Result<(), OpError>;
}
