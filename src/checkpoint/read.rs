//! Reading a checkpoint that may be damaged, foreign or hostile.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use super::digest;
use super::manifest::{FileEntry, Manifest, TensorEntry};
use super::ranks;
use super::{Error, Expected, Group, Row};
use crate::collective::Communicator;
use crate::tensor::Shape;

/// A checkpoint on disk whose manifest and file layout have been checked; its tensors not yet.
#[derive(Debug)]
pub struct Saved {
    path: PathBuf,
    manifest: Manifest,
    /// The manifest's tensors.
    table: Vec<Row>,
    files: BTreeMap<String, File>,
}

impl Saved {
    /// Opens the checkpoint in folder `path`: checks the manifest's seal, and that every file has
    /// the length, the header and the tensors that the manifest says.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let manifest = Manifest::read(path)?;
        let mut files = BTreeMap::new();
        for entry in &manifest.files {
            files.insert(entry.name.clone(), open_file(path, entry)?);
        }
        let mut saved = Self { path: path.to_owned(), manifest, table: Vec::new(), files };
        saved.check_layout()?;
        let row = |entry: &TensorEntry| Row {
            group: entry.group,
            name: entry.name.clone(),
            // Its extents have been found in a header that fits the file.
            shape: Shape::new(&entry.shape),
        };
        saved.table = saved.manifest.tensors.iter().map(row).collect();
        Ok(saved)
    }

    /// Opens the checkpoint in folder `path` on all ranks, and makes sure that it is the same one.
    /// Collective: all succeed, or all get the error of the first rank that does not.
    pub fn open_together(path: &Path, comm: &dyn Communicator) -> Result<Self, Error> {
        let mut opened = None;
        let seal = ranks::first(comm, || {
            let saved = Self::open(path)?;
            Ok(opened.insert(saved).manifest.seal.clone())
        })?;
        let not_shared = || Error::NotShared { path: path.to_owned() };
        let mine = match opened {
            Some(saved) => Ok(saved),
            None => match Self::open(path) {
                Ok(saved) if saved.manifest.seal == seal => Ok(saved),
                Ok(_) | Err(Error::Absent { .. }) => Err(not_shared()),
                Err(error) => Err(error),
            },
        };
        ranks::agree(comm, mine)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All its tensors, in canonical order.
    pub fn table(&self) -> &[Row] {
        &self.table
    }

    /// What the checkpoint says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Checks that the weights (and, if `groups` says so, moments) are those of a model with
    /// parameters `expected`. Costs nothing and comes before any memory is taken.
    pub fn expect(&self, groups: &[Group], expected: &[Expected]) -> Result<(), Error> {
        let differs = |what: String| Error::Mismatch { path: self.path.clone(), what };
        for &group in groups {
            let found: Vec<_> = self.manifest.tensors.iter().filter(|t| t.group == group).collect();
            for (entry, (name, shape)) in found.iter().zip(expected) {
                if entry.name != *name {
                    return Err(differs(format!("has {}, expected {name}", entry.name)));
                }
                if entry.shape[..] != shape[..] {
                    let (got, want) = (&entry.shape, &shape[..]);
                    return Err(differs(format!("{name} is {got:?}, expected {want:?}")));
                }
            }
            if found.len() != expected.len() {
                let (got, want) = (found.len(), expected.len());
                return Err(differs(format!("{got} tensors, expected {want}")));
            }
        }
        Ok(())
    }

    /// Reads an attachment and verifies it; `None` if the checkpoint has none of that name.
    pub fn attachment(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let (Some(entry), Some(file)) = (self.manifest.file(name), self.files.get(name)) else {
            return Ok(None);
        };
        let path = self.path.join(name);
        if entry.head_bytes != entry.size_bytes || entry.size_bytes > MAX_ATTACHMENT_BYTES {
            return Err(Error::Malformed { path, why: "not an attachment".into() });
        }
        let mut bytes = vec![0; entry.size_bytes as usize];
        file.read_exact_at(&mut bytes, 0).map_err(Error::io("read", &path))?;
        if digest::hash_bytes(&bytes) != entry.head_hash {
            return Err(Error::Corrupt { path, what: "the file".into() });
        }
        Ok(Some(bytes))
    }

    pub(super) fn file(&self, group: Group) -> Result<(PathBuf, &File), Error> {
        let path = self.path.join(group.file());
        match self.files.get(group.file()) {
            Some(file) => Ok((path, file)),
            None => Err(Error::Malformed { path, why: "not in the manifest".into() }),
        }
    }

    /// Compares the manifest's tensor table with the headers of the files.
    fn check_layout(&self) -> Result<(), Error> {
        let mut left = BTreeMap::new();
        for name in [Group::Weights.file(), Group::FirstMoments.file()] {
            left.extend(offsets(&self.path.join(name))?);
        }
        for entry in &self.manifest.tensors {
            let key = entry.group.key(&entry.name);
            let place = entry.size_bytes().map(|size| (entry.offset, size));
            if entry.dtype != "f32" || entry.shape.len() > 4 || left.remove(&key) != place {
                let path = self.path.join(entry.group.file());
                let why = format!("tensor {key} is not where the manifest says");
                return Err(Error::Malformed { path, why });
            }
        }
        match left.into_keys().next() {
            None => Ok(()),
            Some(key) => Err(Error::Malformed {
                path: self.path.clone(),
                why: format!("tensor {key} is not in the manifest"),
            }),
        }
    }
}

