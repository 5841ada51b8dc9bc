//! A prepared folder, opened.

use std::path::Path;
use std::path::PathBuf;

use rayon::prelude::*;

use super::DataError;
use super::manifest::Manifest;
use super::manifest::shard_path;
use super::proof;
use super::proof::Part;
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
            let shard = Shard::open_where(&path, &|header| {
                header.tokens == entry.tokens
                    && header.token_bytes == manifest.token_bytes
                    && header.version == manifest.version
                    && header.hash == entry.hash
            })?;
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

    /// The folder's shards, in the order of the stream.
    pub fn shards(&self) -> &[Shard] {
        &self.shards
    }

    /// Verifies all shards, on all threads, and names the first bytes that are wrong. `progress`
    /// is told the bytes of shards that are done.
    pub fn verify(&self, progress: &(dyn Fn(u64) + Sync)) -> Result<(), DataError> {
        let first = self.shards.par_iter().find_map_first(|shard| {
            let failed = shard.verify().err();
            progress(shard.payload().len() as u64);
            failed
        });
        first.map_or(Ok(()), Err)
    }

    /// The proof that training or held-out sequence `index` of `seq_len` predictions belongs to
    /// the dataset, for [`super::check_proof`]. What it rests on is verified first.
    pub fn prove(&self, part: Part, index: u64, seq_len: u32) -> Result<Vec<u8>, DataError> {
        let fail =
            |reason: String| DataError::Manifest { path: self.dir.join(Manifest::FILE), reason };
        if self.manifest.root.is_none() {
            return Err(fail("version 1 has no root that a proof could lead to".into()));
        }
        let proof = proof::prove(self, part, index, seq_len).ok_or_else(|| {
            let split = &self.split;
            let max = split.max_seq_len();
            if seq_len == 0 || u64::from(seq_len) > max {
                let path = self.dir.clone();
                return DataError::SequenceTooLong { path, seq_len: seq_len as usize, max };
            }
            let (part, count) = match part {
                Part::Training => ("training", split.num_train(u64::from(seq_len))),
                Part::HeldOut => ("held-out", split.num_heldout(u64::from(seq_len))),
            };
            DataError::NoSuchSequence { part, index, count }
        })?;
        // A proof of changed bytes leads to another root; verifying names them.
        match proof::check_proof(&proof) {
            Ok(proven) if Some(proven.root) == self.manifest.root => Ok(proof),
            _ => {
                self.verify(&|_| {})?;
                Err(fail("it changed while it was read".into()))
            }
        }
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
