//! Matrix products: plain FMAs in `f32` and `bf16`, tensor cores in `tc`.

use super::Cuda;
use super::door::Address;
use super::rmsnorm::whole_runs;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::matmul::BackwardInput;
use crate::ops::matmul::BackwardWeight;
use crate::ops::matmul::Forward;
use crate::ops::matmul::Kernel;
use crate::ops::matmul::Start;
use crate::tensor::DType;

impl Kernel for Cuda {
    fn matmul_forward(&self, mut args: Forward<'_>) -> Result<(), OpError> {
        let t = args.precision.activations();
        let (n, i, o) = (args.inp.shape()[0], args.inp.shape()[1], args.weight.shape()[0]);
        let product = Product {
            out: self.at_mut("matmul::forward out", &mut args.out, t)?,
            a: self.at("matmul::forward inp", args.inp, t)?,
            b: self.at("matmul::forward weight", args.weight, t)?,
            extents: [n, o, i],
            rows: [i, i],
            start: Start::Zero,
        };
        product.run(self, "matmul::forward", args.precision, &FORWARD)
    }

    fn matmul_backward_input(&self, mut args: BackwardInput<'_>) -> Result<(), OpError> {
        let t = args.precision.activations();
        let (n, o, i) = (args.dout.shape()[0], args.dout.shape()[1], args.weight.shape()[1]);
        let product = Product {
            out: self.at_mut("matmul::backward_input dinp", &mut args.dinp, t)?,
            a: self.at("matmul::backward_input dout", args.dout, t)?,
            b: self.at("matmul::backward_input weight", args.weight, t)?,
            extents: [n, i, o],
            rows: [o, i],
            start: Start::Zero,
        };
        product.run(self, "matmul::backward_input", args.precision, &BACKWARD_INPUT)
    }

    fn matmul_backward_weight(&self, mut args: BackwardWeight<'_>) -> Result<(), OpError> {
        let t = args.precision.activations();
        let (n, o, i) = (args.dout.shape()[0], args.dout.shape()[1], args.inp.shape()[1]);
        let product = Product {
            out: self.at_mut("matmul::backward_weight dweight", &mut args.dweight, DType::F32)?,
            a: self.at("matmul::backward_weight dout", args.dout, t)?,
            b: self.at("matmul::backward_weight inp", args.inp, t)?,
            extents: [o, i, n],
            rows: [o, i],
            start: args.start,
        };
        product.run(self, "matmul::backward_weight", args.precision, &BACKWARD_WEIGHT)
    }
}

/// The kernels of a layout: `f32`, `bf16`, `tc`, and `tc` for rows of any length.
type Names = [&'static str; 4];

/// `out(M, N) = [out +] A · B` with k along or across the operands, as the layout says.
struct Product {
    out: Address,
    a: Address,
    b: Address,
    /// M, N and K.
    extents: [usize; 3],
    /// Elements in a row of A and of B, as they lie in memory.
    rows: [usize; 2],
    start: Start,
}

impl Product {
    fn run(
        &self,
        cuda: &Cuda,
        op: &'static str,
        precision: Precision,
        names: &Names,
    ) -> Result<(), OpError> {
        let [m, n, k] = self.extents;
        let call = match precision {
            Precision::F32 | Precision::Bf16 => {
                let name = names[usize::from(precision == Precision::Bf16)];
                let grid = [n.div_ceil(PLAIN_TILE), m.div_ceil(PLAIN_TILE), 1];
                cuda.kernel(op, name).grid(grid).block([16, 16, 1])
            }
            Precision::Tc(core) => {
                cuda.expect_core(op, core)?;
                let aligned = [(self.a, self.rows[0]), (self.b, self.rows[1])];
                let aligned = aligned.iter().all(|(at, row)| whole_runs(DType::Bf16, *row, &[*at]));
                let name = names[if aligned { 2 } else { 3 }];
                let tiles = m.div_ceil(TC_TILE) * n.div_ceil(TC_TILE);
                cuda.kernel(op, name).grid([tiles, 1, 1]).block([256, 1, 1]).shared(TC_SHARED)
            }
        };
        let call = call.pointer(self.out).pointer(self.a).pointer(self.b).extent(m).extent(n);
        call.extent(k).extent(usize::from(self.start == Start::Existing)).launch()
    }
}

const FORWARD: Names =
    ["matmul_forward_f32", "matmul_forward_bf16", "matmul_forward_tc", "matmul_forward_tc_any"];
const BACKWARD_INPUT: Names = [
    "matmul_backward_input_f32",
    "matmul_backward_input_bf16",
    "matmul_backward_input_tc",
    "matmul_backward_input_tc_any",
];
const BACKWARD_WEIGHT: Names = [
    "matmul_backward_weight_f32",
    "matmul_backward_weight_bf16",
    "matmul_backward_weight_tc",
    "matmul_backward_weight_tc_any",
];
/// Outputs of a block along each side: `TILE` of kernels/matmul.cu.
const PLAIN_TILE: usize = 64;
/// `TILE_M` and `TILE_N` of kernels/matmul_tc.cu.
const TC_TILE: usize = 128;
/// Three stages of two tiles of 128 x 32 bf16 elements.
const TC_SHARED: usize = 3 * 2 * 128 * 32 * 2;
