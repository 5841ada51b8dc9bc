//! Matrix products: plain FMAs in `f32` and `bf16`; tensor cores in `tc`, by cuBLASLt (`cublaslt`) or by
//! Hopper's warp groups (`hopper`) where they have proved themselves, else by mma.sync.

use super::Cuda;
use super::door::Address;
use super::door::Matrix;
use super::launch::Call;
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
            layout: Layout::Forward,
            start: Start::Zero,
        };
        product.run(self, "matmul::forward", args.precision)
    }

    fn matmul_backward_input(&self, mut args: BackwardInput<'_>) -> Result<(), OpError> {
        let t = args.precision.activations();
        let (n, o, i) = (args.dout.shape()[0], args.dout.shape()[1], args.weight.shape()[1]);
        let product = Product {
            out: self.at_mut("matmul::backward_input dinp", &mut args.dinp, t)?,
            a: self.at("matmul::backward_input dout", args.dout, t)?,
            b: self.at("matmul::backward_input weight", args.weight, t)?,
            extents: [n, i, o],
            layout: Layout::BackwardInput,
            start: Start::Zero,
        };
        product.run(self, "matmul::backward_input", args.precision)
    }

    fn matmul_backward_weight(&self, mut args: BackwardWeight<'_>) -> Result<(), OpError> {
        let t = args.precision.activations();
        let (n, o, i) = (args.dout.shape()[0], args.dout.shape()[1], args.inp.shape()[1]);
        let product = Product {
            out: self.at_mut("matmul::backward_weight dweight", &mut args.dweight, DType::F32)?,
            a: self.at("matmul::backward_weight dout", args.dout, t)?,
            b: self.at("matmul::backward_weight inp", args.inp, t)?,
            extents: [o, i, n],
            layout: Layout::BackwardWeight,
            start: args.start,
        };
        product.run(self, "matmul::backward_weight", args.precision)
    }
}

/// Which operands lie along k, and which across it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Both along.
    Forward,
    /// A along, B across.
    BackwardInput,
    /// Both across.
    BackwardWeight,
}

impl Layout {
    /// Whether A and B run along k.
    pub fn along(self) -> [bool; 2] {
        match self {
            Self::Forward => [true, true],
            Self::BackwardInput => [true, false],
            Self::BackwardWeight => [false, false],
        }
    }
}

/// `out(M, N) = [out +] A · B`.
pub(super) struct Product {
    pub out: Address,
    pub a: Address,
    pub b: Address,
    /// M, N and K.
    pub extents: [usize; 3],
    pub layout: Layout,
    pub start: Start,
}

impl Product {
    fn run(&self, cuda: &Cuda, op: &'static str, precision: Precision) -> Result<(), OpError> {
        let core = match precision {
            Precision::F32 => return self.by_fmas(cuda, op, 0),
            Precision::Bf16 => return self.by_fmas(cuda, op, 1),
            Precision::Tc(core) => core,
        };
        cuda.expect_core(op, core)?;
        let whole = |x: Matrix| whole_runs(DType::Bf16, x.columns, &[x.address]);
        let aligned = self.operands().into_iter().all(whole);
        let something = self.extents.iter().all(|x| *x > 0);
        if !aligned || !something {
            return self.by_mma(cuda, op, aligned);
        }
        match cuda.planned(op, self)? {
            Some(call) => cuda.door.issue(&call).map_err(|fault| cuda.failed(op, fault)),
            None => self.by_ours(cuda, op),
        }
    }

    /// On tensor cores by the best of our kernels; there is something to do, and all rows are whole
    /// runs of 16 bytes.
    pub fn by_ours(&self, cuda: &Cuda, op: &'static str) -> Result<(), OpError> {
        match cuda.warp_groups(op, self.layout, self)? {
            Some(maps) => self.by_warp_groups(cuda, op, maps),
            None => self.by_mma(cuda, op, true),
        }
    }

