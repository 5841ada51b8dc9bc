//! `neuroshard launch`.

use std::path::Path;
use std::path::PathBuf;

use super::output::Stdout;
use super::{Ending, Failure};
use crate::config::RunConfig;
use crate::launch;
use crate::launch::Job;
use crate::launch::Sweep;
use crate::shard;

/// Schedulers.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Writes a job script for Slurm and submits it.
    Slurm(Box<Args>),
}

/// Arguments of `launch slurm`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// The run file; without one, defaults: a small model on a synthetic language.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lays a value over the run file, such as train.steps=1000 or model.preset=tiny; may be given
    /// many times. docs/CONFIG.md has all keys.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Hosts.
    #[arg(long, value_name = "N", value_parser = count)]
    nodes: usize,
    /// Ranks on each host: one for each GPU, or on CPUs one for each NUMA node.
    #[arg(long, value_name = "K", default_value = "1", value_parser = count)]
    tasks_per_node: usize,
    /// Cores, and so threads, of each rank.
    #[arg(long, value_name = "C", default_value = "1", value_parser = count)]
    cpus_per_task: usize,
    /// GPUs of each host.
    #[arg(long, value_name = "G", default_value_t = 0)]
    gpus_per_node: usize,
    /// Partition, or queue; the cluster's default if not given.
    #[arg(long, value_name = "NAME")]
    partition: Option<String>,
    /// The account that pays; your default if not given.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// Limit of each job: minutes, H:MM:SS or D-HH. A run may take many jobs.
    #[arg(long, value_name = "TIME", default_value = "01:00:00")]
    time: String,
    /// Name of the job.
    #[arg(long, value_name = "NAME", default_value = "neuroshard")]
    name: String,
    /// Runs the ranks in this image, by Apptainer.
    #[arg(long, value_name = "IMAGE")]
    container: Option<PathBuf>,
    /// Environment module to load; may be given several times.
    #[arg(long = "module", value_name = "MODULE")]
    modules: Vec<String>,
    /// A job array: one run for each line of this file; a line is settings with blanks between, such
    /// as optim.lr=1e-3 run.seed=2.
    #[arg(long, value_name = "FILE")]
    array: Option<PathBuf>,
    /// Prints the script instead of submitting it.
    #[arg(long)]
    dry_run: bool,
}

/// Runs the command.
pub fn run(command: &Command, out: &mut Stdout) -> Result<Ending, Failure> {
    let Command::Slurm(args) = command;
    let config = RunConfig::load(args.config.as_deref(), &args.sets)?;
    check_ranks(args, &config, "")?;
    let sweep = args.array.as_deref().map(|file| sweep(args, file)).transpose()?;
    let script = launch::script(&Job {
        name: args.name.clone(),
        nodes: args.nodes,
        tasks_per_node: args.tasks_per_node,
        cpus_per_task: args.cpus_per_task,
        gpus_per_node: args.gpus_per_node,
        partition: args.partition.clone(),
        account: args.account.clone(),
        time: args.time.clone(),
        container: args.container.clone(),
        modules: args.modules.clone(),
        program: std::env::current_exe()?,
        run_dir: config.run.dir,
        config: args.config.clone(),
        sets: args.sets.clone(),
        sweep,
    })?;
    if args.dry_run {
        out.piece(&script)?;
    } else {
        out.line(format_args!("submitted job {}", launch::submit(&script)?))?;
    }
    Ok(Ending::Done)
}

/// Whether so many ranks can train this, before a queue is waited for. `place` stands before
/// the complaint.
fn check_ranks(args: &Args, config: &RunConfig, place: &str) -> Result<(), Failure> {
    let ranks = args.nodes * args.tasks_per_node;
    let shards = config.parallel.shards(config.train.batch_sequences);
    shard::fit(ranks, config.parallel.stages, shards).map_err(|why| {
        let (nodes, tasks) = (args.nodes, args.tasks_per_node);
        format!("{place}--nodes {nodes} --tasks-per-node {tasks}: {why}")
    })?;
    Ok(())
}

/// The lines of `file`, each of which must be a run.
fn sweep(args: &Args, file: &Path) -> Result<Sweep, Failure> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("--array: cannot read {}: {error}", file.display()))?;
    let mut lines = 0;
    for line in text.lines() {
        lines += 1;
        let place = format!("--array: {}, line {lines}: ", file.display());
        if line.trim().is_empty() {
            return Err(format!("{place}has no settings; each line is one run").into());
        }
        let words = line.split_whitespace().map(str::to_owned);
        let sets: Vec<_> = words.chain(args.sets.iter().cloned()).collect();
        let config = RunConfig::load(args.config.as_deref(), &sets)
            .map_err(|error| format!("{place}{error}"))?;
        check_ranks(args, &config, &place)?;
    }
    if lines == 0 {
        return Err(format!("--array: {} is empty; each line is one run", file.display()).into());
    }
    Ok(Sweep { file: file.to_owned(), lines: 1..=lines })
}

/// A number from 1.
fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=MAX_COUNT) => Ok(number),
        _ => Err(format!("a number from 1 to {MAX_COUNT}")),
    }
}

const EXAMPLE: &str = "\
Example:
  neuroshard launch slurm --config run.toml --nodes 4 --gpus-per-node 8 --tasks-per-node 8 \\
      --time 12:00:00 --dry-run
docs/CLUSTERS.md is the guide.";

/// More hosts, or ranks on a host, there are nowhere.
const MAX_COUNT: usize = 100_000;
