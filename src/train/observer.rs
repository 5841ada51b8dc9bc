//! Training prints nothing: it tells an observer.

use std::path::Path;

use super::metrics::{EvalRecord, StepRecord};
use crate::crypto::Hash;

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The run continues from a checkpoint.
    Resuming {
        /// Steps done.
        step: u64,
        /// The checkpoint's folder.
        path: &'a Path,
    },
    /// An optimizer step was done.
    Step(&'a StepRecord),
    /// The guard left out the update of a step.
    Skipped {
        /// The step.
        step: u64,
        /// `loss` or `grad_norm`.
        what: &'static str,
        /// How far above its mean.
        deviations: f64,
    },
    /// Held-out loss was measured.
    Evaluated(&'a EvalRecord),
    /// A checkpoint was written.
    Saved {
        /// Steps done.
        step: u64,
        /// Its folder.
        path: &'a Path,
        /// Hash of the state.
        hash: Hash,
    },
    /// Something that the user should know and that does not end the run.
    Warning(&'a str),
}

/// Is told what happens.
pub trait Observer {
    /// Something happened.
    fn observe(&mut self, event: &Event<'_>);
}

/// Looks away.
#[derive(Clone, Copy, Debug)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&mut self, _event: &Event<'_>) {}
}
