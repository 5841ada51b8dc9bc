//! `neuroshard checkpoint show|hash|verify`.

use std::path::Path;
use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::output::Stdout;
use super::{Ending, Failure};
use crate::checkpoint;
use crate::checkpoint::Group;
use crate::checkpoint::Saved;
use crate::collective;

/// What to do with a checkpoint.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Prints what a checkpoint holds.
    Show {
        /// A checkpoint, or a run folder: its latest whole one.
        dir: PathBuf,
        /// Prints JSON.
        #[arg(long)]
        json: bool,
        /// Lists every tensor too.
        #[arg(long)]
        tensors: bool,
    },
    /// Prints the hash of the training state, computed from the bytes on disk: weights, moments,
    /// data cursor, step and random-number addresses.
    Hash {
        /// A checkpoint, or a run folder: its latest whole one.
        dir: PathBuf,
    },
    /// Checks every byte of a checkpoint, or of every checkpoint of a run folder.
    Verify {
        /// A checkpoint or a run folder.
        dir: PathBuf,
    },
}

/// Runs the command.
pub fn run(command: &Command, out: &mut Stdout) -> Result<Ending, Failure> {
    match command {
        Command::Show { dir, json: true, .. } => {
            let saved = find(dir)?;
            out.json(&serde_json::to_value(saved.manifest())?)?;
        }
        Command::Show { dir, tensors, .. } => show(&find(dir)?, *tensors, out)?,
        Command::Hash { dir } => out.line(find(dir)?.verify(collective::single().as_ref())?)?,
        Command::Verify { dir } => verify(dir, out)?,
    }
    Ok(Ending::Done)
}

/// The checkpoint in `dir`; if that is a run folder, its latest whole one.
pub fn find(dir: &Path) -> Result<Saved, Failure> {
    let Some(checkpoints) = checkpoints_of(dir) else { return Ok(Saved::open(dir)?) };
    let latest = checkpoint::latest(&checkpoints, collective::single().as_ref())?;
    for error in &latest.broken {
        eprintln!("warning: {error}");
    }
    let none = || format!("{} has no whole checkpoint", checkpoints.display());
    latest.found.ok_or_else(|| none().into())
}

/// The folder of checkpoints that `dir` is or holds; none if it is a checkpoint, or nothing.
fn checkpoints_of(dir: &Path) -> Option<PathBuf> {
    if dir.join("manifest.json").exists() {
        return None;
    }
    let inner = dir.join("checkpoints");
    let has_some = |d: &Path| checkpoint::list(d).is_ok_and(|steps| !steps.is_empty());
    [inner, dir.to_owned()].into_iter().find(|d| has_some(d))
}

fn show(saved: &Saved, tensors: bool, out: &mut Stdout) -> Result<(), Failure> {
    let manifest = saved.manifest();
    let progress = &manifest.progress;
    let weights: u64 = manifest
        .tensors
        .iter()
        .filter(|t| t.group == Group::Weights)
        .filter_map(|t| t.size_bytes())
        .map(|bytes| bytes / 4)
        .sum();
    let size_bytes: u64 = manifest.files.iter().map(|f| f.size_bytes).sum();
    out.line(format_args!("checkpoint      {}", saved.path().display()))?;
    out.line(format_args!(
        "format          version {}, arithmetic {}",
        manifest.version, manifest.arithmetic
    ))?;
    out.line(format_args!("step            {}", progress.step))?;
    out.line(format_args!("next sequence   {}", progress.next_sequence))?;
    out.line(format_args!("random numbers  seed {}, step {}", progress.seed, progress.step))?;
    out.line(format_args!(
        "weights         {weights} parameters in {} tensors",
        manifest.tensors.len() / 3
    ))?;
    out.line(format_args!("size            {:.1} MB", size_bytes as f64 / 1e6))?;
    out.line(format_args!("state hash      {}", manifest.state_hash))?;
    out.line(format_args!("plan hash       {}", manifest.plan_hash))?;
    out.line(format_args!("model           {}", json!(manifest.model)))?;
    for entry in manifest.tensors.iter().filter(|_| tensors) {
        let key = entry.group.key(&entry.name);
        out.line(format_args!("  {key} {:?} {}", entry.shape, entry.hash))?;
    }
    Ok(())
}

fn verify(dir: &Path, out: &mut Stdout) -> Result<(), Failure> {
    let paths = match checkpoints_of(dir) {
        None => vec![dir.to_owned()],
        Some(checkpoints) => checkpoint::list(&checkpoints)?
            .into_iter()
            .map(|step| checkpoint::path_of(&checkpoints, step))
            .collect(),
    };
    let (mut first, alone) = (None, collective::single());
    for path in &paths {
        match Saved::open(path).and_then(|saved| saved.verify(alone.as_ref())) {
            Ok(hash) => out.line(format_args!("{}: whole, state {hash}", path.display()))?,
            Err(error) => {
                out.line(format_args!("{}: DAMAGED", path.display()))?;
                match first {
                    None => first = Some(error),
                    Some(_) => eprintln!("error: {error}"),
                }
            }
        }
    }
    first.map_or(Ok(()), |error| Err(error.into()))
}
