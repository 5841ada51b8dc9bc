//! `neuroshard data prove` and `neuroshard data check`.

use std::fs::File;
use std::io::Read;
use std::io::Write;
use std::path::PathBuf;

use clap::ArgAction;

use super::super::output::Stdout;
use super::super::{Ending, Failure};
use crate::crypto::Hash;
use crate::data::Corpus;
use crate::data::DataError;
use crate::data::MAX_PROOF_BYTES;
use crate::data::Part;
use crate::data::check_proof;

/// Arguments of `data prove`.
#[derive(Debug, clap::Args)]
pub struct ProveArgs {
    /// A folder made by data prepare.
    dir: PathBuf,
    /// Which training sequence, from 0.
    #[arg(long, value_name = "N")]
    sequence: u64,
    /// Tokens that a sequence predicts: the train.seq_len of the training.
    #[arg(long, value_name = "TOKENS")]
    seq_len: u32,
    /// Takes the sequence from the held-out ones, counted from 0 too.
    #[arg(long, action = ArgAction::SetTrue)]
    heldout: bool,
    /// The file to write; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs `data prove`.
pub fn prove(args: &ProveArgs, out: &mut Stdout) -> Result<Ending, Failure> {
    let corpus = Corpus::open(&args.dir)?;
    let part = if args.heldout { Part::HeldOut } else { Part::Training };
    let proof = corpus.prove(part, args.sequence, args.seq_len)?;
    let fail = |source| DataError::Write { path: args.out.clone(), source };
    let mut file = File::create_new(&args.out).map_err(fail)?;
    file.write_all(&proof).and_then(|()| file.sync_all()).map_err(fail)?;
    let manifest = corpus.manifest();
    let tokens = (u64::from(args.seq_len) + 1) * u64::from(manifest.token_bytes);
    out.line(format_args!(
        "proof        {} bytes, of which {tokens} are the sequence's tokens",
        proof.len()
    ))?;
    if let Some(root) = manifest.root {
        out.line(format_args!("root         {root}"))?;
    }
    Ok(Ending::Done)
}

/// Arguments of `data check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// A file made by data prove.
    proof: PathBuf,
    /// The root of the dataset, as `data show` prints it: 64 hexadecimal digits.
    #[arg(long, value_name = "HASH")]
    root: Hash,
    /// Prints the sequence's tokens too.
    #[arg(long, action = ArgAction::SetTrue)]
    tokens: bool,
}

/// Runs `data check`.
pub fn check(args: &CheckArgs, out: &mut Stdout) -> Result<Ending, Failure> {
    let name = args.proof.display();
    let read = |source| DataError::Read { path: args.proof.clone(), source };
    let mut bytes = Vec::new();
    let file = File::open(&args.proof).map_err(read)?;
    file.take(MAX_PROOF_BYTES + 1).read_to_end(&mut bytes).map_err(read)?;
    let proven = check_proof(&bytes).map_err(|e| format!("{name}: {e}"))?;
    if proven.root != args.root {
        return Err(format!(
            "{name}: it leads to the root {}, not to {}: the sequence or the path was changed, or \
             it is of another dataset",
            proven.root, args.root
        )
        .into());
    }
    let part = match proven.part {
        Part::Training => "training",
        Part::HeldOut => "held-out",
    };
    out.line(format_args!(
        "holds        {part} sequence {} of {}, {} tokens",
        proven.index,
        proven.count,
        proven.tokens.len()
    ))?;
    if args.tokens {
        let tokens: Vec<_> = proven.tokens.iter().map(u32::to_string).collect();
        out.line(tokens.join(" "))?;
    }
    Ok(Ending::Done)
}
