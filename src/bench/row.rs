//! A measured case as a line of JSON.

use serde::Serialize;

use super::Bound;
use super::Case;
use super::Measured;

/// On what, and by which program, something was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Origin {
    /// The device, as it describes itself.
    pub device: String,
    /// Commit of the program, where its builder said.
    pub commit: Option<String>,
    /// Version of the program.
    pub version: String,
}

impl Origin {
    /// This program on the device called so. The commit is NEUROSHARD_COMMIT, as it was when the
    /// program was built, else as it is now.
    pub fn of(device: String) -> Self {
        let commit = option_env!("NEUROSHARD_COMMIT").map(str::to_owned);
        let commit = commit.or_else(|| std::env::var("NEUROSHARD_COMMIT").ok());
        Self { device, commit, version: env!("CARGO_PKG_VERSION").to_owned() }
    }
}

/// A measured case.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `kernel`.
    pub kind: &'static str,
    /// The operation.
    pub op: &'static str,
    /// Which of its functions.
    pub pass: &'static str,
    /// The profile: `f32`, `bf16` or `tc`.
    pub dtype: &'static str,
    /// Extents.
    pub shape: String,
    /// Where a model has it; empty for shapes that were asked for.
    pub place: String,
    /// A fifth of the calls took at most this long.
    pub ms_p20: f64,
    /// The median call.
    pub ms_p50: f64,
    /// Four fifths of the calls took at most this long.
    pub ms_p80: f64,
    /// Timed calls.
    pub rounds: usize,
    /// Bytes that a call must move.
    pub bytes: u64,
    /// FLOPs that a call must do.
    pub flops: u64,
    /// Bytes by the median time, in 10^9 per second.
    pub gb_per_s: f64,
    /// FLOPs by the median time, in 10^12 per second.
    pub tflop_per_s: f64,
    /// `copy` or `products`: what the ceiling is of.
    pub bound: &'static str,
    /// The ceiling measured just before, in GB/s or TFLOP/s.
    pub ceiling: f64,
    /// Per cent of the ceiling.
    pub pct: f64,
    /// Where.
    #[serde(flatten)]
    pub origin: Origin,
}

/// A case that could not be measured.
#[derive(Clone, Debug, Serialize)]
pub struct Failed {
    /// `kernel_failed`.
    pub kind: &'static str,
    /// The operation.
    pub op: &'static str,
    /// Which of its functions.
    pub pass: &'static str,
    /// The profile.
    pub dtype: &'static str,
    /// Extents.
    pub shape: String,
    /// Why.
    pub error: String,
    /// Where.
    #[serde(flatten)]
    pub origin: Origin,
}

impl Row {
    /// What was measured of `case`.
    pub fn new(case: &Case, measured: &Measured, origin: &Origin) -> Self {
        let ms = |share| 1e3 * measured.quantile(share);
        let per_s = |amount: u64| amount as f64 / measured.quantile(0.5);
        let (bytes, flops) = (case.bytes(), case.flops);
        let (bound, unit, rate) = match case.bound {
            Bound::Copy => ("copy", 1e9, per_s(bytes)),
            Bound::Products(_) => ("products", 1e12, per_s(flops)),
        };
        Self {
            kind: "kernel",
            op: case.op,
            pass: case.pass,
            dtype: case.dtype(),
            shape: case.shape.clone(),
            place: case.place.clone(),
            ms_p20: ms(0.2),
            ms_p50: ms(0.5),
            ms_p80: ms(0.8),
            rounds: measured.seconds.len(),
            bytes,
            flops,
            gb_per_s: per_s(bytes) / 1e9,
            tflop_per_s: per_s(flops) / 1e12,
            bound,
            ceiling: measured.ceiling / unit,
            pct: 100.0 * rate / measured.ceiling,
            origin: origin.clone(),
        }
    }
}

impl Failed {
    /// Why `case` could not be measured.
    pub fn new(case: &Case, error: String, origin: &Origin) -> Self {
        Self {
            kind: "kernel_failed",
            op: case.op,
            pass: case.pass,
            dtype: case.dtype(),
            shape: case.shape.clone(),
            error,
            origin: origin.clone(),
        }
    }
}
