//! The inner loop: steps, evaluation, checkpoints, stop and resume.
//!
//! A run is a [`Plan`] (what to compute), a [`Trainer`] (weights, moments, guard; one step at a
//! time) and [`run()`] (the rhythm, and everything on disk). It prints nothing: an [`Observer`] is
//! told.

mod agree;
mod breadth;
mod config;
mod error;
mod evaluate;
mod exchange;
mod flat;
mod folder;
mod guard;
mod heldout;
mod library;
mod memory;
mod metrics;
mod neighbours;
mod non_finite;
mod observer;
mod pace;
mod passing;
mod plan;
mod resume;
mod run;
mod save;
mod signals;
mod state;
mod step;
mod sums;
mod tally;
mod update;

pub use agree::{agree, same};
pub use config::{Config, Numerics, Profile, Run, TensorCore};
pub use error::Error;
pub use evaluate::{Evaluated, Evaluation, evaluate, evaluate_model};
pub use flat::{Snapshot, weights_layout};
pub use folder::RunFolder;
pub use guard::{Decision, Guard};
pub use metrics::{EvalRecord, Log, Record, StepRecord};
pub use observer::{Event, Observer, Silent};
pub use plan::{Parts, Plan, complaints};
pub use resume::{expected_weights, saved_dims};
pub use run::{Ending, Outcome, Setup, Start, run};
pub use signals::{Stop, reasons};
pub use step::{StepOutcome, Trainer};
