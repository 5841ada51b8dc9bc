//! BLAKE3 subtrees, by the `blake3` crate.

use blake3::hazmat::HasherExt;
use rayon::prelude::*;

use crate::ops::OpError;
use crate::ops::digest::Kernel;
use crate::ops::digest::SUBTREE_BYTES;
use crate::ops::digest::Subtrees;

impl Kernel for super::Cpu {
    fn digest_subtrees(&self, args: Subtrees<'_>) -> Result<(), OpError> {
        let (want, got) = (args.inp.dtype(), args.inp.dtype());
        let elsewhere = OpError::Place { what: "digest::subtrees inp", want, got };
        let bytes = args.inp.host_bytes().ok_or(elsewhere)?;
        self.run(|| {
            let pieces = bytes.par_chunks(SUBTREE_BYTES).zip(args.values).enumerate();
            pieces.for_each(|(i, (bytes, value))| {
                let mut hasher = blake3::Hasher::new_from_context_key(args.key);
                hasher.set_input_offset(args.offset + (i * SUBTREE_BYTES) as u64);
                *value = hasher.update(bytes).finalize_non_root();
            });
        });
        Ok(())
    }
}
