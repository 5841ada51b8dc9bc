//! The files among and below what the user named, in a fixed order.

use std::fs;
use std::fs::File;
use std::io;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use super::Input;
use super::Kind;
use super::Packing;
use super::bin;
use crate::data::DataError;

/// The inputs among and below `paths`: in the order given, and by name within a folder. Links to
/// folders are not followed. In folders, files of other kinds are passed over.
pub fn find_inputs(paths: &[PathBuf]) -> Result<Vec<Input>, DataError> {
    let mut found = Vec::new();
    for path in paths {
        let name = match path.file_name() {
            Some(name) => name.to_string_lossy().into_owned(),
            None => String::new(),
        };
        let before = found.len();
        if fs::metadata(path).map_err(DataError::read(path))?.is_dir() {
            collect_folder(path, &name, &mut found)?;
        } else if let Some((kind, packing)) = form(path) {
            found.push(Input { path: path.clone(), name, kind, packing });
        }
        if found.len() == before {
            return Err(DataError::NoText { path: path.clone() });
        }
    }
    let mut seen = std::collections::HashSet::new();
    for input in &found {
        let canonical = fs::canonicalize(&input.path).map_err(DataError::read(&input.path))?;
        if !seen.insert(canonical) {
            return Err(DataError::DuplicateInput { path: input.path.clone() });
        }
    }
    Ok(found)
}

fn collect_folder(folder: &Path, name: &str, found: &mut Vec<Input>) -> Result<(), DataError> {
    let entries: io::Result<Vec<_>> =
        fs::read_dir(folder).map_err(DataError::read(folder))?.collect();
    let mut entries = entries.map_err(DataError::read(folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let name = format!("{name}/{}", entry.file_name().to_string_lossy());
        let file_type = entry.file_type().map_err(DataError::read(&path))?;
        if file_type.is_dir() {
            collect_folder(&path, &name, found)?;
            continue;
        }
        let Some((kind, packing)) = form(&path) else { continue };
        if !fs::metadata(&path).map_err(DataError::read(&path))?.is_file() {
            continue;
        }
        // Many things are called .bin: in a folder only token files count.
        if kind != Kind::Bin || begins_as_tokens(&path)? {
            found.push(Input { path, name, kind, packing });
        }
    }
    Ok(())
}

/// The form that a file's name tells.
fn form(path: &Path) -> Option<(Kind, Packing)> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let (stem, packing) = match (name.strip_suffix(".gz"), name.strip_suffix(".zst")) {
        (Some(stem), _) => (stem, Packing::Gz),
        (_, Some(stem)) => (stem, Packing::Zst),
        _ => (&name[..], Packing::Plain),
    };
    let kind = match (stem.rsplit_once('.')?.1, packing) {
        ("txt", _) => Kind::Txt,
        ("jsonl" | "ndjson", _) => Kind::Jsonl,
        ("parquet", Packing::Plain) => Kind::Parquet,
        ("bin", Packing::Plain) => Kind::Bin,
        _ => return None,
    };
    Some((kind, packing))
}

fn begins_as_tokens(path: &Path) -> Result<bool, DataError> {
    let mut begin = Vec::new();
    let file = File::open(path).map_err(DataError::read(path))?;
    file.take(4).read_to_end(&mut begin).map_err(DataError::read(path))?;
    Ok(begin == bin::MAGIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_form() {
        let form = |name: &str| form(Path::new(name));
        assert_eq!(form("a.TXT"), Some((Kind::Txt, Packing::Plain)));
        assert_eq!(form("x/a.b.jsonl.zst"), Some((Kind::Jsonl, Packing::Zst)));
        assert_eq!(form("a.txt.gz"), Some((Kind::Txt, Packing::Gz)));
        assert_eq!(form("a.parquet"), Some((Kind::Parquet, Packing::Plain)));
        for other in ["a.parquet.gz", "a.bin.zst", "a", "a.gz", "txt", "a.pdf", "a.json"] {
            assert_eq!(form(other), None, "{other}");
        }
    }
}
