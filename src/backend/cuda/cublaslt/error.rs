//! Why cuBLASLt cannot be had, or a product cannot be its.

use super::library::{LIBRARY_VARIABLE, Version};
use crate::backend::cuda::door::Fault;

/// A failure of cuBLASLt. None of them ends a run: this program's own kernels make the product then.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// No library.
    #[error(
        "cuBLASLt was not found: install it (pip install nvidia-cublas, or a CUDA toolkit) and set \
         {LIBRARY_VARIABLE} to its libcublasLt.so.13. Tried: {tried}"
    )]
    NotFound {
        /// The loader's words about each.
        tried: String,
    },
    /// A library that is none of cuBLASLt's.
    #[error("{path} cannot be used as cuBLASLt: {why}; set {LIBRARY_VARIABLE} to another")]
    Unusable {
        /// Which.
        path: String,
        /// Why not.
        why: String,
    },
    /// A version that does not do.
    #[error(
        "{path} is cuBLASLt {have}, and {want} or newer is needed; set {LIBRARY_VARIABLE} to one"
    )]
    TooOld {
        /// Its version.
        have: Version,
        /// The version needed.
        want: Version,
        /// Which.
        path: String,
    },
    /// The device has no stream that a library could work on.
    #[error("{device} has no stream for libraries")]
    NoStream {
        /// What it is.
        device: String,
    },
    /// The library knows no way that is allowed.
    #[error("no algorithm for {product}: {refused} split k or reduce between blocks")]
    NoAlgorithm {
        /// The product.
        product: String,
        /// Algorithms offered that the contract rules out.
        refused: usize,
    },
    /// A call failed.
    #[error("{call}: {cause} (status {status})")]
    Call {
        /// Which.
        call: &'static str,
        /// The library's number.
        status: i32,
        /// Its words.
        cause: String,
    },
    /// The device failed before cuBLASLt did.
    #[error(transparent)]
    Device(#[from] Fault),
}