    /// A and B as they lie in memory.
    pub fn operands(&self) -> [Matrix; 2] {
        let [m, n, k] = self.extents;
        let [along_a, along_b] = self.layout.along();
        let matrix = |address, outer, along| match along {
            true => Matrix { address, count: 1, rows: outer, columns: k },
            false => Matrix { address, count: 1, rows: k, columns: outer },
        };
        [matrix(self.a, m, along_a), matrix(self.b, n, along_b)]
    }

    fn by_fmas(&self, cuda: &Cuda, op: &'static str, profile: usize) -> Result<(), OpError> {
        let [m, n, _] = self.extents;
        let grid = [n.div_ceil(PLAIN_TILE), m.div_ceil(PLAIN_TILE), 1];
        let call = cuda.kernel(op, self.names()[profile]).grid(grid).block([16, 16, 1]);
        self.finish(call.pointer(self.out).pointer(self.a).pointer(self.b))
    }

    /// On tensor cores by mma.sync; `aligned` says that all rows are whole runs of 16 bytes.
    pub fn by_mma(&self, cuda: &Cuda, op: &'static str, aligned: bool) -> Result<(), OpError> {
        let [m, n, _] = self.extents;
        let tiles = m.div_ceil(MMA_TILE) * n.div_ceil(MMA_TILE);
        let call = cuda.kernel(op, self.names()[if aligned { 2 } else { 3 }]);
        let call = call.grid([tiles, 1, 1]).block([256, 1, 1]).shared(MMA_SHARED);
        self.finish(call.pointer(self.out).pointer(self.a).pointer(self.b))
    }

    /// On tensor cores by Hopper's warp groups; `maps` are those of [`Self::operands`].
    pub fn by_warp_groups(
        &self,
        cuda: &Cuda,
        op: &'static str,
        maps: Address,
    ) -> Result<(), OpError> {
        let [m, n, _] = self.extents;
        let tiles = m.div_ceil(WGMMA_TILE[0]) * n.div_ceil(WGMMA_TILE[1]);
        let call = cuda.kernel(op, self.names()[4]).grid([tiles, 1, 1]).block([384, 1, 1]);
        self.finish(call.shared(WGMMA_SHARED).pointer(self.out).pointer(maps))
    }

    fn finish(&self, call: Call<'_>) -> Result<(), OpError> {
        let [m, n, k] = self.extents;
        let existing = usize::from(self.start == Start::Existing);
        call.extent(m).extent(n).extent(k).extent(existing).launch()
    }

    /// The kernels of the layout: `f32`, `bf16`, `tc`, `tc` for rows of any length, `tc` by warp
    /// groups.
    fn names(&self) -> [&'static str; 5] {
        match self.layout {
            Layout::Forward => [
                "matmul_forward_f32",
                "matmul_forward_bf16",
                "matmul_forward_tc",
                "matmul_forward_tc_any",
                "matmul_forward_wgmma",
            ],
            Layout::BackwardInput => [
                "matmul_backward_input_f32",
                "matmul_backward_input_bf16",
                "matmul_backward_input_tc",
                "matmul_backward_input_tc_any",
                "matmul_backward_input_wgmma",
            ],
            Layout::BackwardWeight => [
                "matmul_backward_weight_f32",
                "matmul_backward_weight_bf16",
                "matmul_backward_weight_tc",
                "matmul_backward_weight_tc_any",
                "matmul_backward_weight_wgmma",
            ],
        }
    }
}

/// Outputs of a block along each side: `TILE` of kernels/matmul.cu.
const PLAIN_TILE: usize = 64;
/// `TILE_M` and `TILE_N` of kernels/matmul_tc.cu.
const MMA_TILE: usize = 128;
/// Three stages of two tiles of 128 x 32 bf16 elements.
const MMA_SHARED: usize = 3 * 2 * 128 * 32 * 2;
/// `TILE_M` and `TILE_N` of kernels/matmul_wgmma.cu.
const WGMMA_TILE: [usize; 2] = [128, 256];
/// Four stages of 64 elements of k, and room to begin at a multiple of 1,024 bytes.
const WGMMA_SHARED: usize = 4 * (WGMMA_TILE[0] + WGMMA_TILE[1]) * 64 * 2 + 1024;
