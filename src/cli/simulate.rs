//! `neuroshard simulate`: many clusters in one process, over a made-up network.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use super::output::Stdout;
use super::{Ending, Failure, device, words};
use crate::backend;
use crate::config;
use crate::config::Setting;
use crate::simulate;
use crate::simulate::Axis;
use crate::simulate::Cost;
use crate::simulate::Event;
use crate::simulate::Point;
use crate::simulate::Summary;
use crate::simulate::Worker;
use crate::simulate::expand;
use crate::simulate::rows;
use crate::simulate::sweep;
use crate::simulate::table;
use crate::train::Stop;

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The scenario file. docs/SIMULATE.md is the guide, docs/CONFIG.md has all keys.
    #[arg(value_name = "SCENARIO.toml")]
    scenario: PathBuf,
    /// Lays a value over the scenario, such as outer.inner_steps=100 or clusters.0.count=8; may be
    /// given many times.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Runs every combination of the values of all grids, such as aggregate.rule=mean,krum. Keys
    /// joined by + change together: clusters.0.count+train.batch_sequences=2:16,4:8.
    #[arg(long = "grid", value_name = "SECTION.KEY=VALUE,VALUE...")]
    grids: Vec<String>,
    /// Runs everything with each of these seeds, instead of scenario.seed.
    #[arg(long, value_name = "SEED,SEED...", value_delimiter = ',')]
    seeds: Vec<u64>,
    /// How many runs at the same time; they share the threads. Results do not depend on it.
    #[arg(long, value_name = "N", default_value_t = 1)]
    jobs: usize,
    /// Where results go. Default: runs/ and the scenario's name.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Keeps runs that are finished; one that was under way begins anew.
    #[arg(long)]
    resume: bool,
    /// Prints the runs and how long they would take, and ends.
    #[arg(long)]
    dry_run: bool,
    /// Begins even if there are many runs, or they take long.
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    device: device::DeviceArgs,
}

const EXAMPLES: &str = "\
Examples:
  neuroshard simulate docs/scenarios/toy.toml
  neuroshard simulate docs/scenarios/attack.toml --seeds 1,2,3 --jobs 2 \\
      --grid clusters.1.attack.kind=sign_flip,alie --grid aggregate.rule=mean,geometric_median";

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let points = args.points()?;
    let workers = args.workers(points.len())?;
    let first = points.first().ok_or("the grid is empty")?;
    let cost = Cost::measure(first, &workers[0].kernels)?;
    let time = cost.of(&points, workers.len());
    let number = points.len();
    out.line(format_args!(
        "runs      {number}{}, about {} with {} at a time",
        if args.seeds.len() > 1 { format!(" ({} seeds)", args.seeds.len()) } else { String::new() },
        in_words(time),
        workers.len()
    ))?;
    if args.dry_run {
        let mut seen = std::collections::BTreeSet::new();
        for point in points.iter().filter(|point| seen.insert(&point.labels)) {
            out.line(format_args!("  {}", name(point)))?;
        }
        return Ok(Ending::Done);
    }
    if !args.yes && (number > MANY_RUNS || time > LONG) {
        return Err(format!(
            "that is more than {MANY_RUNS} runs or {}; --yes begins all the same, --dry-run lists \
             them, fewer values or train.stop_after make it shorter",
            in_words(LONG)
        )
        .into());
    }
    let default = Path::new("runs").join(&first.scenario.scenario.name);
    let folder = args.out.clone().unwrap_or(default);
    let stop = Stop::on_signals()?;
    let told = Mutex::new(out);
    let watch = |event: Event<'_>| tell(&points, event, &told);
    match sweep(&points, &workers, (&folder, args.resume), &stop, &watch) {
        Ok(summaries) => {
            let out = told.into_inner().unwrap_or_else(PoisonError::into_inner);
            finish(&points, &summaries, &folder, out)
        }
        Err(simulate::Error::Stopped) => {
            let out = told.into_inner().unwrap_or_else(PoisonError::into_inner);
            out.line(format_args!("stopped; what is finished is kept: go on with --resume"))?;
            Ok(Ending::Stopped)
        }
        Err(error) => Err(error.into()),
    }
}

