//! Whether an operation gives the same bits each time, and on another device.

use super::Case;
use crate::crypto::Hash;
use crate::ops::Kernels;
use crate::ops::OpError;

/// How a case came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All runs gave these bits.
    Equal(Hash),
    /// A run gave others than the first.
    Unsteady {
        /// The run, from 1.
        run: u64,
    },
    /// Every run gave the same bits, and the other device gives others.
    Differs,
}

/// Runs `case` so many times on `kernels`, from the same inputs each time, and once on `other`.
pub fn check(
    kernels: &dyn Kernels,
    other: Option<&dyn Kernels>,
    case: &Case,
    runs: u64,
) -> Result<Verdict, OpError> {
    let mut prepared = case.prepare(kernels)?;
    prepared.run(kernels)?;
    let first = prepared.hash(kernels)?;
    for run in 2..=runs {
        prepared.reset(kernels)?;
        prepared.run(kernels)?;
        if prepared.hash(kernels)? != first {
            return Ok(Verdict::Unsteady { run });
        }
    }
    let Some(other) = other else { return Ok(Verdict::Equal(first)) };
    let mut prepared = case.prepare(other)?;
    prepared.run(other)?;
    match prepared.hash(other)? == first {
        true => Ok(Verdict::Equal(first)),
        false => Ok(Verdict::Differs),
    }
}
