//! BLAKE3 subtrees: a block per subtree, a thread per chunk.

use super::Cuda;
use super::door::Address;
use super::door::Arg;
use crate::ops::OpError;
use crate::ops::digest::Kernel;
use crate::ops::digest::Subtrees;

impl Kernel for Cuda {
    fn digest_subtrees(&self, args: Subtrees<'_>) -> Result<(), OpError> {
        let Subtrees { values, inp, key, offset } = args;
        if values.is_empty() {
            return Ok(());
        }
        let from = self.at("digest::subtrees inp", inp, inp.dtype())?;
        self.digest_at("digest::subtrees", from, values, key, offset)
    }
}

impl Cuda {
    /// The values of the subtrees that begin at `from`, for the operation `op`.
    pub(super) fn digest_at(
        &self,
        op: &'static str,
        from: Address,
        values: &mut [[u8; 32]],
        key: &[u8; 32],
        offset: u64,
    ) -> Result<(), OpError> {
        let out: &mut [u8] = values.as_flattened_mut();
        self.with_scratch(op, out.len(), |at| {
            let blocks = out.len() / 32;
            let call = self.kernel(op, "digest_subtrees").grid([blocks, 1, 1]);
            let mut call = call.block([128, 1, 1]).pointer(at).pointer(from);
            for word in key.as_chunks::<8>().0 {
                call = call.arg(Arg::U64(u64::from_le_bytes(*word)));
            }
            call.arg(Arg::U64(offset / 1024)).launch()?;
            self.door.read(out, at).map_err(|fault| self.failed(op, fault))
        })
    }
}
