//! RMSNorm: one warp per row; gradients of the weight by columns.

use super::Cuda;
use super::door::Address;
use crate::ops::OpError;
use crate::ops::rmsnorm::Backward;
use crate::ops::rmsnorm::Forward;
use crate::ops::rmsnorm::ForwardResidual;
use crate::ops::rmsnorm::Kernel;
use crate::tensor::DType;

impl Kernel for Cuda {
    fn rmsnorm_forward(&self, mut args: Forward<'_>) -> Result<(), OpError> {
        const OP: &str = "rmsnorm::forward";
        let [rows, columns] = [args.inp.shape()[0], args.inp.shape()[1]];
        let t = self.activations("rmsnorm::forward inp", args.inp.dtype())?;
        let out = self.at_mut("rmsnorm::forward out", &mut args.out, t)?;
        let rstd = self.at_mut("rmsnorm::forward rstd", &mut args.rstd, DType::F32)?;
        let inp = self.at("rmsnorm::forward inp", args.inp, t)?;
        let weight = self.at("rmsnorm::forward weight", args.weight, DType::F32)?;
        let kernel = match (t, whole_runs(t, columns, &[out, inp])) {
            (DType::Bf16, true) => "rmsnorm_forward_bf16",
            (DType::Bf16, false) => "rmsnorm_forward_bf16_any",
            (_, true) => "rmsnorm_forward_f32",
            (_, false) => "rmsnorm_forward_f32_any",
        };
        let call = self
            .kernel(OP, kernel)
            .warps(rows, self.launches.rmsnorm_rows)
            .pointer(out)
            .pointer(rstd);
        let call = call.pointer(inp).pointer(weight);
        call.count(rows).extent(columns).f32(args.eps).launch()
    }

    fn rmsnorm_forward_residual(&self, mut args: ForwardResidual<'_>) -> Result<(), OpError> {
        const OP: &str = "rmsnorm::forward_residual";
        let [rows, columns] = [args.inp.shape()[0], args.inp.shape()[1]];
        let t = self.activations("rmsnorm::forward_residual inp", args.inp.dtype())?;
        let out = self.at_mut("rmsnorm::forward_residual out", &mut args.out, t)?;
        let rstd = self.at_mut("rmsnorm::forward_residual rstd", &mut args.rstd, DType::F32)?;
        let sum = self.at_mut("rmsnorm::forward_residual sum", &mut args.sum, t)?;
        let residual = self.at("rmsnorm::forward_residual residual", args.residual, t)?;
        let inp = self.at("rmsnorm::forward_residual inp", args.inp, t)?;
        let weight = self.at("rmsnorm::forward_residual weight", args.weight, DType::F32)?;
        let kernel = match (t, whole_runs(t, columns, &[out, sum, residual, inp])) {
            (DType::Bf16, true) => "rmsnorm_forward_residual_bf16",
            (DType::Bf16, false) => "rmsnorm_forward_residual_bf16_any",
            (_, true) => "rmsnorm_forward_residual_f32",
            (_, false) => "rmsnorm_forward_residual_f32_any",
        };
        let call = self
            .kernel(OP, kernel)
            .warps(rows, self.launches.rmsnorm_rows)
            .pointer(out)
            .pointer(rstd);
        let call = call.pointer(sum).pointer(residual).pointer(inp).pointer(weight);
        call.count(rows).extent(columns).f32(args.eps).launch()
    }

    fn rmsnorm_backward(&self, mut args: Backward<'_>) -> Result<(), OpError> {
        const OP: &str = "rmsnorm::backward";
        let [rows, columns] = [args.inp.shape()[0], args.inp.shape()[1]];
        let t = self.activations("rmsnorm::backward inp", args.inp.dtype())?;
        let dinp = self.at_mut("rmsnorm::backward dinp", &mut args.dinp, t)?;
        let dweight = self.at_mut("rmsnorm::backward dweight", &mut args.dweight, DType::F32)?;
        let dout = self.at("rmsnorm::backward dout", args.dout, t)?;
        let inp = self.at("rmsnorm::backward inp", args.inp, t)?;
        let weight = self.at("rmsnorm::backward weight", args.weight, DType::F32)?;
        let rstd = self.at("rmsnorm::backward rstd", args.rstd, DType::F32)?;
        let aligned = whole_runs(t, columns, &[dinp, dout, inp]);
        let input = |kernel| {
            let call = self
                .kernel(OP, kernel)
                .warps(rows, self.launches.rmsnorm_rows)
                .pointer(dinp)
                .pointer(dout);
            call.pointer(inp).pointer(weight).pointer(rstd).count(rows).extent(columns).launch()
        };
        if t == DType::F32 {
            // The weight's gradient reads what the input's leaves alone.
            input(if aligned { "rmsnorm_backward_input_f32" } else { INPUT_F32_ANY })?;
            let call = self.kernel(OP, "rmsnorm_backward_weight_f32").threads(columns, COLUMNS);
            let call = call.pointer(dweight).pointer(dout).pointer(inp).pointer(rstd);
            return call.count(rows).extent(columns).launch();
        }
        let groups = rows.div_ceil(GROUP);
        if groups == 0 {
            return Ok(());
        }
        self.with_scratch(OP, groups * columns * size_of::<f32>(), |sums| {
            let shared = PARTIALS * columns * size_of::<f32>();
            if shared <= SHARED_AT_MOST {
                let kernel = match aligned {
                    true => "rmsnorm_backward_groups_bf16",
                    false => "rmsnorm_backward_groups_bf16_any",
                };
                let call = self.kernel(OP, kernel).grid([groups, 1, 1]);
                let call = call.block([32 * PARTIALS, 1, 1]).shared(shared).pointer(dinp);
                let call = call.pointer(sums).pointer(dout).pointer(inp).pointer(weight);
                call.pointer(rstd).count(rows).extent(columns).launch()?;
            } else {
                input(if aligned { "rmsnorm_backward_input_bf16" } else { INPUT_BF16_ANY })?;
                let call = self.kernel(OP, "rmsnorm_backward_weight_groups_bf16");
                let grid = [columns.div_ceil(COLUMNS), groups.min(65_535), 1];
                let call = call.grid(grid).block([COLUMNS, 1, 1]).pointer(sums).pointer(dout);
                call.pointer(inp).pointer(rstd).count(rows).extent(columns).launch()?;
            }
            let call = self.kernel(OP, "rmsnorm_backward_weight_bf16").threads(columns, COLUMNS);
            call.pointer(dweight).pointer(sums).count(groups).extent(columns).launch()
        })
    }
}

/// Whether rows of `columns` elements at these addresses are made of whole runs of 16 bytes.
pub(super) fn whole_runs(dtype: DType, columns: usize, at: &[Address]) -> bool {
    (columns * dtype.size_bytes()).is_multiple_of(16) && at.iter().all(|a| a.0.is_multiple_of(16))
}

/// Threads of a block that has one per column.
const COLUMNS: usize = 128;
/// Rows in a group of the weight's gradient, and partials of its sum: docs/ARITHMETIC.md, 16.5.
const GROUP: usize = 64;
const PARTIALS: usize = 8;
/// Beyond this too few blocks fit on a multiprocessor; Ampere has 163 KiB for one.
const SHARED_AT_MOST: usize = 100 << 10;
const INPUT_F32_ANY: &str = "rmsnorm_backward_input_f32_any";
const INPUT_BF16_ANY: &str = "rmsnorm_backward_input_bf16_any";
