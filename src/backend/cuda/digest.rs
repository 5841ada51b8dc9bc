//! BLAKE3 subtrees: a block per subtree, a thread per chunk.

use super::Cuda;
use crate::ops::OpError;
use crate::ops::digest::Kernel;
use crate::ops::digest::Subtrees;

impl Kernel for Cuda {
    fn digest_subtrees(&self, args: Subtrees<'_>) -> Result<(), OpError> {
        const OP: &str = "digest::subtrees";
        let Subtrees { values, inp, key, offset } = args;
        if values.is_empty() {
            return Ok(());
        }
        let from = self.at("digest::subtrees inp", inp, inp.dtype())?;
        let out: &mut [u8] = values.as_flattened_mut();
        self.with_scratch(OP, out.len(), |at| {
            let blocks = out.len() / 32;
            let call = self.kernel(OP, "digest_subtrees").grid([blocks, 1, 1]);
            let mut call = call.block([128, 1, 1]).pointer(at).pointer(from);
            for word in key.as_chunks::<8>().0 {
                call = call.arg(super::door::Arg::U64(u64::from_le_bytes(*word)));
            }
            call.arg(super::door::Arg::U64(offset / 1024)).launch()?;
            self.door.read(out, at).map_err(|fault| self.failed(OP, fault))
        })
    }
}
