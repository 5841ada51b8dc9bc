//! What each operation computes; how is `backend`'s affair.
//!
//! One file per operation: formula, source, shapes, the order of every sum. The checked functions
//! (`rmsnorm::forward`, …) are what callers use; each operation's `Kernel` trait is what a backend
//! supplies. `docs/ARITHMETIC.md` defines every result to the bit.

pub mod adamw;
pub mod attention;
pub mod cross_entropy;
pub mod digest;
pub mod elementwise;
pub mod embedding;
pub mod matmul;
pub mod norm;
pub mod rmsnorm;
pub mod rope;
pub mod swiglu;

use std::any::Any;
use std::fmt::Debug;
use std::time::Duration;
use std::time::Instant;

use crate::tensor::DType;
use crate::tensor::Element;
use crate::tensor::Tensor;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Every operation the model needs, on one device.
///
/// Callers use the checked functions (`rmsnorm::forward`, …), never these methods.
pub trait Kernels:
    Debug
    + Send
    + Sync
    + adamw::Kernel
    + attention::Kernel
    + cross_entropy::Kernel
    + digest::Kernel
    + elementwise::Kernel
    + embedding::Kernel
    + matmul::Kernel
    + norm::Kernel
    + rmsnorm::Kernel
    + rope::Kernel
    + swiglu::Kernel
{
    /// What these kernels run on, for logs: `cpu avx512bf16, 2 threads`.
    fn describe(&self) -> String;
    /// What these kernels have decided so far by what they measured, a line each, for the records of
    /// a run. It changes speed, never results.
    fn decisions(&self) -> Vec<String> {
        Vec::new()
    }
    /// A tensor of zeros in the memory these kernels work on.
    fn zeros(&self, dtype: DType, shape: &[usize]) -> Result<Tensor, OpError>;
    /// FLOP/s that products of `precision` can reach at most here, for model FLOP utilization
    /// (PaLM, Chowdhery et al. 2022, appendix B); measured or, where a maker states it, known.
    fn peak_flops(&self, precision: Precision) -> f64;
    /// These kernels as their own type, for collectives in a device's memory; none where tensors
    /// live in host memory.
    fn device(&self) -> Option<&dyn Any> {
        None
    }
    /// The memory these kernels work on, where it is not the host's.
    fn memory(&self) -> Option<DeviceMemory> {
        None
    }
    /// Runs `work` where operations start soonest; for [`together`].
    fn enter(&self, work: &mut (dyn FnMut() + Send)) {
        work();
    }
    /// Waits until everything that was asked for is done.
    fn synchronize(&self) -> Result<(), OpError> {
        Ok(())
    }
    /// How long the device takes for `work`, which it begins with nothing else to do.
    fn time(&self, work: &mut dyn FnMut() -> Result<(), OpError>) -> Result<Duration, OpError> {
        self.synchronize()?;
        let start = Instant::now();
        work()?;
        self.synchronize()?;
        Ok(start.elapsed())
    }
    /// Size of the largest cache before the memory, in bytes, or more.
    fn cache_bytes(&self) -> usize {
        128 << 20
    }
    /// Bytes read and written per second by a copy from `inp` to `out`, both f32 and of one shape,
    /// as fast as the device can: a measured ceiling for operations that memory bounds.
    fn copy_rate(&self, mut out: ViewMut<'_>, inp: View<'_>) -> Result<f64, OpError> {
        let bytes = 2 * inp.size_bytes();
        let copy = &mut || self.elementwise_copy(out.reborrow(), inp);
        Ok(bytes as f64 / self.time(copy)?.as_secs_f64())
    }
    /// FLOP/s of multiply-adds in registers with the instruction of `precision`: a measured ceiling
    /// for products.
    fn product_rate(&self, precision: Precision) -> Result<f64, OpError> {
        Ok(self.peak_flops(precision))
    }
}

/// Runs `work`, which calls many operations one after another, where they start soonest: on the
/// CPU on one of the threads that run them, so that none has to be woken for each operation.
pub fn together<R: Send>(kernels: &dyn Kernels, work: impl FnOnce() -> R + Send) -> R {
    let (mut work, mut result) = (Some(work), None);
    kernels.enter(&mut || {
        if let Some(work) = work.take() {
            result = Some(work());
        }
    });
    match result {
        Some(result) => result,
        None => unreachable!("`enter` runs its work"),
    }
}

/// Memory of a device, now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Where the device sits in its host, in at most 28 bytes: processes that share it say the same.
    pub place: String,
    /// Bytes nobody uses.
    pub free_bytes: u64,
}

/// How the inputs of matrix products are rounded, and how their sums run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// f32 inputs; each output one chain of FMAs over k ascending.
    F32,
    /// Inputs rounded to bf16 (nearest even); one chain of f32 FMAs over pairs of k ascending,
    /// within a pair the odd element first; subnormal inputs and results flushed to zero.
    Bf16,
    /// bf16 inputs, activations and outputs; chains of a tensor core's sums (docs/ARITHMETIC.md,
    /// section 16).
    Tc(TensorCore),
}

