//! What operations cost on a device: cases of every operation, timed beside what the device can do.
//!
//! A [`Case`] is one call of an operation at one shape: its tensors, and how many bytes and FLOPs it
//! cannot do without. [`measure()`] times it with cold caches and sets it against a ceiling that is
//! measured just before: the device's fastest copy, or its multiply-adds in registers. [`equal`]
//! asks whether the bits are the same each time and on another device, [`sweep`] which launch
//! parameters are fastest, [`tensor_core`] whether products are those of docs/ARITHMETIC.md 16.2.
//! `neuroshard bench` and the criterion groups of benches/ops share all of it.
//!
//! Conventions. Bytes: every input read once, every output written once. FLOPs: a multiplication and
//! an addition are two, an exponential, root or division one; causal attention has half of
//! `4·B·H·T²·D` in forward, and 2.5 times that in backward.

mod adamw;
mod attention;
mod case;
mod cross_entropy;
mod digest;
mod elementwise;
mod embedding;
pub mod equal;
mod matmul;
mod measure;
mod norm;
mod rmsnorm;
mod roofline;
mod rope;
mod row;
mod selection;
pub mod sweep;
mod swiglu;
pub mod tensor_core;

pub use case::{Bound, Case, Fill, Prepared, Spec, Traffic};
pub use measure::{Ceilings, Effort, Measured, Roof, measure};
pub use roofline::svg;
pub use row::{Failed, Origin, Row};
pub use selection::{OPERATIONS, Selection};
