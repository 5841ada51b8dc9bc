//! What `train` says before and after.

use std::sync::Arc;

use super::generate::{Choice, continue_text};
use super::output::Stdout;
use super::ranks::Rank;
use super::{Failure, device};
use crate::backend;
use crate::config::RunConfig;
use crate::data::Dataset;
use crate::data::Loader;
use crate::model::Sampling;
use crate::ops::Kernels;
use crate::shard::Mesh;
use crate::shard::Placement;
use crate::train;
use crate::train::Outcome;
use crate::train::Plan;
use crate::train::RunFolder;

/// Model, device, data, and what the loss can come down to.
pub fn before(
    plan: &Plan,
    loader: &Loader,
    kernels: &dyn Kernels,
    config: &RunConfig,
    out: &mut Stdout,
) -> Result<(), Failure> {
    let (dims, train) = (&plan.dims, &plan.train);
    let name = config.model.preset.as_deref().unwrap_or("nano");
    out.line(format_args!(
        "model     {name}: {:.2} M parameters, {} layers of width {}, vocabulary {}",
        dims.parameters() as f64 / 1e6,
        dims.layers,
        dims.width,
        dims.vocab
    ))?;
    out.line(format_args!("device    {}, profile {}", kernels.describe(), plan.precision.name()))?;
    if let (Some(tuning), Some(path)) = (backend::tuning(&config.device)?, &config.device.tuning) {
        out.line(format_args!("tuning    {}: {}", path.display(), tuning.hash()))?;
    }
    let dataset = loader.dataset();
    match (&config.data.dir, dataset.entropy_floor()) {
        (Some(dir), _) => out.line(format_args!(
            "data      {}: {} training and {} held-out sequences of {} tokens",
            dir.display(),
            loader.num_train(),
            loader.num_heldout(),
            train.seq_len
        ))?,
        (None, Some(floor)) => out.line(format_args!(
            "data      synthetic language {}: no loss below its entropy of {floor:.4} nats",
            config.data.synthetic_seed
        ))?,
        (None, None) => {}
    }
    out.line(format_args!(
        "training  {} steps of {} tokens ({} micro-batches of {} x {})",
        train.stop_after,
        plan.tokens_per_step,
        plan.grad_accum_steps,
        train.micro_batch_sequences,
        train.seq_len
    ))?;
    out.line(format_args!("plan      {}", plan.hash))
}

/// The memory that every rank will take.
pub fn memory(placement: &Placement, out: &mut Stdout) -> Result<(), Failure> {
    let all: Vec<String> = placement.memory.iter().map(|stage| mib(stage.total())).collect();
    match &all[..] {
        [one] if placement.data_ranks == 1 => {
            out.line(format_args!("memory    {one} MiB predicted"))
        }
        [one] => out.line(format_args!("memory    {one} MiB predicted, on every rank")),
        all => out.line(format_args!("memory    {} MiB predicted, by stage", all.join(", "))),
    }
}

/// Peak and predicted memory of every process, in words; collective.
pub fn peaks(rank: &Rank, placement: &Placement) -> Result<Vec<String>, Failure> {
    let world = rank.world.as_ref();
    let mine = device::peak_memory_bytes().unwrap_or(0);
    let mut all = vec![0u64; world.size()];
    let bytes = bytemuck::cast_slice_mut(&mut all);
    world.all_gather(&mine.to_ne_bytes(), bytes).map_err(train::Error::from)?;
    let planned = |rank: usize| placement.memory[rank / placement.data_ranks].total();
    if rank.in_one_process() {
        let planned = (0..world.size()).map(planned).sum::<u64>();
        return Ok(vec![format!("{} MiB ({} predicted)", mib(mine), mib(planned))]);
    }
    let words = |(rank, &peak): (usize, &u64)| {
        let name = if all.len() > 1 { format!("rank {rank}: ") } else { String::new() };
        format!("{name}{} MiB ({} predicted)", mib(peak), mib(planned(rank)))
    };
    Ok(all.iter().enumerate().map(words).collect())
}

fn mib(bytes: u64) -> String {
    format!("{:.0}", bytes as f64 / f64::from(1 << 20))
}

