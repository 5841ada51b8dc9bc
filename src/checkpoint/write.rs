//! Writing a checkpoint: under a temporary name, synced, then renamed.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::path::PathBuf;

use super::digest::{self, ARITHMETIC, Leaf, bytes_of, hash_sources};
use super::manifest::{FORMAT, FileEntry, Manifest, TensorEntry, VERSION};
use super::{Error, Group, Progress, Source, folder, manifest};
use crate::crypto::Hash;

/// What a checkpoint holds.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Step, data cursor, random-number addresses, guard.
    pub progress: Progress,
    /// All tensors in canonical order: weights, first moments, second moments.
    pub tensors: Vec<Source<'a>>,
    /// Hash of the plan.
    pub plan_hash: Hash,
    /// What the plan hash covers, by key.
    pub plan: BTreeMap<String, String>,
    /// The model's configuration.
    pub model: serde_json::Value,
    /// The run's configuration as TOML.
    pub config: String,
    /// Further files, such as the tokenizer.
    pub attachments: Vec<Attachment>,
}

/// A small file that travels with a checkpoint.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// Name within the folder.
    pub name: String,
    /// What it holds.
    pub bytes: Vec<u8>,
}

/// Writes a checkpoint into `checkpoints`, as a folder named after its step.
///
/// A checkpoint of that step that is already there is replaced, and only once the new one is
/// whole. On failure nothing is left behind, and other checkpoints are untouched.
pub fn write(checkpoints: &Path, contents: &Contents<'_>) -> Result<(PathBuf, Hash), Error> {
    fs::create_dir_all(checkpoints).map_err(Error::io("create", checkpoints))?;
    let step = contents.progress.step;
    let unfinished = folder::unfinished_path(checkpoints, step);
    let written = remove_if_there(&unfinished)
        .and_then(|()| fill(&unfinished, contents))
        .and_then(|hash| Ok((publish(checkpoints, &unfinished, step)?, hash)));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_dir_all(&unfinished);
    }
    written
}

/// Writes all files of a checkpoint into the new folder `dir`.
fn fill(dir: &Path, contents: &Contents<'_>) -> Result<Hash, Error> {
    fs::create_dir(dir).map_err(Error::io("create", dir))?;
    let mut files = Vec::new();
    for name in [Group::Weights.file(), Group::FirstMoments.file()] {
        files.push(write_tensors(dir, name, &contents.tensors)?);
    }
    for attachment in &contents.attachments {
        write_bytes(&dir.join(&attachment.name), &attachment.bytes)?;
        let size_bytes = attachment.bytes.len() as u64;
        let head_hash = digest::hash_bytes(&attachment.bytes);
        let name = attachment.name.clone();
        files.push(FileEntry { name, size_bytes, head_bytes: size_bytes, head_hash });
    }
    let (tensors, hash) = describe(dir, contents)?;
    let manifest = Manifest {
        seal: String::new(),
        format: FORMAT.into(),
        version: VERSION,
        arithmetic: ARITHMETIC,
        state_hash: hash,
        progress: contents.progress.clone(),
        plan_hash: contents.plan_hash,
        plan: contents.plan.clone(),
        model: contents.model.clone(),
        config: contents.config.clone(),
        files,
        tensors,
    };
    write_bytes(&dir.join(manifest::FILE), manifest.sealed_text().as_bytes())?;
    sync(dir)?;
    Ok(hash)
}

/// Renames the finished folder into place; after that the checkpoint exists.
fn publish(checkpoints: &Path, unfinished: &Path, step: u64) -> Result<PathBuf, Error> {
    let path = folder::path_of(checkpoints, step);
    if path.exists() {
        let replaced = folder::replaced_path(checkpoints, step);
        remove_if_there(&replaced)?;
        fs::rename(&path, &replaced).map_err(Error::io("rename", &path))?;
        fs::rename(unfinished, &path).map_err(Error::io("rename", unfinished))?;
        remove_if_there(&replaced)?;
    } else {
        fs::rename(unfinished, &path).map_err(Error::io("rename", unfinished))?;
    }
    sync(checkpoints)?;
    Ok(path)
}

/// Writes the tensors that belong to file `name`.
fn write_tensors(dir: &Path, name: &str, tensors: &[Source<'_>]) -> Result<FileEntry, Error> {
    let path = dir.join(name);
    let mut entries = Vec::new();
    for tensor in tensors.iter().filter(|t| t.group.file() == name) {
        let data = bytes_of(tensor)?;
        entries.push((
            tensor.group.key(&tensor.name),
            Raw { data, shape: tensor.view.shape().to_vec() },
        ));
    }
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    safetensors::serialize_to_file(entries, Some(metadata), &path)
        .map_err(|e| Error::io("write", &path)(io_error(e)))?;
    sync(&path)?;
    let file = File::open(&path).map_err(Error::io("open", &path))?;
    let size_bytes = file.metadata().map_err(Error::io("inspect", &path))?.len();
    let (head_bytes, _) = super::read::header(&path, &file, size_bytes)?;
    let head_hash = digest::hash_range(&file, 0, head_bytes).map_err(Error::io("read", &path))?;
    Ok(FileEntry { name: name.into(), size_bytes, head_bytes, head_hash })
}

/// The tensor table of files that have been written, and the state hash.
fn describe(dir: &Path, contents: &Contents<'_>) -> Result<(Vec<TensorEntry>, Hash), Error> {
    let mut offsets = BTreeMap::new();
    for name in [Group::Weights.file(), Group::FirstMoments.file()] {
        offsets.extend(super::read::offsets(&dir.join(name))?);
    }
    let hashes = hash_sources(&contents.tensors)?;
    let entries: Vec<_> = contents
        .tensors
        .iter()
        .zip(&hashes)
        .map(|(tensor, hash)| TensorEntry {
            group: tensor.group,
            name: tensor.name.clone(),
            dtype: "f32".into(),
            shape: tensor.view.shape().to_vec(),
            offset: offsets.get(&tensor.group.key(&tensor.name)).map_or(0, |range| range.0),
            hash: *hash,
        })
        .collect();
    let leaves = entries.iter().zip(&hashes).map(|(entry, &hash)| Leaf {
        group: entry.group,
        name: &entry.name,
        shape: &entry.shape,
        hash,
    });
    let hash = digest::combine(&contents.progress, leaves);
    Ok((entries, hash))
}

/// Writes a whole file and waits until the disk has it.
fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut file = File::create_new(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// Waits until the disk has a file or the entries of a folder.
fn sync(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|f| f.sync_all()).map_err(Error::io("sync", path))
}

/// Removes a folder that may not exist.
fn remove_if_there(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", dir)(e)),
        _ => Ok(()),
    }
}

/// The system's error inside one of safetensors.
fn io_error(error: safetensors::SafeTensorError) -> io::Error {
    match error {
        safetensors::SafeTensorError::IoError(e) => e,
        other => io::Error::other(other.to_string()),
    }
}

/// Bytes and extents of one tensor, for safetensors.
struct Raw<'a> {
    data: &'a [u8],
    shape: Vec<usize>,
}

impl safetensors::View for Raw<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        safetensors::Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.data)
    }
    fn data_len(&self) -> usize {
        self.data.len()
    }
}