/// Opens one file of a checkpoint and checks its length and the hash of its head.
fn open_file(folder: &Path, entry: &FileEntry) -> Result<File, Error> {
    let plain = !entry.name.is_empty() && !entry.name.contains(['/', '\\', '\0']);
    if !plain || entry.name.starts_with('.') {
        let why = format!("{:?} is not a file name", entry.name);
        return Err(Error::Malformed { path: folder.join(super::manifest::FILE), why });
    }
    let path = folder.join(&entry.name);
    let file = File::open(&path).map_err(Error::io("open", &path))?;
    let got = file.metadata().map_err(Error::io("inspect", &path))?.len();
    if got != entry.size_bytes {
        return Err(Error::Size { path, want: entry.size_bytes, got });
    }
    if entry.head_bytes > entry.size_bytes {
        let why = "its header is longer than the file".into();
        return Err(Error::Malformed { path, why });
    }
    let hash = digest::hash_range(&file, 0, entry.head_bytes).map_err(Error::io("read", &path))?;
    if hash != entry.head_hash {
        return Err(Error::Corrupt { path, what: "the header".into() });
    }
    Ok(file)
}

/// Offset in the file and size of every tensor of a safetensors file, in bytes, by name.
pub(super) fn offsets(path: &Path) -> Result<BTreeMap<String, (u64, u64)>, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let size_bytes = file.metadata().map_err(Error::io("inspect", path))?.len();
    let (head_bytes, metadata) = header(path, &file, size_bytes)?;
    let place = |(name, info): (String, &safetensors::tensor::TensorInfo)| {
        let (start, end) = info.data_offsets;
        (name, (head_bytes + start as u64, (end - start) as u64))
    };
    Ok(metadata.tensors().into_iter().map(place).collect())
}

/// Length of the part before the tensors of a safetensors file, and its tensor table.
pub(super) fn header(
    path: &Path,
    file: &File,
    size_bytes: u64,
) -> Result<(u64, safetensors::tensor::Metadata), Error> {
    let malformed = |why: String| Error::Malformed { path: path.to_owned(), why };
    let mut length = [0; 8];
    if size_bytes < 8 {
        return Err(malformed("no safetensors header".into()));
    }
    file.read_exact_at(&mut length, 0).map_err(Error::io("read", path))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES.min(size_bytes - 8) {
        return Err(malformed(format!("a header of {length} bytes cannot be")));
    }
    let mut text = vec![0; length as usize];
    file.read_exact_at(&mut text, 8).map_err(Error::io("read", path))?;
    let metadata: safetensors::tensor::Metadata = serde_json::from_slice(&text)
        .map_err(|e| malformed(format!("not a safetensors header: {e}")))?;
    if metadata.data_len() as u64 != size_bytes - 8 - length {
        return Err(malformed("the tensors do not fill the file".into()));
    }
    Ok((8 + length, metadata))
}

/// A header has some hundred bytes a tensor; a longer one is an attack or a mistake.
const MAX_HEADER_BYTES: u64 = 64 << 20;

/// A tokenizer has a few MB.
const MAX_ATTACHMENT_BYTES: u64 = 256 << 20;
