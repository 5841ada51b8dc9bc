//! The folder of a run's checkpoints: names, the latest, retention.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use super::{Error, Saved, ranks};
use crate::collective::Communicator;

/// What [`latest`] found.
#[derive(Debug)]
pub struct Latest {
    /// The newest checkpoint that is whole.
    pub found: Option<Saved>,
    /// Newer ones that are not, newest first.
    pub broken: Vec<Error>,
}

/// Folder of the checkpoint of `step`.
pub fn path_of(checkpoints: &Path, step: u64) -> PathBuf {
    checkpoints.join(format!("{step:08}"))
}

/// Name of the folder of the checkpoint of `step` while it is written, for the `nth` time.
pub(super) fn unfinished_name(step: u64, nth: u128) -> String {
    format!("{UNFINISHED}{step:08}-{nth:x}")
}

/// Removes what writers of the checkpoint of `step` that were killed have left.
pub(super) fn remove_unfinished_of(checkpoints: &Path, step: u64) -> Result<(), Error> {
    remove_all(checkpoints, &format!("{UNFINISHED}{step:08}"))
}

/// Where a checkpoint goes for the moment in which another replaces it.
pub(super) fn replaced_path(checkpoints: &Path, step: u64) -> PathBuf {
    checkpoints.join(format!("{UNFINISHED}replaced-{step:08}"))
}

/// Steps of the checkpoints in `checkpoints`, whole or not, ascending. No folder: none.
pub fn list(checkpoints: &Path) -> Result<Vec<u64>, Error> {
    let mut steps: Vec<u64> = names(checkpoints)?.iter().filter_map(|n| step_of(n)).collect();
    steps.sort_unstable();
    Ok(steps)
}

/// The newest checkpoint whose every byte is as it was written, and why newer ones are not used.
/// Collective: the ranks divide the bytes among them, and all find the same.
pub fn latest(checkpoints: &Path, comm: &dyn Communicator) -> Result<Latest, Error> {
    let mut broken = Vec::new();
    for step in ranks::first(comm, || list(checkpoints))?.into_iter().rev() {
        let path = path_of(checkpoints, step);
        let opened = Saved::open_together(&path, comm);
        match opened.and_then(|saved| saved.verify(comm).map(|_| saved)) {
            Ok(saved) => return Ok(Latest { found: Some(saved), broken }),
            // The checkpoint may be whole.
            Err(error @ Error::Ranks(_)) => return Err(error),
            Err(error) => broken.push(error),
        }
    }
    Ok(Latest { found: None, broken })
}

/// Removes all but the newest `keep` checkpoints; 0 keeps all. For one rank.
pub fn remove_old(checkpoints: &Path, keep: usize) -> Result<(), Error> {
    let steps = list(checkpoints)?;
    if keep == 0 || steps.len() <= keep {
        return Ok(());
    }
    for &step in &steps[..steps.len() - keep] {
        let path = path_of(checkpoints, step);
        // Renamed first, so that a removal cut short leaves nothing that looks like a checkpoint.
        let removed = replaced_path(checkpoints, step);
        let gone = fs::rename(&path, &removed).and_then(|()| fs::remove_dir_all(&removed));
        gone.map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// Removes what writers that were killed have left. For one rank.
pub fn remove_unfinished(checkpoints: &Path) -> Result<(), Error> {
    remove_all(checkpoints, UNFINISHED)
}

/// Removes the folders whose names begin with `prefix`.
fn remove_all(checkpoints: &Path, prefix: &str) -> Result<(), Error> {
    for name in names(checkpoints)?.iter().filter(|n| n.starts_with(prefix)) {
        let path = checkpoints.join(name);
        fs::remove_dir_all(&path).map_err(Error::io("remove", &path))?;
    }
    Ok(())
}

/// Names of what is in a folder that may not exist.
fn names(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", dir)(e)),
    };
    let name = |entry: std::io::Result<fs::DirEntry>| {
        entry.map(|e| e.file_name().to_string_lossy().into_owned()).map_err(Error::io("read", dir))
    };
    entries.map(name).collect()
}

/// The step in a checkpoint's name.
fn step_of(name: &str) -> Option<u64> {
    (name.len() >= 8 && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.parse().ok())?
}

/// Begins the name of a folder that is no checkpoint yet, or no longer.
const UNFINISHED: &str = ".unfinished-";
