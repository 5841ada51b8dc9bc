//! A prepared folder, opened.

use std::path::Path;
use std::path::PathBuf;

use super::DataError;
use super::manifest::Manifest;
use super::manifest::shard_path;
use super::shard::Shard;
use super::split::Split;
use super::tokenizer::Tokenizer;

/// A prepared folder. Headers and lengths are checked when it is opened, the tokens of a shard
/// when they are first read.
#[derive(Debug)]
pub struct Corpus {
    dir: PathBuf,
    manifest: Manifest,
    tokenizer: Tokenizer,
    split: Split,
    shards: Vec<Shard>,
    /// First token of each shard, and the end of the last.
    starts: Vec<u64>,
}

impl Corpus {
    /// Opens the folder and checks all but the tokens.
    pub fn open(dir: &Path) -> Result<Self, DataError> {
        let manifest = Manifest::load(dir)?;
        let path = dir.join(Manifest::TOKENIZER_FILE);
        let tokenizer = Tokenizer::load(&path)?;
        if tokenizer.hash() != manifest.tokenizer {
            let reason = "is not the one of the manifest: its hash differs; restore the file, or \
                          prepare the data again";
            return Err(DataError::Tokenizer { path, reason: reason.into() });
        }
        if tokenizer.vocab_size() != manifest.vocab_size {
            let path = dir.join(Manifest::FILE);
            let reason = format!("vocab_size is not the tokenizer's {}", tokenizer.vocab_size());
            return Err(DataError::Manifest { path, reason });
        }
        let mut starts = vec![0];
        let mut shards = Vec::with_capacity(manifest.shards.len());
        let mut total = 0;
        for entry in &manifest.shards {
            let path = shard_path(dir, entry);
            let shard = Shard::open(&path)?;
            let agrees = shard.tokens() == entry.tokens
                && shard.token_bytes() == manifest.token_bytes
                && shard.hash() == entry.hash;
            if !agrees {
                let reason = "its header is not what the manifest says".into();
                return Err(DataError::Shard { path, reason });
            }
            total += entry.tokens;
            starts.push(total);
            shards.push(shard);
        }
        let split = manifest.split()?;
        Ok(Self { dir: dir.to_path_buf(), manifest, tokenizer, split, shards, starts })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The folder's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The folder's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Hashes all shards.
    pub fn verify(&self) -> Result<(), DataError> {
        self.shards.iter().try_for_each(Shard::verify)
    }

    pub(super) fn split(&self) -> &Split {
        &self.split
    }

    /// Copies the tokens from `start` on, which are within the corpus, across shards.
    pub(super) fn read(&self, start: u64, out: &mut [u32]) -> Result<(), DataError> {
        // The shard that holds `start`: the last that begins there or before.
        let mut index = self.starts.partition_point(|&s| s <= start) - 1;
        let (mut start, mut rest) = (start, out);
        while !rest.is_empty() {
            let Some(shard) = self.shards.get(index) else {
                return Err(DataError::Manifest {
                    path: self.dir.join(Manifest::FILE),
                    reason: format!("there is no token {start}"),
                });
            };
            let available = usize::try_from(self.starts[index + 1] - start).unwrap_or(usize::MAX);
            let (now, later) = rest.split_at_mut(available.min(rest.len()));
            shard.read(start - self.starts[index], now, self.manifest.vocab_size)?;
            start += now.len() as u64;
            rest = later;
            index += 1;
        }
        Ok(())
    }
}
