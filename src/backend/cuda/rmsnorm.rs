//! RMSNorm: one warp per row.

use super::Cuda;
use super::unbuilt;
use crate::ops::OpError;
use crate::ops::rmsnorm::Backward;
use crate::ops::rmsnorm::Forward;
use crate::ops::rmsnorm::ForwardResidual;
use crate::ops::rmsnorm::Kernel;
use crate::tensor::DType;

impl Kernel for Cuda {
    fn rmsnorm_forward(&self, mut args: Forward<'_>) -> Result<(), OpError> {
        let [rows, columns] = [args.inp.shape()[0], args.inp.shape()[1]];
        let (kernel, want) = match args.inp.dtype() {
            DType::Bf16 => ("rmsnorm_forward_bf16", DType::Bf16),
            _ => ("rmsnorm_forward_f32", DType::F32),
        };
        self.kernel("rmsnorm::forward", kernel)
            .warps(rows, ROWS)
            .pointer(self.at_mut("rmsnorm::forward out", &mut args.out, want)?)
            .pointer(self.at_mut("rmsnorm::forward rstd", &mut args.rstd, DType::F32)?)
            .pointer(self.at("rmsnorm::forward inp", args.inp, want)?)
            .pointer(self.at("rmsnorm::forward weight", args.weight, DType::F32)?)
            .f32(args.eps)
            .extent(rows)
            .extent(columns)
            .launch()
    }

    fn rmsnorm_forward_residual(&self, _: ForwardResidual<'_>) -> Result<(), OpError> {
        unbuilt("rmsnorm::forward_residual")
    }

    fn rmsnorm_backward(&self, _: Backward<'_>) -> Result<(), OpError> {
        unbuilt("rmsnorm::backward")
    }
}

/// Rows of a block.
const ROWS: usize = 8;
