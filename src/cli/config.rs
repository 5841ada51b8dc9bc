//! `neuroshard config`: what may be set, and what is.

use std::path::PathBuf;

use clap::Subcommand;

use super::output::Stdout;
use super::{Ending, Failure};
use crate::config;
use crate::config::RunConfig;

/// What to print about configurations.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints every key of run files and scenario files: values, default, meaning (docs/CONFIG.md).
    Reference,
    /// Checks a run file and prints all settings in force, defaults too, as a run file.
    #[command(after_help = EXAMPLE)]
    Show {
        /// The run file; without one, the defaults.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Lays a value over the run file, such as train.steps=1000 or model.preset=tiny; may be given
        /// many times. docs/CONFIG.md has all keys.
        #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
        sets: Vec<String>,
    },
}

/// Runs the command.
pub fn run(command: &Command, out: &mut Stdout) -> Result<Ending, Failure> {
    match command {
        Command::Reference => out.piece(&config::reference())?,
        Command::Show { config, sets } => {
            out.piece(&RunConfig::load(config.as_deref(), sets)?.to_toml()?)?;
        }
    }
    Ok(Ending::Done)
}

const EXAMPLE: &str = "\
Example:
  neuroshard config show --config run.toml --set optim.lr=3e-4 > other.toml";
