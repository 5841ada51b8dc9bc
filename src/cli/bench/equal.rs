//! `neuroshard bench equal`: the same bits each time, and on the CPU.

use super::{Common, Selection, shapes};
use crate::backend;
use crate::backend::Kind;
use crate::bench::equal::Verdict;
use crate::bench::equal::check;
use crate::cli::output::Stdout;
use crate::cli::{Ending, Failure, device};

/// Arguments of `bench equal`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Runs of each operation at each shape.
    #[arg(long, value_name = "N", default_value_t = 10)]
    runs: u64,
    /// Shapes instead of the awkward ones, as of bench kernels.
    #[arg(long, value_name = "SHAPES", value_delimiter = ',')]
    shape: Vec<String>,
}

/// Runs the command; it fails at the end if bits differed or an operation failed.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let config = args.common.load()?;
    let mut selection = Selection::ragged(args.common.precisions(&config)?);
    selection.ops = args.common.op.clone();
    if !args.shape.is_empty() {
        selection.shapes = shapes(&args.shape)?;
    }
    let cases = selection.cases()?;
    let kernels = args.common.open(&config)?;
    // What a CPU is compared with is its canonical level; anything else with the CPU's best.
    let level = if config.device.kind == Kind::Cpu { "portable" } else { "auto" };
    let other =
        device::open(&backend::Config { level: level.into(), ..backend::Config::default() })?;
    let (name, than) = (kernels.describe(), other.describe());
    out.line(format_args!("{} runs of each case on {name}, and one on {than}", args.runs))?;
    let mut wrong = 0;
    for case in &cases {
        let verdict = check(kernels.as_ref(), Some(other.as_ref()), case, args.runs);
        let good = matches!(verdict, Ok(Verdict::Equal(_)));
        wrong += usize::from(!good);
        match verdict {
            Ok(Verdict::Equal(_)) => out.line(format_args!("equal       {case:?}"))?,
            Ok(Verdict::Unsteady { run }) => {
                out.line(format_args!("UNSTEADY    {case:?}: run {run} differs from the first"))?;
            }
            Ok(Verdict::Differs) => {
                out.line(format_args!("DIFFERS     {case:?}: other bits than {than}"))?;
            }
            Err(why) => out.line(format_args!("FAILED      {case:?}: {why}"))?,
        }
    }
    out.line(format_args!("{} cases, {wrong} of them wrong", cases.len()))?;
    Ok(if wrong == 0 { Ending::Done } else { Ending::Failed })
}
