//! `neuroshard train`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

use super::output::Stdout;
use super::progress::Progress;
use super::ranks::Rank;
use super::{Ending, Failure, device, ranks, summary, words};
use crate::backend;
use crate::checkpoint::Attachment;
use crate::collective;
use crate::config::RunConfig;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::hash_file;
use crate::data::Dataset;
use crate::data::Loader;
use crate::ops::Kernels;
use crate::shard;
use crate::shard::Mesh;
use crate::shard::Placement;
use crate::shard::PlacementInput;
use crate::train;
use crate::train::Observer;
use crate::train::Outcome;
use crate::train::Plan;
use crate::train::RunFolder;
use crate::train::Setup;
use crate::train::Silent;
use crate::train::Start;
use crate::train::Stop;

/// Arguments of `train`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The run file; without one, defaults: a small model on a synthetic language.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lays a value over the run file, such as train.steps=1000 or model.preset=tiny; may be given
    /// many times. docs/CONFIG.md has all keys.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
    /// Continues from the latest checkpoint in the run folder (run.dir), bit for bit; begins if there
    /// is none. Without --config the run folder's own config.toml is taken.
    #[arg(long)]
    resume: bool,
    /// Runs as this many ranks in one process, for laptops and tests. Under mpirun or srun each
    /// process is a rank, without this.
    #[arg(long, value_name = "N")]
    ranks: Option<usize>,
}

const EXAMPLES: &str = "\
Examples:
  neuroshard train --set model.preset=tiny --set run.dir=runs/tiny --set train.steps=1000
  neuroshard train --resume --set run.dir=runs/tiny
  mpirun -np 8 neuroshard train --config run.toml
Ctrl-C or SIGTERM writes a checkpoint and ends the run with code 85.";

/// Name of the tokenizer among a checkpoint's files.
pub const TOKENIZER: &str = "tokenizer.json";

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let stop = Stop::on_signals()?;
    let begun = Instant::now();
    // Read before the ranks start, for the folder; complained about after, once for all.
    let config = RunConfig::load(args.run_file().as_deref(), &args.sets);
    let dir = config.as_ref().map_or_else(|_| PathBuf::from("."), |c| c.run.dir.clone());
    let start = collective::Start { run_dir: dir, patience: START_PATIENCE };
    let config = config.map_err(|error| words(&error));
    ranks::run(args.ranks, &start, out, |rank, out| {
        let config = ranks::agreed(rank, config.clone().map_err(Failure::from))?;
        train(args, config, rank, (&stop, begun), out)
    })
}

/// The training, as one rank of it.
fn train(
    args: &Args,
    config: RunConfig,
    rank: &Rank,
    (stop, begun): (&Stop, Instant),
    out: &mut Stdout,
) -> Result<Ending, Failure> {
    let folder = RunFolder::at(&config.run.dir);
    let start = if args.resume { Start::Resume } else { Start::Anew };
    let (device, place) = ranks::bind(rank, &config)?;
    let opened = ranks::agreed(rank, open(&config, &device, start))?;
    let Opened { kernels, dataset, plan } = opened;
    ranks::agreed(rank, alike(rank, &config, &dataset, &plan))?;
    let parallel = &plan.parallel;
    let mesh = Mesh::new(rank.world.clone(), parallel.stages, parallel.shards);
    let mesh = ranks::agreed(rank, mesh.map_err(Failure::from))?;
    let (me, link) = (rank.world.rank(), parallel.device_link);
    let devices = collective::device_ranks(mesh.data().as_ref(), kernels.as_ref(), link, me);
    let devices = ranks::agreed(rank, devices.map_err(|e| train::Error::from(e).into()))?;
    let mesh = mesh.with_devices(devices.group);
    let placement = ranks::agreed(rank, placed(&plan, &mesh, kernels.as_ref()))?;
    let layers = placement.stages[mesh.stage()].clone();
    let (seq_len, batch_sequences) = (plan.train.seq_len, plan.train.batch_sequences);
    let loader = Loader::new(dataset.clone(), plan.seed, seq_len, batch_sequences)?;
    let peak = kernels.peak_flops(plan.precision);
    summary::before(&plan, &loader, kernels.as_ref(), &config, out)?;
    summary::memory(&placement, out)?;
    summary::ranks(rank, &mesh, &place, out)?;
    if let Some(words) = devices.words {
        out.line(format_args!("gradients {words}"))?;
    }
    let setup = Setup {
        plan: &plan,
        kernels: kernels.clone(),
        mesh,
        layers,
        loader: &loader,
        folder: folder.clone(),
        config: config.to_toml()?,
        metrics: config.metrics.clone(),
        attachments: attachments(&dataset),
        start,
        peak_flops: Some(peak),
        stop: stop.clone(),
        deadline: deadline(plan.train.wall_clock_s, begun),
    };
    let mut progress = Progress::new(plan.train.stop_after);
    let observer: &mut dyn Observer = if rank.speaks() { &mut progress } else { &mut Silent };
    let outcome = train::run(setup, observer);
    progress.finish();
    let outcome = outcome?;
    let peaks = summary::peaks(rank, &placement)?;
    let ended = tell(outcome, (&peaks, &dataset, &folder), rank, out)?;
    // Nobody leaves while another still works: an MPI would take that for the end of the job.
    rank.world.barrier().map_err(train::Error::from)?;
    Ok(ended)
}

