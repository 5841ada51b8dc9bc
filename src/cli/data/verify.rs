//! `neuroshard data verify`.

use std::path::PathBuf;
use std::time::Instant;

use super::super::output::Stdout;
use super::super::{Ending, Failure};
use super::bar::bytes_bar;
use crate::crypto::Hash;
use crate::crypto::PeerId;
use crate::data::Corpus;

/// Arguments of `data verify`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A folder made by data prepare.
    dir: PathBuf,
    /// The root that the dataset must have: 64 hexadecimal digits.
    #[arg(long, value_name = "HASH")]
    root: Option<Hash>,
    /// The public key that must have signed it: 64 hexadecimal digits.
    #[arg(long, value_name = "PUBKEY")]
    maker: Option<PeerId>,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let begun = Instant::now();
    let corpus = Corpus::open(&args.dir)?;
    let manifest = corpus.manifest();
    if let Some(root) = &args.root {
        manifest.expect_root(&args.dir, root)?;
    }
    if let Some(maker) = &args.maker {
        manifest.expect_maker(&args.dir, maker)?;
    }
    let bytes = manifest.tokens * u64::from(manifest.token_bytes);
    let bar = bytes_bar();
    if let Some(bar) = &bar {
        bar.set_message("verifying");
        bar.set_length(bytes);
    }
    let verified = corpus.verify(&|done| {
        if let Some(bar) = &bar {
            bar.inc(done);
        }
    });
    if let Some(bar) = &bar {
        bar.finish_and_clear();
    }
    verified?;
    let seconds = begun.elapsed().as_secs_f64();
    out.line(format_args!(
        "whole        {} tokens in {} shards, {:.2} GB/s",
        manifest.tokens,
        manifest.shards.len(),
        bytes as f64 / 1e9 / seconds
    ))?;
    match manifest.root {
        Some(root) => out.line(format_args!("root         {root}"))?,
        None => out.line("root         none: a folder of version 1; prepare the data again")?,
    }
    if let Some(signed) = &manifest.signed {
        out.line(format_args!("signed by    {}", signed.signer))?;
    }
    Ok(Ending::Done)
}
