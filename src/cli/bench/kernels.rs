//! `neuroshard bench kernels`: every operation beside the device's measured ceilings.

use std::fs::File;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

use super::sweep::Swept;
use super::{Common, models, shapes, sweep};
use crate::backend::Kind;
use crate::bench::Case;
use crate::bench::Ceilings;
use crate::bench::Effort;
use crate::bench::Failed;
use crate::bench::Origin;
use crate::bench::Roof;
use crate::bench::Row;
use crate::bench::Selection;
use crate::bench::measure;
use crate::bench::svg;
use crate::cli::output::Stdout;
use crate::cli::{Ending, Failure, device};
use crate::ops::Kernels;

/// Arguments of `bench kernels`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Presets whose layers' shapes are measured; without it, the run file's model.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    model: Vec<String>,
    /// Tokens in a call; without it, 2048 on a CPU, 16384 on a GPU and 64 in the emulator.
    #[arg(long, value_name = "N")]
    tokens: Option<usize>,
    /// Tokens in a sequence of attention and rotary positions.
    #[arg(long, value_name = "TOKENS", default_value_t = 1024)]
    seq_len: usize,
    /// Shapes instead of the model's, such as 8192x768 (N x C), 1024x768x2048 (matmul: N x I x O)
    /// or 4x1024x12x4x64 (attention: B x T x H x K x D); an operation takes those that fit.
    #[arg(long, value_name = "SHAPES", value_delimiter = ',')]
    shape: Vec<String>,
    /// Writes a line of JSON for each case to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Draws the roofline (speed over arithmetic intensity) into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Tries everything with two calls each; the numbers mean nothing.
    #[arg(long)]
    quick: bool,
    /// Before that, measures which launch parameters are fastest, and writes them to --table.
    #[arg(long)]
    sweep: bool,
    /// The file that a sweep writes, for device.tuning.
    #[arg(long, value_name = "FILE", default_value = "tuning.toml")]
    table: PathBuf,
}

/// Runs the command; it fails at the end if a case could not be measured.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let config = args.common.load()?;
    let tokens = match (args.tokens, config.device.kind) {
        (Some(tokens), _) => tokens.max(1),
        (None, _) if args.quick => 16,
        (None, Kind::Cpu) => 2048,
        (None, Kind::Cuda) => 16_384,
        (None, Kind::Emulator) => 64,
    };
    let selection = Selection {
        ops: args.common.op.clone(),
        precisions: args.common.precisions(&config)?,
        models: models(&args.model, &config)?,
        tokens,
        seq_len: args.seq_len,
        shapes: shapes(&args.shape)?,
    };
    let cases = selection.cases()?;
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    let mut json = args.json.as_deref().map(create).transpose()?;
    let mut device = config.device.clone();
    if args.sweep && sweep::run(&device, &cases, &effort, &args.table, out)? == Swept::Written {
        device.tuning = Some(args.table.clone());
    }
    let kernels = device::open(&device)?;
    let origin = Origin::of(kernels.describe());
    let report = all(kernels.as_ref(), &cases, &effort, &origin, &mut json, out)?;
    if let Some(path) = &args.svg {
        let title = format!("Roofline: {}", origin.device);
        write(path, &svg(&report.rows, &report.ceilings, &title))?;
        out.line(format_args!("roofline    {}", path.display()))?;
    }
    Ok(if report.failed == 0 { Ending::Done } else { Ending::Failed })
}

/// What came of all cases.
struct Report {
    rows: Vec<Row>,
    ceilings: Vec<(Roof, f64)>,
    failed: usize,
}

fn all(
    kernels: &dyn Kernels,
    cases: &[Case],
    effort: &Effort,
    origin: &Origin,
    json: &mut Option<BufWriter<File>>,
    out: &mut Stdout,
) -> Result<Report, Failure> {
    let mut ceilings = Ceilings::new(kernels, effort)?;
    out.line(format_args!("device      {}", origin.device))?;
    let commit = origin.commit.as_deref().unwrap_or("unknown");
    out.line(format_args!("version     {}, commit {commit}", origin.version))?;
    if effort.rounds == Effort::QUICK.rounds {
        out.line("quick: these numbers mean nothing")?;
    }
    out.line(CONVENTIONS)?;
    out.line(HEAD)?;
    let (mut rows, mut failed) = (Vec::new(), 0);
    for case in cases {
        match measure(kernels, case, &mut ceilings, effort) {
            Ok(measured) => {
                let row = Row::new(case, &measured, origin);
                out.line(table_row(&row))?;
                append(json, &row)?;
                rows.push(row);
            }
            Err(why) => {
                failed += 1;
                out.line(format_args!("| {case:?} | failed: {why} |"))?;
                append(json, &Failed::new(case, why.to_string(), origin))?;
            }
        }
    }
    out.line("")?;
    let ceilings = ceilings.medians();
    for (roof, rate) in &ceilings {
        match roof {
            Roof::Copy => out.line(format_args!("ceiling     copy {:.1} GB/s", rate / 1e9))?,
            Roof::Products(name) => {
                out.line(format_args!("ceiling     {name} {:.3} TFLOP/s", rate / 1e12))?;
            }
        }
    }
    out.line(format_args!("measured    {} cases, {failed} failed", rows.len()))?;
    Ok(Report { rows, ceilings, failed })
}

fn table_row(row: &Row) -> String {
    let unit = if row.bound == "copy" { "GB/s" } else { "TFLOP/s" };
    let rate = if row.bound == "copy" { row.gb_per_s } else { row.tflop_per_s };
    format!(
        "| {:13} | {:16} | {:4} | {:22} | {:13} | {:9.4} | {:9.4} | {:9.4} | {:9.3} {unit:7} | {:5.1} |",
        row.op,
        row.pass,
        row.dtype,
        row.shape,
        row.place,
        row.ms_p20,
        row.ms_p50,
        row.ms_p80,
        rate,
        row.pct
    )
}

fn append(json: &mut Option<BufWriter<File>>, row: &impl Serialize) -> Result<(), Failure> {
    if let Some(file) = json {
        serde_json::to_writer(&mut *file, row)?;
        file.write_all(b"\n")?;
        file.flush()?;
    }
    Ok(())
}

fn create(path: &Path) -> Result<BufWriter<File>, Failure> {
    let file = File::create(path).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(BufWriter::new(file))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    Ok(std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))?)
}

const CONVENTIONS: &str = "\
bytes       each input read once, each output written once
flops       a multiply-add is 2; causal attention: half of 4 B H T T D forward, 2.5 times that backward
%           of the device's copy, or of its multiply-adds in registers, measured before each case
timing      single calls with cold caches, after a warm-up
";
const HEAD: &str = "\
| operation     | pass             | type | shape                  | place         |    ms p20 |       p50 |       p80 |      by the median |     % |
|---|---|---|---|---|--:|--:|--:|--:|--:|";
