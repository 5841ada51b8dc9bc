//! Writing a checkpoint: under a temporary name, by all ranks, synced, then renamed.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::digest::{self, ARITHMETIC};
use super::flush::{self, Flush};
use super::layout::{FileLayout, Layout};
use super::manifest::{FORMAT, FileEntry, Manifest, TensorEntry, VERSION};
use super::slice;
use super::span::Saving;
use super::subtree::{Copies, Piece, Tree};
use super::{Error, Progress, Row, Source, folder, manifest, ranks};
use crate::collective::Communicator;
use crate::crypto::Hash;

/// What a checkpoint holds.
#[derive(Debug)]
pub struct Contents<'a> {
    /// Step, data cursor, random-number addresses, guard.
    pub progress: Progress,
    /// All tensors in canonical order: weights, first moments, second moments.
    pub table: Vec<Row>,
    /// The slices of them that this rank writes; those of all ranks have every element once.
    pub slices: Vec<Source<'a>>,
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

/// Writes a checkpoint into `checkpoints`, as a folder named after its step. Collective: every
/// rank writes its slices; the bytes on disk do not depend on who wrote what.
///
/// A checkpoint of that step that is already there is replaced, and only once the new one is
/// whole. On failure of any rank all get the same error, nothing is left behind, and other
/// checkpoints are untouched.
pub fn write(
    checkpoints: &Path,
    contents: &Contents<'_>,
    comm: &dyn Communicator,
) -> Result<(PathBuf, Hash), Error> {
    write_after(Ok(()), checkpoints, contents, comm)
}

/// [`write()`] by a rank that may have failed before; then it fails here, with the others.
pub(super) fn write_after(
    before: Result<(), Error>,
    checkpoints: &Path,
    contents: &Contents<'_>,
    comm: &dyn Communicator,
) -> Result<(PathBuf, Hash), Error> {
    let layout = Layout::of(&contents.table)?;
    let mut made = None;
    let begun = ranks::first(comm, || {
        let name = begin(checkpoints, contents.progress.step, &layout)?;
        made = Some(checkpoints.join(&name));
        Ok(name)
    });
    let written = begun.and_then(|name| {
        finish(before, checkpoints, &checkpoints.join(name), contents, &layout, comm)
    });
    if let (Err(_), Some(unfinished)) = (&written, made) {
        // The error that matters is the first one.
        let _ = fs::remove_dir_all(&unfinished);
    }
    written
}

/// Makes the temporary folder with both files at their full length, and returns its name.
fn begin(checkpoints: &Path, step: u64, layout: &Layout) -> Result<String, Error> {
    fs::create_dir_all(checkpoints).map_err(Error::io("create", checkpoints))?;
    folder::remove_unfinished_of(checkpoints, step)?;
    // A name that was never used before: no other host can have an answer about it in its caches,
    // nor a folder of that name that is not this one.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let name = folder::unfinished_name(step, now.as_nanos());
    let dir = checkpoints.join(&name);
    let made = fs::create_dir(&dir)
        .map_err(Error::io("create", &dir))
        .and_then(|()| layout.files.iter().try_for_each(|file| reserve(&dir, file)));
    match made {
        Ok(()) => Ok(name),
        Err(error) => {
            let _ = fs::remove_dir_all(&dir);
            Err(error)
        }
    }
}

/// Makes a file with its head, and with room for all of it, so that a full disk shows at once.
fn reserve(dir: &Path, layout: &FileLayout) -> Result<(), Error> {
    let path = dir.join(layout.name);
    let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
    match fallocate(&file, FallocateFlags::empty(), 0, layout.size_bytes) {
        Ok(()) => {}
        // Not every file system can; then a full disk shows while the tensors are written.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            file.set_len(layout.size_bytes).map_err(Error::io("extend", &path))?;
        }
        Err(error) => return Err(Error::io("reserve room for", &path)(error.into())),
    }
    file.write_all(&layout.head).map_err(Error::io("write", &path))?;
    file.sync_all().map_err(Error::io("sync", &path))
}

