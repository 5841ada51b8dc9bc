//! The folder that becomes the output, and the journal by which a killed preparation goes on.
//!
//! It stands beside the output as `.NAME.partial`. Its `journal` has a line of JSON for the
//! preparation and one for each shard that is complete. On an error it is removed; after a kill the
//! next preparation for the same output finds it.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::fs::TryLockError;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::DataError;
use super::manifest::Manifest;
use super::manifest::ShardEntry;
use super::manifest::shard_name;
use super::shard::Shard;
use super::shard::read_bounded;
use crate::crypto::Hash;

/// The folder, locked by this process.
pub(super) struct Staging {
    dir: PathBuf,
    /// Held open: its lock keeps others out.
    _lock: File,
}

/// The journal's first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    /// Inputs and options.
    pub preparation: Hash,
    /// The tokenizer that is used.
    pub tokenizer: Hash,
}

/// A line of the journal: a shard, and where in the stream of items it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Finished {
    /// The shard.
    pub shard: ShardEntry,
    /// Items that are wholly in this shard and those before.
    pub items: u64,
    /// Tokens of the next item that are.
    pub tokens: u64,
}

/// What an earlier preparation left.
pub(super) enum Left {
    /// Nothing, or nothing of use.
    Nothing,
    /// Work of another command line or of other inputs, which was removed.
    Other,
    /// Its tokenizer is in the folder, and these shards, which are whole.
    Work(Head, Vec<Finished>),
}

impl Staging {
    /// Takes the folder for `out`, and what is left there of `preparation`.
    pub fn take(out: &Path, preparation: Hash) -> Result<(Self, Left), DataError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(out.file_name().unwrap_or_default());
        name.push(".partial");
        let dir = out.with_file_name(name);
        fs::create_dir_all(&dir).map_err(DataError::write(&dir))?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK));
        let lock = lock.map_err(DataError::write(&dir))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(DataError::Busy { path: dir }),
            Err(TryLockError::Error(e)) => return Err(DataError::write(&dir)(e)),
        }
        let staging = Self { dir, _lock: lock };
        let left = staging.look(preparation)?;
        if !matches!(left, Left::Work(..)) {
            staging.clear()?;
        }
        Ok((staging, left))
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Begins the journal. The tokenizer's file stands.
    pub fn begin(&self, head: &Head) -> Result<(), DataError> {
        self.append(head)
    }

    /// Notes a shard that is complete and synced.
    pub fn note(&self, finished: &Finished) -> Result<(), DataError> {
        self.append(finished)
    }

    /// Gives the folder its name. Everything in it is complete.
    pub fn publish(self, out: &Path) -> Result<(), DataError> {
        let complete = || -> io::Result<()> {
            fs::remove_file(self.dir.join(JOURNAL))?;
            fs::remove_file(self.dir.join(LOCK))?;
            File::open(&self.dir)?.sync_all()?;
            fs::rename(&self.dir, out)?;
            let parent = match out.parent() {
                Some(parent) if !parent.as_os_str().is_empty() => parent,
                _ => Path::new("."),
            };
            File::open(parent)?.sync_all()
        };
        complete().map_err(DataError::write(out))
    }

    fn append(&self, line: &impl Serialize) -> Result<(), DataError> {
        let path = self.dir.join(JOURNAL);
        let write = || -> io::Result<()> {
            let mut bytes = serde_json::to_vec(line)?;
            bytes.push(b'\n');
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(&bytes)?;
            file.sync_all()
        };
        write().map_err(DataError::write(&path))
    }

    /// Reads the journal; shards from the first one on that is not whole are forgotten.
    fn look(&self, preparation: Hash) -> Result<Left, DataError> {
        let path = self.dir.join(JOURNAL);
        if !path.exists() {
            return Ok(Left::Nothing);
        }
        let text = read_bounded(&path, MAX_JOURNAL_BYTES)?;
        // A line that the kill cut off does not parse, and ends the list.
        let mut lines = text.split_inclusive(|&b| b == b'\n').filter(|l| l.ends_with(b"\n"));
        let head: Option<Head> = lines.next().and_then(|l| serde_json::from_slice(l).ok());
        let Some(head) = head.filter(|head| head.preparation == preparation) else {
            return Ok(Left::Other);
        };
        if !self.dir.join(Manifest::TOKENIZER_FILE).exists() {
            return Ok(Left::Nothing);
        }
        let finished: Vec<Finished> =
            lines.map_while(|line| serde_json::from_slice(line).ok()).collect();
        let whole = |(i, finished): &(usize, Finished)| {
            let name = shard_name(*i);
            let shard = Shard::open(&self.dir.join(&name));
            shard.is_ok_and(|shard| {
                let ShardEntry { file, tokens, hash } = &finished.shard;
                *file == name
                    && shard.tokens() == *tokens
                    && shard.hash() == *hash
                    && shard.verify().is_ok()
            })
        };
        let kept: Vec<_> = finished.into_iter().enumerate().take_while(whole).collect();
        let kept: Vec<_> = kept.into_iter().map(|(_, finished)| finished).collect();
        self.rewrite(&head, &kept)?;
        Ok(Left::Work(head, kept))
    }

    /// The journal with these lines alone.
    fn rewrite(&self, head: &Head, kept: &[Finished]) -> Result<(), DataError> {
        let path = self.dir.join(JOURNAL);
        fs::remove_file(&path).map_err(DataError::write(&path))?;
        self.append(head)?;
        kept.iter().try_for_each(|finished| self.append(finished))
    }

    /// Removes everything but the lock.
    fn clear(&self) -> Result<(), DataError> {
        let entries = fs::read_dir(&self.dir).map_err(DataError::write(&self.dir))?;
        for entry in entries {
            let path = entry.map_err(DataError::write(&self.dir))?.path();
            if path.file_name() != Some(LOCK.as_ref()) {
                fs::remove_file(&path).map_err(DataError::write(&path))?;
            }
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; else the error that led here is the news.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

const JOURNAL: &str = "journal";
const LOCK: &str = "lock";
const MAX_JOURNAL_BYTES: u64 = 512 << 20;
