//! Softmax and cross-entropy: one block per row.

use super::Cuda;
use super::door::Address;
use super::rmsnorm::whole_runs;
use crate::ops::OpError;
use crate::ops::cross_entropy::Forward;
use crate::ops::cross_entropy::ForwardBackward;
use crate::ops::cross_entropy::Kernel;
use crate::tensor::DType;

impl Kernel for Cuda {
    fn cross_entropy_forward(&self, mut args: Forward<'_>) -> Result<(), OpError> {
        let [rows, vocab] = [args.logits.shape()[0], args.logits.shape()[1]];
        let t = self.activations("cross_entropy::forward logits", args.logits.dtype())?;
        let losses = self.at_mut("cross_entropy::forward losses", &mut args.losses, DType::F32)?;
        let logits = self.at("cross_entropy::forward logits", args.logits, t)?;
        let targets = self.at("cross_entropy::forward targets", args.targets, DType::U32)?;
        let (kernel, shared) = match self.way(t, vocab, logits) {
            Way::F32 => ("cross_entropy_forward_f32", 0),
            Way::F32Any => ("cross_entropy_forward_f32_any", 0),
            Way::Cached => ("cross_entropy_forward_bf16_cached", vocab * 2),
            Way::Bf16 => ("cross_entropy_forward_bf16", 0),
            Way::Bf16Any => ("cross_entropy_forward_bf16_any", 0),
        };
        let call = self.kernel("cross_entropy::forward", kernel).grid([rows, 1, 1]);
        let call = call.block([threads(t), 1, 1]).shared(shared).pointer(losses).pointer(logits);
        call.pointer(targets).extent(vocab).launch()
    }

    fn cross_entropy_forward_backward(&self, mut args: ForwardBackward<'_>) -> Result<(), OpError> {
        const LOGITS: &str = "cross_entropy::forward_backward logits";
        let [rows, vocab] = [args.logits.shape()[0], args.logits.shape()[1]];
        let t = self.activations(LOGITS, args.logits.dtype())?;
        let losses = &mut args.losses;
        let losses = self.at_mut("cross_entropy::forward_backward losses", losses, DType::F32)?;
        let logits = self.at_mut(LOGITS, &mut args.logits, t)?;
        let targets = args.targets;
        let targets = self.at("cross_entropy::forward_backward targets", targets, DType::U32)?;
        let (kernel, shared) = match self.way(t, vocab, logits) {
            Way::F32 => ("cross_entropy_forward_backward_f32", 0),
            Way::F32Any => ("cross_entropy_forward_backward_f32_any", 0),
            Way::Cached => ("cross_entropy_forward_backward_bf16_cached", vocab * 2),
            Way::Bf16 => ("cross_entropy_forward_backward_bf16", 0),
            Way::Bf16Any => ("cross_entropy_forward_backward_bf16_any", 0),
        };
        let call = self.kernel("cross_entropy::forward_backward", kernel).grid([rows, 1, 1]);
        let call = call.block([threads(t), 1, 1]).shared(shared).pointer(losses).pointer(logits);
        call.pointer(targets).extent(vocab).f32(args.scale).launch()
    }
}

/// The kernel for a row.
enum Way {
    F32,
    F32Any,
    /// The row fits into shared memory, so logits are read once.
    Cached,
    Bf16,
    Bf16Any,
}

impl Cuda {
    fn way(&self, dtype: DType, vocab: usize, logits: Address) -> Way {
        match (dtype, whole_runs(dtype, vocab, &[logits])) {
            (DType::Bf16, true) if vocab * 2 <= self.launches.cross_entropy_cache_kib << 10 => {
                Way::Cached
            }
            (DType::Bf16, true) => Way::Bf16,
            (DType::Bf16, false) => Way::Bf16Any,
            (_, true) => Way::F32,
            (_, false) => Way::F32Any,
        }
    }
}

/// Threads of a block: the partials of the contract's row sum in runs of 16 bytes.
fn threads(dtype: DType) -> usize {
    if dtype == DType::Bf16 { 256 } else { 32 }
}
