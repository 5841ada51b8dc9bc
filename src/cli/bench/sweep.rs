//! `neuroshard bench kernels --sweep`: the fastest launch parameters, as a file.

use std::path::Path;

use crate::backend;
use crate::backend::tuning::KNOBS;
use crate::backend::tuning::Launches;
use crate::backend::tuning::Tuning;
use crate::bench::Case;
use crate::bench::Effort;
use crate::bench::sweep::sweep;
use crate::cli::Failure;
use crate::cli::output::Stdout;

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swept {
    /// The file has been written.
    Written,
    /// The device has no launch parameters.
    Nothing,
}

/// Tries every value of every parameter whose operation is among `cases`; writes `table`.
pub fn run(
    device: &backend::Config,
    cases: &[Case],
    effort: &Effort,
    table: &Path,
    out: &mut Stdout,
) -> Result<Swept, Failure> {
    let Some(kernels_of) = backend::tunable(device)? else {
        out.line("sweep       nothing to tune: a CPU has no launch parameters")?;
        return Ok(Swept::Nothing);
    };
    let mut launch = match backend::tuning(device)? {
        Some(tuning) => tuning.launch,
        None => Launches::default(),
    };
    for knob in KNOBS {
        let own: Vec<&Case> = cases.iter().filter(|case| case.op == knob.op).collect();
        let Some(usual) = launch.get(knob.key).filter(|_| !own.is_empty()) else { continue };
        let kernels_of = |value| kernels_of(launch.with(knob.key, value));
        let choice = sweep(&own, (knob.values, usual), &kernels_of, effort)?;
        let times: Vec<_> =
            choice.times.iter().map(|(value, time)| format!("{value}: {time:.3}")).collect();
        out.line(format_args!(
            "sweep       {} = {} ({})",
            knob.key,
            choice.value,
            times.join(", ")
        ))?;
        launch = launch.with(knob.key, choice.value);
    }
    let device = kernels_of(launch).describe();
    let tuning = Tuning { device, version: env!("CARGO_PKG_VERSION").into(), launch };
    std::fs::write(table, tuning.to_toml()?).map_err(|e| format!("{}: {e}", table.display()))?;
    out.line(format_args!("sweep       {}: {}", table.display(), tuning.hash()))?;
    Ok(Swept::Written)
}
