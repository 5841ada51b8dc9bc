//! `neuroshard watch`: a run as it goes, in a terminal.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use super::output::Stdout;
use super::{Ending, Failure};
use crate::watch;
use crate::watch::Watched;

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The run's folder, the run.dir of `train`.
    #[arg(value_name = "RUN")]
    folder: PathBuf,
    /// Prints one picture as plain text, for pipes and logs.
    #[arg(long)]
    once: bool,
    /// Columns of the picture of --once.
    #[arg(long, value_name = "N", default_value_t = 100, requires = "once")]
    width: u16,
    /// Lines of the picture of --once.
    #[arg(long, value_name = "N", default_value_t = 32, requires = "once")]
    height: u16,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let mut watched = Watched::open(&args.folder)?;
    if !args.once {
        watch::live(&mut watched)?;
        return Ok(Ending::Done);
    }
    // How busy a host is shows over some time only.
    sleep(GLANCE);
    watched.refresh()?;
    out.piece(&watch::text(&watched, args.width, args.height))?;
    Ok(Ending::Done)
}

const GLANCE: Duration = Duration::from_millis(200);
