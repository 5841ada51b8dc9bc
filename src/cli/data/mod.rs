//! `neuroshard data`: token shards, made, shown, verified, and proved in part.

mod bar;
mod key;
mod prepare;
mod prove;
mod show;
mod verify;

use clap::Subcommand;

use super::output::Stdout;
use super::{Ending, Failure};

/// What to do with data.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Makes a folder of token shards from texts, JSON lines, Parquet or token files.
    Prepare(prepare::Args),
    /// Makes a key to sign datasets with.
    Key(key::Args),
    /// Prints what a prepared folder holds.
    Show(show::Args),
    /// Checks every byte of a prepared folder, and names the first that are wrong.
    Verify(verify::Args),
    /// Writes a proof that a sequence belongs to a dataset, with the sequence's tokens in it.
    Prove(prove::ProveArgs),
    /// Checks a proof of `data prove` against the root of a dataset, with nothing else at hand.
    Check(prove::CheckArgs),
}

/// Runs the command.
pub fn run(command: &Command, out: &mut Stdout) -> Result<Ending, Failure> {
    match command {
        Command::Prepare(args) => prepare::run(args, out),
        Command::Key(args) => key::run(args, out),
        Command::Show(args) => show::run(args, out),
        Command::Verify(args) => verify::run(args, out),
        Command::Prove(args) => prove::prove(args, out),
        Command::Check(args) => prove::check(args, out),
    }
}
