//! A launch, put together step by step: grid arithmetic in one place, checked against CUDA's limits.
//!
//! ```text
//! self.kernel("rmsnorm::forward", "rmsnorm_forward_f32")
//!     .warps(rows, 8)                    // a warp for each row, 8 warps in a block
//!     .pointer(out).pointer(inp).f32(eps).extent(rows).extent(columns)
//!     .launch()
//! ```

use super::Cuda;
use super::door::Address;
use super::door::Arg;
use super::door::Fault;
use super::door::Launch;
use crate::ops::OpError;

/// Threads of a warp.
pub(super) const WARP: usize = 32;
/// Threads of a block at most.
pub(super) const MAX_THREADS: usize = 1024;
/// Shared memory of a block at most, in bytes, on Hopper (CUDA programming guide, table of compute
/// capabilities); on Ampere 163 KiB.
pub(super) const MAX_SHARED_BYTES: usize = 227 * 1024;
/// Blocks along y and along z at most.
const MAX_GRID_YZ: usize = 65_535;

/// A launch in the making; an impossible step is remembered, and told by [`Self::launch`].
#[must_use = "nothing runs before `launch`"]
pub(super) struct Call<'a> {
    cuda: &'a Cuda,
    op: &'static str,
    kernel: &'static str,
    grid: [usize; 3],
    block: [usize; 3],
    shared_bytes: usize,
    args: Vec<Arg>,
    wrong: Option<String>,
}

impl Cuda {
    /// Begins a launch of `kernel` for the operation `op`: one block of one warp.
    pub(super) fn kernel(&self, op: &'static str, kernel: &'static str) -> Call<'_> {
        let (grid, block) = ([1; 3], [WARP, 1, 1]);
        Call { cuda: self, op, kernel, grid, block, shared_bytes: 0, args: vec![], wrong: None }
    }

    /// A fault of the device as the failure of `op`.
    pub(super) fn failed(&self, op: &'static str, fault: Fault) -> OpError {
        match fault {
            Fault::OutOfMemory { bytes, free, total } => OpError::Memory {
                bytes,
                device: format!("{} ({free} bytes free of {total})", self.door.describe()),
            },
            fault => OpError::Launch { op, cause: fault.to_string() },
        }
    }
}

impl Call<'_> {
    /// Blocks along x, y and z. Without any, nothing is launched.
    pub fn grid(mut self, grid: [usize; 3]) -> Self {
        self.grid = grid;
        self
    }

    /// Threads of a block along x, y and z.
    pub fn block(mut self, block: [usize; 3]) -> Self {
        self.block = block;
        self
    }

    /// One thread for each of `items`, in blocks of `threads` along x.
    pub fn threads(self, items: usize, threads: usize) -> Self {
        self.grid([items.div_ceil(threads), 1, 1]).block([threads, 1, 1])
    }

    /// One warp for each of `items`, in blocks of `warps` warps, all along x.
    pub fn warps(self, items: usize, warps: usize) -> Self {
        self.grid([items.div_ceil(warps), 1, 1]).block([WARP * warps, 1, 1])
    }

    /// Dynamic shared memory of a block, in bytes.
    #[allow(dead_code, reason = "for the kernels to come")]
    pub fn shared(mut self, bytes: usize) -> Self {
        self.shared_bytes = bytes;
        self
    }

    /// A pointer.
    pub fn pointer(self, address: Address) -> Self {
        self.arg(Arg::Pointer(address))
    }

    /// An extent, as `int` or `uint32_t`; one that does not fit either is refused.
    pub fn extent(mut self, extent: usize) -> Self {
        match i32::try_from(extent) {
            Ok(extent) => self.arg(Arg::I32(extent)),
            Err(_) => {
                self.wrong.get_or_insert_with(|| format!("an extent of {extent}; below 2^31"));
                self
            }
        }
    }

    /// A count, as `uint64_t`.
    pub fn count(self, count: usize) -> Self {
        self.arg(Arg::U64(count as u64))
    }

    /// A number.
    pub fn f32(self, x: f32) -> Self {
        self.arg(Arg::F32(x))
    }

    /// Any argument.
    pub fn arg(mut self, arg: Arg) -> Self {
        self.args.push(arg);
        self
    }

    /// Runs it, unless there is no block to run.
    pub fn launch(self) -> Result<(), OpError> {
        if self.grid.contains(&0) {
            return Ok(());
        }
        let refused = |cause| OpError::Launch { op: self.op, cause };
        if let Some(why) = self.wrong.clone().or_else(|| self.over_limit()) {
            return Err(refused(format!("kernel {}: {why}", self.kernel)));
        }
        let small = |extents: [usize; 3]| extents.map(|x| x as u32);
        let launch = Launch {
            kernel: self.kernel,
            grid: small(self.grid),
            block: small(self.block),
            shared_bytes: self.shared_bytes as u32,
            args: &self.args,
        };
        self.cuda.door.launch(&launch).map_err(|fault| self.cuda.failed(self.op, fault))
    }

    /// The limit of CUDA that this launch breaks.
    fn over_limit(&self) -> Option<String> {
        let ([x, y, z], [bx, by, bz]) = (self.grid, self.block);
        let threads = bx.saturating_mul(by).saturating_mul(bz);
        if !(1..=MAX_THREADS).contains(&threads) || bz > 64 {
            Some(format!("blocks of {bx} x {by} x {bz} threads; at most {MAX_THREADS}, 64 along z"))
        } else if x > i32::MAX as usize || y > MAX_GRID_YZ || z > MAX_GRID_YZ {
            Some(format!("{x} x {y} x {z} blocks; at most 2^31 - 1 x 65535 x 65535"))
        } else if self.shared_bytes > MAX_SHARED_BYTES {
            Some(format!(
                "{} bytes of shared memory; at most {MAX_SHARED_BYTES}",
                self.shared_bytes
            ))
        } else {
            None
        }
    }
}
