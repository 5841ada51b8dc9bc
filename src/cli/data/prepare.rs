//! `neuroshard data prepare`.

use std::path::PathBuf;

use super::super::output::Stdout;
use super::super::{Ending, Failure};
use super::bar::bytes_bar;
use crate::data;
use crate::data::Options;
use crate::data::Stage;

/// Arguments of `data prepare`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// UTF-8 .txt files, and folders that hold some.
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// The folder to make; it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokens of the vocabulary that is trained.
    #[arg(long, default_value_t = Options::default().vocab_size)]
    vocab_size: usize,
    /// A byte-level BPE tokenizer.json to use instead of training one.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Tokens of a shard, at most.
    #[arg(long, default_value_t = Options::default().shard_tokens)]
    shard_tokens: u64,
    /// Tokens of a block: the unit that is held out; sequences are shorter. By default by the
    /// size of the text.
    #[arg(long)]
    block_tokens: Option<u64>,
    /// One block of so many is held out.
    #[arg(long, default_value_t = Options::default().heldout_one_in)]
    heldout_one_in: u64,
    /// Key of the choice of what is held out.
    #[arg(long, default_value_t = Options::default().seed)]
    seed: u64,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let options = Options {
        vocab_size: args.vocab_size,
        tokenizer: args.tokenizer.clone(),
        shard_tokens: args.shard_tokens,
        block_tokens: args.block_tokens,
        heldout_one_in: args.heldout_one_in,
        seed: args.seed,
    };
    let bar = bytes_bar();
    let show = |progress: data::Progress| {
        let Some(bar) = &bar else { return };
        bar.set_message(match progress.stage {
            Stage::Check => "checking",
            Stage::Train => "tokenizer",
            Stage::Encode => "encoding",
        });
        bar.set_length(progress.total_bytes);
        bar.set_position(progress.done_bytes);
    };
    let prepared = data::prepare(&args.inputs, &args.out, &options, &show);
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    let manifest = prepared?;
    let tokens: u64 = manifest.shards.iter().map(|s| s.tokens).sum();
    let bytes: u64 = manifest.inputs.iter().map(|i| i.bytes).sum();
    out.line(format_args!(
        "texts        {} ({:.1} MB)",
        manifest.inputs.len(),
        bytes as f64 / 1e6
    ))?;
    out.line(format_args!("tokens       {tokens} in {} shards", manifest.shards.len()))?;
    out.line(format_args!("vocabulary   {}", manifest.vocab_size))?;
    out.line(format_args!("bytes/token  {:.3}", bytes as f64 / tokens.max(1) as f64))?;
    out.line(format_args!("dataset      {}", manifest.dataset_hash()))?;
    if let Some(root) = manifest.root {
        out.line(format_args!("root         {root}"))?;
    }
    out.line(format_args!("written      {}", args.out.display()))?;
    out.line(format_args!("train on it with --set data.dir={}", args.out.display()))?;
    Ok(Ending::Done)
}
