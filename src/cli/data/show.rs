//! `neuroshard data show`.

use std::path::PathBuf;

use super::super::output::Stdout;
use super::super::{Ending, Failure};
use crate::data::InputEntry;
use crate::data::Manifest;

/// Arguments of `data show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder made by data prepare.
    dir: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let manifest = Manifest::load(&args.dir)?;
    out.line(format_args!("version      {}", manifest.version))?;
    if let Some(root) = manifest.root {
        out.line(format_args!("root         {root}"))?;
    }
    if let Some(signed) = &manifest.signed {
        out.line(format_args!("signed by    {}", signed.signer))?;
    }
    out.line(format_args!("dataset      {}", manifest.dataset_hash()))?;
    out.line(format_args!("tokenizer    {}", manifest.tokenizer))?;
    out.line(format_args!(
        "vocabulary   {} ({} bytes a token)",
        manifest.vocab_size, manifest.token_bytes
    ))?;
    out.line(format_args!(
        "tokens       {} in {} documents and {} shards",
        manifest.tokens,
        manifest.documents,
        manifest.shards.len()
    ))?;
    let split = manifest.split;
    out.line(format_args!(
        "held out     one of {} blocks of {} tokens, seed {}",
        split.heldout_one_in, split.block_tokens, split.seed
    ))?;
    for filter in manifest.filters.iter().flatten() {
        out.line(format_args!(
            "filter       {} (version {}): {} documents left out",
            filter.name, filter.version, filter.dropped
        ))?;
    }
    manifest.inputs.iter().try_for_each(|input| show_input(input, out)).map(|()| Ending::Done)
}

fn show_input(input: &InputEntry, out: &mut Stdout) -> Result<(), Failure> {
    out.line(format_args!("input        {:?} {} bytes", input.name, input.bytes))?;
    out.line(format_args!("  hash       {}", input.hash))?;
    let Some(origin) = &input.origin else { return Ok(()) };
    let field = match origin.field.is_empty() {
        true => String::new(),
        false => format!(" {:?}", origin.field),
    };
    out.line(format_args!("  read as    {}{field}, {} documents", origin.kind, origin.documents))?;
    for (name, text) in [("licence", &origin.licence), ("source", &origin.source)] {
        if !text.is_empty() {
            out.line(format_args!("  {name:8}   {}", text.escape_debug()))?;
        }
    }
    Ok(())
}