/// What the rank that speaks tells at the end.
fn tell(
    outcome: Outcome,
    (peaks, dataset, folder): (&[String], &Arc<Dataset>, &RunFolder),
    rank: &Rank,
    out: &mut Stdout,
) -> Result<Ending, Failure> {
    if let train::Ending::Stopped { votes } = outcome.ending {
        let (by, step) = (train::reasons(votes), outcome.trainer.done());
        out.line(format_args!("stopped by {by} after step {step}; go on with --resume"))?;
        return Ok(Ending::Stopped);
    }
    if rank.speaks() {
        summary::after(&outcome, peaks, dataset, folder, out)?;
    }
    Ok(Ending::Done)
}

/// Layers on stages by the memory of all ranks; refuses what does not fit, with the table.
fn placed(plan: &Plan, mesh: &Mesh, kernels: &dyn Kernels) -> Result<Placement, Failure> {
    let (world, device) = (mesh.world().as_ref(), kernels.memory());
    let memory = shard::memory_of_ranks(world, &plan.parallel, device.as_ref());
    let memory = memory.map_err(train::Error::from)?;
    let input = PlacementInput::new(plan.job(), plan.parallel.stages, memory)?;
    Ok(shard::place(&input)?)
}

/// What a rank opens before it meets the others' checks.
struct Opened {
    kernels: Arc<dyn Kernels>,
    dataset: Arc<Dataset>,
    plan: Plan,
}

fn open(config: &RunConfig, device: &backend::Config, start: Start) -> Result<Opened, Failure> {
    if start == Start::Anew && RunFolder::at(&config.run.dir).is_taken() {
        return Err(train::Error::Taken { path: config.run.dir.clone() }.into());
    }
    let kernels = device::open(device)?;
    let dims = config.model.dims().map_err(|complaints| complaints.join("; "))?;
    let dataset = Arc::new(Dataset::open(&config.data, dims.vocab)?);
    check_vocab(dims.vocab, &dataset)?;
    let plan = Plan::new(&config.parts(), dataset.hash()).map_err(|all| all.join("; "))?;
    Ok(Opened { kernels, dataset, plan })
}

/// Whether all ranks run the same program on the same data with the same settings.
fn alike(rank: &Rank, config: &RunConfig, data: &Dataset, plan: &Plan) -> Result<(), Failure> {
    let world = rank.world.as_ref();
    if world.size() == 1 {
        return Ok(());
    }
    let program = std::env::current_exe()
        .and_then(|path| hash_file(Domain::Program, &path))
        .unwrap_or_else(|_| Hash::of(Domain::Program, env!("CARGO_PKG_VERSION").as_bytes()));
    train::same(world, "another neuroshard program", program.as_bytes())?;
    train::same(world, "other data (another [data] dir or its contents)", data.hash().as_bytes())?;
    train::same(world, "another plan (other settings)", plan.hash.as_bytes())?;
    // What to compute on may differ from host to host; the rest of the settings may not.
    let shared = RunConfig { device: Default::default(), ..config.clone() };
    let shared = Hash::of(Domain::Plan, shared.to_toml()?.as_bytes());
    Ok(train::same(world, "other settings", shared.as_bytes())?)
}

/// When the run must have ended: by its own budget, or by the scheduler's.
fn deadline(wall_clock_s: u64, begun: Instant) -> Option<Instant> {
    let own = (wall_clock_s > 0).then(|| begun + Duration::from_secs(wall_clock_s));
    let end = std::env::var("SLURM_JOB_END_TIME").ok().and_then(|text| text.parse().ok());
    let left = end.and_then(|end: u64| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
        Some(Duration::from_secs(end).saturating_sub(now))
    });
    let slurm = left.map(|left| Instant::now() + left);
    own.into_iter().chain(slurm).min()
}

impl Args {
    /// The run file: as given, or the one that a run to be resumed left in its folder.
    fn run_file(&self) -> Option<PathBuf> {
        if self.config.is_some() || !self.resume {
            return self.config.clone();
        }
        let dir = self.sets.iter().rev().find_map(|set| set.strip_prefix("run.dir="));
        let dir = dir.map_or_else(|| train::Run::default().dir, |d| d.trim_matches('"').into());
        let path = RunFolder::at(&dir).config();
        path.exists().then_some(path)
    }
}

/// Whether the model has a row for every token of the data.
pub fn check_vocab(vocab: usize, dataset: &Dataset) -> Result<(), Failure> {
    let needed = dataset.vocab_size();
    if vocab >= needed {
        return Ok(());
    }
    let place = dataset.corpus().map_or_else(String::new, |c| format!(" of {}", c.dir().display()));
    Err(format!(
        "model.vocab: {vocab}, but the tokenizer{place} has {needed} tokens; \
         use --set model.vocab={needed} or more"
    )
    .into())
}

/// The tokenizer travels with the weights, so that a checkpoint can generate text by itself.
fn attachments(dataset: &Dataset) -> Vec<Attachment> {
    let tokenizer = dataset.corpus().map(|corpus| corpus.tokenizer());
    let attachment = |t: &crate::data::Tokenizer| Attachment {
        name: TOKENIZER.into(),
        bytes: t.json().to_vec(),
    };
    tokenizer.map(attachment).into_iter().collect()
}

/// How long the ranks of a job may take to come together.
const START_PATIENCE: Duration = Duration::from_secs(120);