/// How the training is spread over ranks, and where they run; collective.
pub fn ranks(rank: &Rank, mesh: &Mesh, place: &str, out: &mut Stdout) -> Result<(), Failure> {
    let world = rank.world.as_ref();
    if world.size() == 1 {
        return Ok(());
    }
    let (ranks, stages) = (world.size(), mesh.stages());
    out.line(format_args!(
        "ranks     {ranks}: {stages} stage{} x {}, {} shards; {}",
        if stages == 1 { "" } else { "s" },
        mesh.data().size(),
        mesh.shards(),
        world.describe()
    ))?;
    let mut mine = vec![b' '; PLACE_BYTES];
    let len = place.len().min(PLACE_BYTES);
    mine[..len].copy_from_slice(&place.as_bytes()[..len]);
    let mut all = vec![0; PLACE_BYTES * ranks];
    world.all_gather(&mine, &mut all).map_err(train::Error::from)?;
    for place in all.chunks_exact(PLACE_BYTES).take(MAX_PLACES) {
        let place = String::from_utf8_lossy(place);
        out.line(format_args!("  {}", place.trim_end()))?;
    }
    if ranks > MAX_PLACES {
        out.line(format_args!("  … and {} more", ranks - MAX_PLACES))?;
    }
    Ok(())
}

/// Where the loss ended, a sample, and where everything is.
pub fn after(
    outcome: &Outcome,
    peaks: &[String],
    dataset: &Arc<Dataset>,
    folder: &RunFolder,
    out: &mut Stdout,
) -> Result<(), Failure> {
    out.line("")?;
    let floor = match dataset.entropy_floor() {
        Some(floor) => format!(" (entropy floor {floor:.4})"),
        None => String::new(),
    };
    if let Some(loss) = outcome.last_loss {
        out.line(format_args!("training loss   {loss:.4}{floor}"))?;
    }
    if let Some(eval) = &outcome.evaluation {
        let perplexity = eval.perplexity();
        out.line(format_args!(
            "held-out loss   {:.4}{floor}, perplexity {perplexity:.2}",
            eval.loss
        ))?;
    }
    if outcome.last_loss.is_none() {
        out.line("nothing was left to do; raise train.steps (a new run) or train.stop_after")?;
    }
    out.line(format_args!("peak memory     {}", peaks.join(", ")))?;
    sample(outcome, dataset, out)?;
    let decisions = outcome.trainer.kernels().decisions();
    if !decisions.is_empty() {
        let by_library = decisions.iter().filter(|line| line.contains(": cublaslt (")).count();
        out.line(format_args!(
            "products        {by_library} of {} shapes by cuBLASLt: {}",
            decisions.len(),
            folder.device().display()
        ))?;
    }
    out.line(format_args!("settings        {}", folder.config().display()))?;
    out.line(format_args!("metrics         {}", folder.metrics().display()))?;
    if let Some(path) = &outcome.checkpoint {
        out.line(format_args!("checkpoint      {}", path.display()))?;
    }
    out.line(format_args!("state hash      {}", outcome.state_hash))
}

/// Some text of the trained model's.
fn sample(outcome: &Outcome, dataset: &Dataset, out: &mut Stdout) -> Result<(), Failure> {
    let trainer = &outcome.trainer;
    let prompt = [dataset.end_of_text().unwrap_or(0)];
    let choice = Choice {
        sampling: Sampling { temperature: 0.8, top_k: 0, top_p: 0.95 },
        seed: trainer.plan().seed,
        end: None,
    };
    let count = SAMPLE_TOKENS.min(trainer.plan().train.seq_len.saturating_sub(1));
    let Some(model) = trainer.model()? else { return Ok(()) };
    let tokens = continue_text(trainer.kernels(), &model, &prompt, count, choice, |_| Ok(()))?;
    out.line("sample")?;
    for line in wrapped(&dataset.decode(&tokens)?) {
        out.line(format_args!("    {line}"))?;
    }
    Ok(())
}

/// Of one rank's place, in bytes.
const PLACE_BYTES: usize = 96;
/// More ranks are not listed.
const MAX_PLACES: usize = 64;

/// Words in lines of at most 76 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let room = lines.last().map_or(0, |l| l.chars().count());
        if room > 0 && room + word.chars().count() >= LINE_CHARS {
            lines.push(String::new());
        }
        if let Some(line) = lines.last_mut() {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

const SAMPLE_TOKENS: usize = 60;
const LINE_CHARS: usize = 76;
