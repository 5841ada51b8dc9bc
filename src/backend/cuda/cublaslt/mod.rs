//! cuBLASLt for products of the `tc` profile, where it has proved itself.
//!
//! The contract (docs/ARITHMETIC.md, 16.4) asks of a product only that each output is one chain over
//! k ascending, and a library may well compute it so. Whether it does is not taken on trust. For each
//! shape the library's heuristics name algorithms; those that split k are left out;
//! the others are probed on the device itself (`probe`): they must give the bits of our `mma.sync`
//! kernel. The first that does is a plan, is timed against our kernel, and serves where it is faster
//! (`product` in `device.tuning`). Where none does, our kernels serve. Results never depend on it.
//!
//! A plan is put on the stream by the library; `Door::issue` and `cuda/graphs.rs` tell how it gets
//! into graphs. **None of this has run on a GPU yet.**

mod calls;
mod choice;
mod error;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod host_gpu;
mod library;
mod numbers;
mod plan;
mod probe;
mod session;
mod shape;
#[cfg(test)]
mod tests;

pub(super) use choice::Plans;
pub(super) use choice::WORKSPACE_BYTES;
pub use error::Error;
pub use library::LIBRARY_VARIABLE;
pub use library::Library;
pub use library::Version;
pub use session::Session;
