//! `neuroshard report`: runs and simulations as one page.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use super::output::Stdout;
use super::{Ending, Failure};
use crate::report;

/// Arguments of `report`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run folders of `train`, results of `simulate`, or folders with such folders in them.
    #[arg(required = true, value_name = "FOLDER")]
    folders: Vec<PathBuf>,
    /// The page, one file of HTML that needs nothing else. One that exists is replaced.
    #[arg(long, value_name = "FILE", default_value = "report.html")]
    out: PathBuf,
    /// The page's title.
    #[arg(long, value_name = "TEXT", default_value = "NeuroShard report")]
    title: String,
}

/// Runs the command.
pub fn run(args: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    let html = report::html(&args.folders, &args.title)?;
    if args.out.is_dir() {
        return Err(format!(
            "--out {} is a folder; name a file, such as {}",
            args.out.display(),
            args.out.join("report.html").display()
        )
        .into());
    }
    write(&args.out, &html).map_err(|e| format!("cannot write {}: {e}", args.out.display()))?;
    out.line(format_args!(
        "report       {} ({} kB)",
        args.out.display(),
        html.len().div_ceil(1000)
    ))?;
    Ok(Ending::Done)
}

/// The old page or the new one is there, never half of any.
fn write(path: &Path, html: &str) -> std::io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    let unfinished = path.with_file_name(name);
    let written = fs::write(&unfinished, html).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        let _ = fs::remove_file(&unfinished);
    }
    written
}
