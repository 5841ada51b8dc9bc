//! `neuroshard eval`: loss and perplexity on held-out data.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;

use super::output::Stdout;
use super::saved_model::{SavedArgs, SavedModel, same_tokenizer};
use super::{Ending, Failure};
use crate::data;
use crate::data::Dataset;
use crate::data::Loader;
use crate::train::Stop;
use crate::train::evaluate_model;

/// Arguments of `eval`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    saved: SavedArgs,
    /// A folder made by data prepare; without it, the held-out part of what the model was trained on.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Held-out sequences, from the first on; without it, all.
    #[arg(long, value_name = "N")]
    sequences: Option<u64>,
    /// Tokens in a sequence; without it, as in training.
    #[arg(long, value_name = "TOKENS")]
    seq_len: Option<usize>,
    /// Prints JSON.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let saved = SavedModel::open(&args.saved)?;
    let seq_len = args.seq_len.unwrap_or(saved.config.train.seq_len);
    let config = match &args.data {
        Some(dir) => data::Config { dir: Some(dir.clone()), ..data::Config::default() },
        None => saved.config.data.clone(),
    };
    let dataset = Arc::new(Dataset::open(&config, saved.dims().vocab)?);
    if let Some(dir) = &config.dir {
        same_tokenizer(&saved.text()?, &dataset, dir)?;
    }
    let loader = Loader::new(dataset.clone(), saved.config.run.seed, seq_len, 1)?;
    let model = saved.load(seq_len)?;
    let extent = (args.sequences.unwrap_or(u64::MAX), seq_len);
    let found = evaluate_model(saved.kernels.as_ref(), &model, &loader, extent, &Stop::never())?;
    let Some(found) = found else { return Err("there are no held-out sequences".into()) };
    let step = saved.saved.manifest().progress.step;
    if args.json {
        out.json(&json!({
            "checkpoint": saved.saved.path(),
            "step": step,
            "profile": saved.config.numerics.precision().describe(),
            "device": saved.kernels.describe(),
            "loss": found.loss,
            "perplexity": found.perplexity(),
            "tokens": found.tokens,
            "sequences": found.sequences,
            "entropy_floor": dataset.entropy_floor(),
        }))?;
        return Ok(Ending::Done);
    }
    out.line(format_args!("checkpoint   {} (step {step})", saved.saved.path().display()))?;
    out.line(format_args!("profile      {}", saved.arithmetic()))?;
    out.line(format_args!("tokens       {} in {} sequences", found.tokens, found.sequences))?;
    out.line(format_args!("loss         {:.6} nats", found.loss))?;
    out.line(format_args!("perplexity   {:.4}", found.perplexity()))?;
    if let Some(floor) = dataset.entropy_floor() {
        out.line(format_args!("floor        {floor:.6} nats: the language's entropy"))?;
    }
    Ok(Ending::Done)
}
