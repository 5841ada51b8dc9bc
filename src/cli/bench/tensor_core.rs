//! `neuroshard bench tensor-core`: random products against the model, bit by bit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use crate::backend;
use crate::backend::Kind;
use crate::backend::tuning::Launches;
use crate::backend::tuning::Products;
use crate::bench::tensor_core::compare;
use crate::cli::output::Stdout;
use crate::cli::{Ending, Failure, device};
use crate::config::RunConfig;
use crate::ops::Kernels;
use crate::ops::Precision;
use crate::train::Numerics;
use crate::train::Profile;

/// Arguments of `bench tensor-core`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A run file; of it [device] and numerics.tensor_core count.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lays a value over the run file, such as device.kind=cuda or numerics.tensor_core=ampere.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Outputs to compare, at least.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    outputs: u64,
    /// Ends after so many seconds, with what has been compared by then; 0: when done.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    seconds: u64,
    /// Who computes products of a GPU: ours, cublaslt (where its bits are right) or auto (the faster).
    /// Default: what device.tuning says.
    #[arg(long, value_name = "NAME", value_parser = products)]
    product: Option<Products>,
}

/// A word of a tuning file.
fn products(word: &str) -> Result<Products, String> {
    match word {
        "ours" => Ok(Products::Ours),
        "cublaslt" => Ok(Products::Cublaslt),
        "auto" => Ok(Products::Auto),
        _ => Err("ours, cublaslt or auto".into()),
    }
}

/// The device, with the products asked for.
fn opened(args: &Args, config: &backend::Config) -> Result<Arc<dyn Kernels>, Failure> {
    let Some(product) = args.product else { return device::open(config) };
    let Some(kernels_of) = backend::tunable(config)? else {
        return Err("--product is for GPUs: say --set device.kind=cuda".into());
    };
    let launch = backend::tuning(config)?.map_or_else(Launches::default, |tuning| tuning.launch);
    Ok(kernels_of(Launches { product, ..launch }))
}

/// Runs the command; it fails at the end if any output differed.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let config = RunConfig::load(args.config.as_deref(), &args.sets)?;
    let numerics = Numerics { profile: Profile::Tc, ..config.numerics.clone() };
    let Precision::Tc(core) = numerics.precision() else {
        return Err("the tc profile has no tensor core".into());
    };
    let kernels = opened(args, &config.device)?;
    // The model is the CPU's; a CPU is compared with its canonical level.
    let level = if config.device.kind == Kind::Cpu { "portable" } else { "auto" };
    let model =
        device::open(&backend::Config { level: level.into(), ..backend::Config::default() })?;
    out.line(format_args!(
        "products of {} against the {core:?} model on {}",
        kernels.describe(),
        model.describe()
    ))?;
    let end = (args.seconds > 0).then(|| Instant::now() + Duration::from_secs(args.seconds));
    let mut told = |_: u64| end.is_none_or(|end| Instant::now() < end);
    let (of_device, of_model) = ((kernels.as_ref(), core), (model.as_ref(), core));
    let tallies = compare(of_device, of_model, args.outputs, &mut told)?;
    let (mut outputs, mut different) = (0, 0);
    for tally in &tallies {
        outputs += tally.outputs;
        different += tally.different;
        let class = format!("{:?}", tally.class);
        out.line(format_args!(
            "  {class:10} {:>12} outputs, {} different",
            tally.outputs, tally.different
        ))?;
        if let Some(first) = &tally.first {
            out.line(format_args!("    first: {first}"))?;
        }
    }
    out.line(format_args!("{outputs} outputs, {different} of them different"))?;
    for decision in kernels.decisions() {
        out.line(format_args!("  {decision}"))?;
    }
    if outputs < args.outputs {
        out.line(format_args!("NOT ALL: {} were asked for, the time was up", args.outputs))?;
    }
    Ok(if different == 0 { Ending::Done } else { Ending::Failed })
}
