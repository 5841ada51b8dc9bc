//! NVIDIA GPUs: launchers of the kernels in `kernels/*.cu`, one file per operation.
//!
//! A launcher checks types and places, and hands addresses and extents to a [`Door`]: the driver of
//! a GPU, or the emulator that runs the same kernels, compiled from the same files, on a CPU.

mod adamw;
mod attention;
mod beside;
mod buffer;
mod ceiling;
mod cross_entropy;
pub mod cublaslt;
mod digest;
pub mod door;
pub mod driver;
mod elementwise;
pub mod embedded;
mod embedding;
pub mod emulator;
pub mod graphs;
mod hopper;
mod launch;
mod matmul;
mod norm;
mod rmsnorm;
mod rope;
mod scratch;
mod swiglu;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

pub use beside::Beside;
use buffer::Buffer;
use cublaslt::Plans;
use cublaslt::WORKSPACE_BYTES;
use door::Door;
pub use elementwise::Sum;
use hopper::Hopper;
use scratch::Scratch;

use crate::backend::tuning::Launches;
use crate::backend::tuning::Products;
use crate::ops::DeviceMemory;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::TensorCore;
use crate::tensor::DType;
use crate::tensor::Shape;
use crate::tensor::Tensor;

/// Kernels of a CUDA device, all on one stream.
#[derive(Clone, Debug)]
pub struct Cuda {
    door: Arc<dyn Door>,
    scratch: Arc<Scratch>,
    launches: Launches,
    hopper: Arc<Hopper>,
    plans: Arc<Plans>,
}

impl Cuda {
    /// On the device behind `door`.
    pub fn new(door: Arc<dyn Door>) -> Self {
        Self {
            door,
            scratch: Arc::default(),
            hopper: Arc::default(),
            plans: Arc::default(),
            launches: Launches::default(),
        }
    }

    /// The same device and scratch memory, with other launch parameters.
    pub fn launching(&self, launches: Launches) -> Self {
        Self { launches, ..self.clone() }
    }

    /// The device.
    pub fn door(&self) -> &Arc<dyn Door> {
        &self.door
    }

    /// `got`, if activations can be of that type.
    fn activations(&self, what: &'static str, got: DType) -> Result<DType, OpError> {
        match got {
            DType::F32 | DType::Bf16 => Ok(got),
            DType::U32 => Err(OpError::Place { what, want: DType::F32, got }),
        }
    }

    /// Refuses products of tensor cores that are not this device's.
    fn expect_core(&self, what: &'static str, core: TensorCore) -> Result<(), OpError> {
        let (mine, name) = match self.door.compute_capability() {
            (8, _) => (TensorCore::Ampere, "ampere"),
            _ => (TensorCore::Hopper, "hopper"),
        };
        if core == mine {
            return Ok(());
        }
        let why = format!(
            "the tensor cores of {} sum otherwise: use numerics.tensor_core = \"{name}\" (another \
             job, with other bits), or device.kind = \"cpu\"",
            self.door.describe()
        );
        Err(OpError::Extent { what, why })
    }

    /// Blocks that a kernel starts whose blocks share the work among them, whatever their number.
    fn blocks_at_once(&self) -> usize {
        BLOCKS_AT_ONCE
    }
}

impl Kernels for Cuda {
    fn describe(&self) -> String {
        self.door.describe()
    }

    fn memory(&self) -> Option<DeviceMemory> {
        // Where the driver does not tell, the allocation will.
        let place = self.door.stream()?.bus_id;
        let free_bytes = self.door.memory().ok()?.free_bytes;
        // Asked before there are products, so the workspace of their plans is yet to be taken.
        let taken = if self.launches.product == Products::Ours { 0 } else { WORKSPACE_BYTES };
        Some(DeviceMemory { place, free_bytes: free_bytes.saturating_sub(taken as u64) })
    }

    fn zeros(&self, dtype: DType, shape: &[usize]) -> Result<Tensor, OpError> {
        let bytes = Shape::new(shape).len() * dtype.size_bytes();
        let address = self.door.alloc(bytes).map_err(|fault| self.failed("zeros", fault))?;
        let buffer = Buffer::new(self.door.clone(), address);
        Ok(Tensor::from_device(Box::new(buffer), dtype, shape))
    }

    /// What NVIDIA states of the SXM parts, dense (data sheets of A100, H100, H200 and B200); not a
    /// number for others.
    fn peak_flops(&self, precision: Precision) -> f64 {
        let (products, fmas) = match self.door.compute_capability() {
            (8, 0) => (312e12, 19.5e12),
            (9, 0) => (989.4e12, 66.9e12),
            (10, 0) => (2250e12, 75e12),
            _ => (f64::NAN, f64::NAN),
        };
        if matches!(precision, Precision::Tc(_)) { products } else { fmas }
    }

    fn decisions(&self) -> Vec<String> {
        self.plans.lines(self.launches.product)
    }

    fn device(&self) -> Option<&dyn Any> {
        Some(self)
    }

    fn synchronize(&self) -> Result<(), OpError> {
        self.door.synchronize().map_err(|fault| self.failed("synchronize", fault))
    }

    fn time(&self, work: &mut dyn FnMut() -> Result<(), OpError>) -> Result<Duration, OpError> {
        let mut outcome = Ok(());
        let took = self.door.time(&mut || outcome = work());
        outcome?;
        took.map_err(|fault| self.failed("time", fault))
    }

    fn product_rate(&self, precision: Precision) -> Result<f64, OpError> {
        self.multiply_adds(precision)
    }
}

/// Two for each multiprocessor of the largest GPUs, roughly.
const BLOCKS_AT_ONCE: usize = 256;
