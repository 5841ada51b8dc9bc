//! SwiGLU: one thread per run of 16 bytes of the output.

use super::Cuda;
use super::rmsnorm::whole_runs;
use crate::ops::OpError;
use crate::ops::swiglu::Backward;
use crate::ops::swiglu::Forward;
use crate::ops::swiglu::Kernel;
use crate::tensor::DType;

impl Kernel for Cuda {
    fn swiglu_forward(&self, mut args: Forward<'_>) -> Result<(), OpError> {
        let [rows, ffn] = [args.out.shape()[0], args.out.shape()[1]];
        let t = self.activations("swiglu::forward inp", args.inp.dtype())?;
        let out = self.at_mut("swiglu::forward out", &mut args.out, t)?;
        let inp = self.at("swiglu::forward inp", args.inp, t)?;
        let kernel = match (t, whole_runs(t, ffn, &[out, inp])) {
            (DType::Bf16, true) => "swiglu_forward_bf16",
            (DType::Bf16, false) => "swiglu_forward_bf16_any",
            (_, true) => "swiglu_forward_f32",
            (_, false) => "swiglu_forward_f32_any",
        };
        let call = self
            .kernel("swiglu::forward", kernel)
            .threads(runs(t, rows, ffn), self.launches.swiglu_threads);
        call.pointer(out).pointer(inp).count(rows).extent(ffn).launch()
    }

    fn swiglu_backward(&self, mut args: Backward<'_>) -> Result<(), OpError> {
        let [rows, ffn] = [args.dout.shape()[0], args.dout.shape()[1]];
        let t = self.activations("swiglu::backward inp", args.inp.dtype())?;
        let dinp = self.at_mut("swiglu::backward dinp", &mut args.dinp, t)?;
        let dout = self.at("swiglu::backward dout", args.dout, t)?;
        let inp = self.at("swiglu::backward inp", args.inp, t)?;
        let kernel = match (t, whole_runs(t, ffn, &[dinp, dout, inp])) {
            (DType::Bf16, true) => "swiglu_backward_bf16",
            (DType::Bf16, false) => "swiglu_backward_bf16_any",
            (_, true) => "swiglu_backward_f32",
            (_, false) => "swiglu_backward_f32_any",
        };
        let call = self
            .kernel("swiglu::backward", kernel)
            .threads(runs(t, rows, ffn), self.launches.swiglu_threads);
        call.pointer(dinp).pointer(dout).pointer(inp).count(rows).extent(ffn).launch()
    }
}

/// Runs of 16 bytes in all rows; a row's last one may be partly filled.
fn runs(dtype: DType, rows: usize, columns: usize) -> usize {
    rows * (columns * dtype.size_bytes()).div_ceil(16)
}