/// Fills the files, by all ranks, and makes the folder a checkpoint.
fn finish(
    before: Result<(), Error>,
    checkpoints: &Path,
    unfinished: &Path,
    contents: &Contents<'_>,
    layout: &Layout,
    comm: &dyn Communicator,
) -> Result<(PathBuf, Hash), Error> {
    let (tree, table) = (Tree::new(), &contents.table);
    let mine = before.and_then(|()| write_slices(unfinished, contents, layout, &tree));
    let hashes = slice::hashes(&tree, table, mine, Copies::Refused, comm)?;
    let hashes = slice::all(table, hashes)?;
    let hash = digest::combine(&contents.progress, table, &hashes);
    ranks::first(comm, || {
        describe(unfinished, contents, layout, &hashes, hash)?;
        publish(checkpoints, unfinished, contents.progress.step)
    })?;
    Ok((folder::path_of(checkpoints, contents.progress.step), hash))
}

/// Writes this rank's slices, waits until the disk has them, and returns their pieces.
fn write_slices(
    dir: &Path,
    contents: &Contents<'_>,
    layout: &Layout,
    tree: &Tree,
) -> Result<Vec<Piece>, Error> {
    let table = &contents.table;
    let mut files = Vec::new();
    for file in &layout.files {
        let path = dir.join(file.name);
        let opened = OpenOptions::new().write(true).open(&path).map_err(|e| match e.kind() {
            // Rank 0 has made it and told of it.
            io::ErrorKind::NotFound => Error::NotShared { path: dir.to_owned() },
            _ => Error::io("open", &path)(e),
        })?;
        files.push((file.name, path, opened));
    }
    let open: Vec<&File> = files.iter().map(|(_, _, file)| file).collect();
    let write = |flush: &Flush| {
        slice::pieces_of(table, &contents.slices, |i, first, bytes| {
            let name = table[i].group.file();
            let Some((_, path, file)) = files.iter().find(|f| f.0 == name) else {
                return Err(Error::Absent { path: dir.join(name) });
            };
            let span = Saving { bytes, file, at: layout.offsets[i] + first, flush };
            tree.pieces(i as u32, layout.sizes[i], first, span).map_err(Error::io("write", path))
        })
    };
    flush::while_flushing(&open, write, Error::io("sync", dir))
}

/// Writes what stands beside the tensors, the manifest last.
fn describe(
    dir: &Path,
    contents: &Contents<'_>,
    layout: &Layout,
    hashes: &[Hash],
    state_hash: Hash,
) -> Result<(), Error> {
    let mut files = Vec::new();
    for file in &layout.files {
        files.push(check_file(dir, file)?);
    }
    for attachment in &contents.attachments {
        write_bytes(&dir.join(&attachment.name), &attachment.bytes)?;
        let size_bytes = attachment.bytes.len() as u64;
        let head_hash = digest::hash_bytes(&attachment.bytes);
        let name = attachment.name.clone();
        files.push(FileEntry { name, size_bytes, head_bytes: size_bytes, head_hash });
    }
    let rows = contents.table.iter().zip(&layout.offsets).zip(hashes);
    let tensors = rows.map(|((row, &offset), &hash)| TensorEntry {
        group: row.group,
        name: row.name.clone(),
        dtype: "f32".into(),
        shape: row.shape.to_vec(),
        offset,
        hash,
    });
    let manifest = Manifest {
        seal: String::new(),
        format: FORMAT.into(),
        version: VERSION,
        arithmetic: ARITHMETIC,
        state_hash,
        progress: contents.progress.clone(),
        plan_hash: contents.plan_hash,
        plan: contents.plan.clone(),
        model: contents.model.clone(),
        config: contents.config.clone(),
        files,
        tensors: tensors.collect(),
    };
    write_bytes(&dir.join(manifest::FILE), manifest.sealed_text().as_bytes())?;
    sync(dir)
}

/// Checks that a file still has the length it was given, and describes it.
fn check_file(dir: &Path, file: &FileLayout) -> Result<FileEntry, Error> {
    let path = dir.join(file.name);
    let got = fs::metadata(&path).map_err(Error::io("inspect", &path))?.len();
    if got != file.size_bytes {
        return Err(Error::Size { path, want: file.size_bytes, got });
    }
    Ok(FileEntry {
        name: file.name.into(),
        size_bytes: file.size_bytes,
        head_bytes: file.head.len() as u64,
        head_hash: digest::hash_bytes(&file.head),
    })
}

/// Renames the finished folder into place; after that the checkpoint exists.
fn publish(checkpoints: &Path, unfinished: &Path, step: u64) -> Result<(), Error> {
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
    sync(checkpoints)
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
