//! The runs in a folder.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::Component;
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

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Training(path) | Self::Simulation(path) => path,
        }
    }
}

/// Leaves each folder once, however it was named.
pub(super) fn without_repeats(folders: &mut Vec<Folder>) {
    let mut seen = BTreeSet::new();
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    folders.retain(|folder| seen.insert(real(folder.path())));
}

/// What each is called: the name of its folder, with as many of the folders around it as tell it apart.
pub(super) fn names(folders: &[Folder]) -> Vec<String> {
    let real = |folder: &Folder| {
        let path = folder.path();
        path.canonicalize().unwrap_or_else(|_| path.to_owned())
    };
    let paths: Vec<PathBuf> = folders.iter().map(real).collect();
    let mut parts = vec![1; paths.len()];
    loop {
        let names: Vec<_> = paths.iter().zip(&parts).map(|(path, n)| ending(path, *n)).collect();
        let mut count = BTreeMap::new();
        names.iter().for_each(|name| *count.entry(name.as_str()).or_insert(0) += 1);
        let mut is_clear = true;
        for ((name, path), n) in names.iter().zip(&paths).zip(&mut parts) {
            if count[name.as_str()] > 1 && *n < path.components().count() {
                (*n, is_clear) = (*n + 1, false);
            }
        }
        if is_clear {
            return names;
        }
    }
}

/// The last `count` parts of a path.
fn ending(path: &Path, count: usize) -> String {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
    let parts: Vec<_> = parts.map(|part| part.as_os_str().to_string_lossy()).collect();
    parts[parts.len().saturating_sub(count)..].join("/")
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

    #[test]
    fn runs_are_told_apart_and_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| Folder::Training(dir.path().join(name));
        for name in ["x/run", "y/run", "y/other"] {
            fs::create_dir_all(dir.path().join(name)).unwrap();
        }
        let mut folders = vec![at("x/run"), at("y/run"), at("y/../x/run"), at("y/other")];
        without_repeats(&mut folders);
        assert_eq!(names(&folders), ["x/run", "y/run", "other"]);
        assert!(names(&[]).is_empty());
    }
}