impl Precision {
    /// Its profile's name, for logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Tc(TensorCore::Hopper) => "tc",
            Self::Tc(TensorCore::Ampere) => "tc (ampere)",
        }
    }

    /// Its profile, with the tensor core whose sums it has.
    pub fn describe(self) -> &'static str {
        match self {
            Self::F32 | Self::Bf16 => self.name(),
            Self::Tc(TensorCore::Hopper) => "tc (tensor core hopper)",
            Self::Tc(TensorCore::Ampere) => "tc (tensor core ampere)",
        }
    }

    /// Type of activations and their gradients, and of weights where they enter products.
    pub fn activations(self) -> DType {
        match self {
            Self::F32 | Self::Bf16 => DType::F32,
            Self::Tc(_) => DType::Bf16,
        }
    }
}

/// Whose tensor-core sums are meant: they differ in two numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TensorCore {
    /// Hopper and Blackwell.
    #[default]
    Hopper,
    /// Ampere and Ada.
    Ampere,
}

impl TensorCore {
    /// Products in one sum (G).
    pub const fn group(self) -> usize {
        match self {
            Self::Hopper => 16,
            Self::Ampere => 8,
        }
    }

    /// Fraction bits below the largest exponent of a sum (F).
    pub const fn fraction_bits(self) -> i32 {
        match self {
            Self::Hopper => 25,
            Self::Ampere => 24,
        }
    }
}

/// A tensor core's products take k in steps of this many, padded with zeros.
pub const TC_STEP: usize = 16;

/// Why an operation was refused or failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// An argument's shape contradicts the contract.
    #[error("{what}: expected shape {want:?}, got {got:?}")]
    Shape {
        /// Operation and argument, such as `rmsnorm::forward out`.
        what: &'static str,
        /// Shape that the contract asks for.
        want: Vec<usize>,
        /// Shape that was passed.
        got: Vec<usize>,
    },
    /// An argument has another element type than the contract asks for, or lives elsewhere.
    #[error("{what}: expected {want:?} elements on this device, got {got:?}")]
    Place {
        /// Operation and argument.
        what: &'static str,
        /// Type that the contract asks for.
        want: DType,
        /// Type that was passed.
        got: DType,
    },
    /// An extent breaks a rule of the operation.
    #[error("{what}: {why}")]
    Extent {
        /// Operation and argument.
        what: &'static str,
        /// The rule.
        why: String,
    },
    /// A token is not in the vocabulary.
    #[error("{what}: token {token} at position {index} is outside the vocabulary of {vocab}")]
    Token {
        /// Operation and argument.
        what: &'static str,
        /// Row of the token.
        index: usize,
        /// The token.
        token: u32,
        /// Number of tokens there are.
        vocab: usize,
    },
    /// Memory could not be had.
    #[error("cannot allocate {bytes} bytes on {device}")]
    Memory {
        /// Bytes asked for.
        bytes: usize,
        /// Where.
        device: String,
    },
    /// The device reported a failure.
    #[error("{op}: launch failed: {cause}")]
    Launch {
        /// Operation.
        op: &'static str,
        /// The driver's words.
        cause: String,
    },
}

/// Checks one argument's shape.
pub fn expect_shape(what: &'static str, got: &[usize], want: &[usize]) -> Result<(), OpError> {
    if got == want {
        return Ok(());
    }
    Err(OpError::Shape { what, want: want.to_vec(), got: got.to_vec() })
}

/// Checks one argument's element type.
pub fn expect_dtype(what: &'static str, got: DType, want: DType) -> Result<(), OpError> {
    if got == want { Ok(()) } else { Err(OpError::Place { what, want, got }) }
}

/// The type of an activation, which may be f32 or bf16 and decides which contract holds.
pub(crate) fn activation(what: &'static str, got: DType) -> Result<DType, OpError> {
    match got {
        DType::F32 | DType::Bf16 => Ok(got),
        DType::U32 => Err(OpError::Place { what, want: DType::F32, got }),
    }
}

/// The two extents of a matrix argument.
pub(crate) fn matrix(what: &'static str, shape: &[usize]) -> Result<[usize; 2], OpError> {
    match *shape {
        [rows, columns] => Ok([rows, columns]),
        _ => Err(OpError::Shape { what, want: vec![0, 0], got: shape.to_vec() }),
    }
}

/// The host elements of an argument; for host backends.
pub fn host<'a, E: Element>(what: &'static str, view: View<'a>) -> Result<&'a [E], OpError> {
    let got = view.dtype();
    view.host().ok_or(OpError::Place { what, want: E::DTYPE, got })
}

/// The host elements of an argument; for host backends.
pub fn host_mut<'a, E: Element>(
    what: &'static str,
    view: ViewMut<'a>,
) -> Result<&'a mut [E], OpError> {
    let got = view.dtype();
    view.host().ok_or(OpError::Place { what, want: E::DTYPE, got })
}

/// Checks that every token is below `vocab`; for backends that can see the tokens.
pub fn expect_tokens(what: &'static str, tokens: &[u32], vocab: usize) -> Result<(), OpError> {
    match tokens.iter().position(|&t| t as usize >= vocab) {
        None => Ok(()),
        Some(index) => Err(OpError::Token { what, index, token: tokens[index], vocab }),
    }
}