impl Args {
    /// Every scenario of the grid, for every seed; complaints of all of them at once.
    fn points(&self) -> Result<Vec<Point>, Failure> {
        let setting = Setting::read(&self.scenario)?;
        let axes: Vec<_> =
            self.grids.iter().map(|text| Axis::parse(text)).collect::<Result<_, _>>()?;
        let seeds: Vec<Option<u64>> = match self.seeds.is_empty() {
            true => vec![None],
            false => self.seeds.iter().copied().map(Some).collect(),
        };
        let (mut points, mut wrong) = (Vec::new(), Vec::new());
        for labels in expand(&axes, MOST_POINTS / seeds.len().max(1))? {
            for seed in &seeds {
                let seed = seed.map(|seed| format!("scenario.seed={seed}"));
                let sets: Vec<_> = self.sets.iter().chain(&labels).cloned().chain(seed).collect();
                match config::scenario(&setting, &sets) {
                    Ok(scenario) => points.push(Point { labels: labels.clone(), scenario }),
                    Err(error) if labels.is_empty() => return Err(error.into()),
                    Err(error) => {
                        wrong.push(format!("{}: {}", labels.join(" "), words(&error)));
                        break;
                    }
                }
            }
        }
        match wrong.is_empty() {
            true => Ok(points),
            false => Err(format!("points of the grid cannot be\n  {}", wrong.join("\n  ")).into()),
        }
    }

    /// Kernels for every job, which divide the threads.
    fn workers(&self, points: usize) -> Result<Vec<Worker>, Failure> {
        let jobs = self.jobs.clamp(1, points.max(1));
        let whole = device::open(&self.device.config(self.device.threads))?;
        if jobs == 1 {
            return Ok(vec![Worker { kernels: whole }]);
        }
        let available = std::thread::available_parallelism().map_or(1, usize::from);
        let all = if self.device.threads == 0 { available } else { self.device.threads };
        let each = (all / jobs).max(1);
        let open = |_| {
            let kernels = backend::select(&self.device.config(each))?;
            Ok(Worker { kernels })
        };
        (0..jobs).map(open).collect()
    }
}

/// One line for every run; for a single one, also for every exchange.
fn tell(points: &[Point], event: Event<'_>, out: &Mutex<&mut Stdout>) {
    let text = match event {
        Event::Begun { .. } => return,
        Event::Exchange { record, .. } if points.len() == 1 => {
            let loss = |loss: Option<f64>| loss.map_or("-".to_owned(), |l| format!("{l:.4}"));
            format!(
                "exchange {:>4}  step {:>6}  {:>9.1} s  train {}  eval {}  counted {}/{}{}",
                record.exchange,
                record.step,
                record.time_s,
                loss(record.train_loss),
                loss(record.eval_loss),
                record.counted,
                record.members,
                match &record.skipped {
                    Some(why) => format!("  skipped: {why}"),
                    None => String::new(),
                }
            )
        }
        Event::Exchange { .. } => return,
        Event::Done { point, summary } => line(&points[point], summary, "done"),
        Event::Kept { point, summary } => line(&points[point], summary, "kept"),
    };
    let mut out = out.lock().unwrap_or_else(PoisonError::into_inner);
    // Who reads our output may have had enough; the sweep goes on.
    let _ = out.line(text);
}

fn line(point: &Point, summary: &Summary, how: &str) -> String {
    let loss = summary.eval_loss.map_or("-".to_owned(), |loss| format!("{loss:.4}"));
    format!(
        "{how}      {} seed {}: {}, eval loss {loss}, {:.1} virtual s, utilization {:.1}%, {:.1} s",
        name(point),
        summary.seed,
        summary.ending,
        summary.tally.time_s,
        100.0 * summary.utilization,
        summary.machine.wall_s
    )
}

fn name(point: &Point) -> String {
    match point.labels.is_empty() {
        true => point.scenario.scenario.name.clone(),
        false => point.labels.join(" "),
    }
}

/// The table, on paper and on screen.
fn finish(
    points: &[Point],
    summaries: &[Summary],
    folder: &Path,
    out: &mut Stdout,
) -> Result<Ending, Failure> {
    let rows = rows(points, summaries);
    let text = table(&rows);
    let mut lines = String::new();
    for row in &rows {
        lines.push_str(&serde_json::to_string(row)?);
        lines.push('\n');
    }
    for (name, text) in [("sweep.txt", &text), ("sweep.jsonl", &lines)] {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|e| format!("cannot write {}: {e}", path.display()))?;
    }
    out.line("")?;
    out.line(text.trim_end())?;
    if let ([_], [summary]) = (points, summaries) {
        let machine = &summary.machine;
        out.line(format_args!(
            "speed     {:.0} tokens/s; its inner steps alone {:.0} ({:.1}% of the time)",
            machine.tokens_per_s,
            machine.inner_tokens_per_s,
            100.0 * machine.inner_share
        ))?;
        if let Some(why) = &summary.why {
            out.line(format_args!("{}  {why}", summary.ending))?;
        }
    }
    out.line(format_args!("results   {}", folder.display()))?;
    Ok(Ending::Done)
}

/// A duration as people say it.
fn in_words(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 100.0 => format!("{s:.0} s"),
        s if s < 6000.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// More are refused.
const MOST_POINTS: usize = 100_000;
/// More need --yes.
const MANY_RUNS: usize = 64;
/// Longer needs --yes.
const LONG: Duration = Duration::from_secs(3600);
