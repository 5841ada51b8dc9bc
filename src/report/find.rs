//! The runs in a folder.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use super::Error;

/// A folder with a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// Of `neuroshard train`.
    Training(PathBuf),
    /// Of `neuroshard simulate`.
    Simulation(PathBuf),
}

/// Appends the runs in `path`: itself, or those in its folders, by name. At least one.
pub(super) fn folders(path: &Path, found: &mut Vec<Folder>) -> Result<(), Error> {
    let before = found.len();
    fs::metadata(path).map_err(Error::read(path))?;
    search(path, DEPTH, found)?;
    match found.len() {
        n if n == before => Err(Error::Nothing { path: path.to_owned(), depth: DEPTH }),
        n if n > MOST => Err(Error::TooMany { most: MOST }),
        _ => Ok(()),
    }
}

fn search(path: &Path, depth: usize, found: &mut Vec<Folder>) -> Result<(), Error> {
    if path.join("rounds.jsonl").is_file() {
        found.push(Folder::Simulation(path.to_owned()));
        return Ok(());
    }
    if path.join("metrics.jsonl").is_file() {
        found.push(Folder::Training(path.to_owned()));
        return Ok(());
    }
    if depth == 0 || found.len() > MOST || !path.is_dir() {
        return Ok(());
    }
    let mut inside = Vec::new();
    for entry in fs::read_dir(path).map_err(Error::read(path))? {
        let entry = entry.map_err(Error::read(path))?;
        // Links are not followed: they could lead in circles.
        let is_dir = entry.file_type().is_ok_and(|t| t.is_dir());
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if is_dir && !hidden {
            inside.push(entry.path());
        }
    }
    inside.sort();
    inside.iter().try_for_each(|path| search(path, depth - 1, found))
}

/// How deep runs are looked for.
const DEPTH: usize = 4;

/// Runs of a page at most.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_found_by_name_and_nothing_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        for (run, file) in
            [("b/run", "metrics.jsonl"), ("a", "rounds.jsonl"), (".old", "rounds.jsonl")]
        {
            fs::create_dir_all(dir.path().join(run)).unwrap();
            fs::write(dir.path().join(run).join(file), "").unwrap();
        }
        let mut found = Vec::new();
        folders(dir.path(), &mut found).unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(found, [Folder::Simulation(at("a")), Folder::Training(at("b/run"))]);
        fs::create_dir(at("empty")).unwrap();
        let refused = folders(&at("empty"), &mut found).unwrap_err().to_string();
        assert!(refused.contains("has no run"), "{refused}");
        assert!(
            folders(&at("missing"), &mut found).unwrap_err().to_string().contains("cannot read")
        );
    }
}
