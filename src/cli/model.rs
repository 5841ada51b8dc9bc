//! `neuroshard model`: what a model costs.

use std::path::PathBuf;

use super::output::Stdout;
use super::{Ending, Failure};
use crate::config::RunConfig;
use crate::crypto::Domain;
use crate::crypto::Hasher;
use crate::model::PRESETS;
use crate::model::Params;
use crate::model::Passes;
use crate::shard::Job;
use crate::shard::Place;
use crate::shard::RankMemory;
use crate::train::Plan;

/// Arguments of `model`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A preset, such as tiny or 7b, instead of model.preset; docs/CONFIG.md lists them.
    #[arg(long, value_name = "NAME")]
    preset: Option<String>,
    /// A run file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Lays a value over the run file, such as model.layers=12 or train.seq_len=1024.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let preset = args.preset.iter().map(|name| format!("model.preset={name}"));
    let sets: Vec<String> = preset.chain(args.sets.iter().cloned()).collect();
    let config = RunConfig::load(args.config.as_deref(), &sets)?;
    let dims = config.model.dims().map_err(|complaints| complaints.join("; "))?;
    out.line(format_args!(
        "preset        {}",
        config.model.preset.as_deref().unwrap_or(PRESETS[0].name)
    ))?;
    out.line("")?;
    for (name, shape) in shapes(&Params::shapes(&dims)) {
        out.line(format_args!("  {name:22} {shape}"))?;
    }
    out.line("")?;
    out.line(format_args!("parameters    {}", dims.parameters()))?;
    out.line(format_args!("  in products {}", dims.matmul_parameters()))?;
    let seq_len = config.train.seq_len;
    out.line("")?;
    out.line(format_args!("FLOPs per token of training, sequences of {seq_len}:"))?;
    let (strict, full) = (dims.flops_per_token_strict(seq_len), dims.flops_per_token_full(seq_len));
    out.line(format_args!(
        "  {strict:>16}  6 N + 6 L H D T: causal attention counted once (mfu uses this)"
    ))?;
    out.line(format_args!("  {full:>16}  6 N + 12 L H D T: attention as if not causal (nanoGPT)"))?;
    out.line("  N: weights in matrix products, LM head included; forward and backward")?;
    let job = job_of(&config)?;
    let kept = if job.passes == Passes::Recomputed { "recomputed" } else { "stored" };
    out.line("")?;
    out.line(format_args!(
        "memory of training on one rank, micro-batches of {} x {seq_len} in {} shards, activations \
         {kept}, profile {}:",
        job.micro_batch_sequences,
        job.shards,
        job.precision.name()
    ))?;
    out.piece(&RankMemory::of(&job, &Place::alone(&dims)).to_string())?;
    out.line("")?;
    out.line(format_args!(
        "memory of generating text of {seq_len} tokens, at most (where all but one are the prompt):"
    ))?;
    out.piece(&RankMemory::of_generation(&dims, job.precision, seq_len).to_string())?;
    Ok(Ending::Done)
}

/// What training by `config` asks of ranks, on whatever data.
pub fn job_of(config: &RunConfig) -> Result<Job, Failure> {
    let any_data = Hasher::new(Domain::Plan).finish();
    let plan = Plan::new(&config.parts(), any_data).map_err(|complaints| complaints.join("; "))?;
    Ok(plan.job())
}

/// Names and shapes; the blocks, which are all alike, once.
fn shapes(params: &Params<Vec<usize>>) -> Vec<(String, String)> {
    let last = params.blocks.len().saturating_sub(1);
    let named = params.as_ref().into_named().into_iter();
    named
        .filter(|(name, _)| !name.starts_with("blocks.") || name.starts_with("blocks.0."))
        .map(|(name, shape)| {
            let name = match name.strip_prefix("blocks.0.") {
                Some(rest) => format!("blocks.0..={last}.{rest}"),
                None => name,
            };
            (name, format!("{shape:?}"))
        })
        .collect()
}
