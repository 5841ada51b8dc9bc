//! `neuroshard data key`.

use std::path::PathBuf;

use super::super::output::Stdout;
use super::super::{Ending, Failure};
use crate::crypto::SigningKey;

/// Arguments of `data key`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file of the secret key; it must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let key = SigningKey::create(&args.out)?;
    out.line(format_args!("public key   {}", key.public()))?;
    out.line(format_args!("written      {} (keep it secret)", args.out.display()))?;
    Ok(Ending::Done)
}
