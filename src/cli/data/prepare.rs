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
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Files of UTF-8 text and folders of them: .txt (a document), .jsonl (a document a line), both also
    /// with .gz or .zst, .parquet (a document a row), and token .bin files of llm.c.
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// The folder to make; it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Tokens of the vocabulary that is trained on the inputs.
    #[arg(long, value_name = "TOKENS", default_value_t = Options::default().vocab_size)]
    vocab_size: usize,
    /// A byte-level BPE tokenizer.json to use instead of training one.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// The field of JSON lines that holds the text.
    #[arg(long, value_name = "NAME", default_value_t = Options::default().field)]
    field: String,
    /// The column of Parquet that holds the text.
    #[arg(long, value_name = "NAME", default_value_t = Options::default().column)]
    column: String,
    /// The licence of all inputs, such as CC0-1.0, for the manifest.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    licence: String,
    /// Where all inputs are from, such as a URL, for the manifest.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    source: String,
    /// Licences and sources of single inputs: a TOML file of tables ["NAME"], NAME being an input
    /// or a folder, each with `licence` and `source`.
    #[arg(long, value_name = "FILE")]
    inputs_info: Option<PathBuf>,
    /// Signs the dataset with the key in this file (see data key).
    #[arg(long, value_name = "KEYFILE")]
    sign: Option<PathBuf>,
    /// Tokens of a shard, at most.
    #[arg(long, value_name = "TOKENS", default_value_t = Options::default().shard_tokens)]
    shard_tokens: u64,
    /// Tokens of a block, the unit that is held out; sequences of a training are shorter. Default: by
    /// the size of the text.
    #[arg(long, value_name = "TOKENS")]
    block_tokens: Option<u64>,
    /// One block of so many is held out, for evaluation.
    #[arg(long, value_name = "N", default_value_t = Options::default().heldout_one_in)]
    heldout_one_in: u64,
    /// Seed of the choice of what is held out.
    #[arg(long, value_name = "N", default_value_t = Options::default().seed)]
    seed: u64,
}

const EXAMPLE: &str = "\
Example:
  neuroshard data prepare books/ --out data/books --vocab-size 8192
  neuroshard train --set data.dir=data/books --set model.preset=tiny --set run.dir=runs/books
docs/DATA.md says what the folder holds.";

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let options = Options {
        vocab_size: args.vocab_size,
        tokenizer: args.tokenizer.clone(),
        field: args.field.clone(),
        column: args.column.clone(),
        licence: args.licence.clone(),
        source: args.source.clone(),
        inputs_info: args.inputs_info.clone(),
        sign: args.sign.clone(),
        shard_tokens: args.shard_tokens,
        block_tokens: args.block_tokens,
        heldout_one_in: args.heldout_one_in,
        seed: args.seed,
    };
    let bar = bytes_bar();
    let say = |text: &str| match &bar {
        Some(bar) => bar.println(text),
        None => eprintln!("{text}"),
    };
    let show = |progress: data::Progress| {
        let name = match progress.stage {
            Stage::Resumed => {
                let megabytes = progress.done_bytes as f64 / 1e6;
                return say(&format!(
                    "going on with work that was broken off: {megabytes:.1} MB of tokens are kept"
                ));
            }
            Stage::Restarted => {
                return say("beginning anew: the work found there was of other inputs or options");
            }
            Stage::Check => "checking",
            Stage::Train => "tokenizer",
            Stage::Encode => "encoding",
        };
        let Some(bar) = &bar else { return };
        bar.set_message(name);
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
        "inputs       {} ({:.1} MB)",
        manifest.inputs.len(),
        bytes as f64 / 1e6
    ))?;
    out.line(format_args!("tokens       {tokens} in {} shards", manifest.shards.len()))?;
    out.line(format_args!("documents    {}", manifest.documents))?;
    for filter in manifest.filters.iter().flatten().filter(|f| f.dropped > 0) {
        out.line(format_args!("left out     {} ({})", filter.dropped, filter.name))?;
    }
    out.line(format_args!("vocabulary   {}", manifest.vocab_size))?;
    let plain = manifest.inputs.iter().filter_map(|i| i.origin.as_ref()).all(|o| o.kind == "txt");
    if plain {
        out.line(format_args!("bytes/token  {:.3}", bytes as f64 / tokens.max(1) as f64))?;
    }
    out.line(format_args!("dataset      {}", manifest.dataset_hash()))?;
    if let Some(root) = manifest.root {
        out.line(format_args!("root         {root}"))?;
    }
    out.line(format_args!("written      {}", args.out.display()))?;
    out.line(format_args!("train on it with --set data.dir={}", args.out.display()))?;
    Ok(Ending::Done)
}
