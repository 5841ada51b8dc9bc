//! From text to a prepared folder: tokenizer, shards and manifest.
//!
//! Everything is checked before anything is written, and all is written to a folder beside the
//! output, which is renamed last: there is a whole folder, or none. Memory does not grow with the
//! corpus, but for the distinct words that the tokenizer is trained on.

use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::DataError;
use super::encode::Encoder;
use super::manifest::Manifest;
use super::manifest::token_bytes;
use super::provenance::InputEntry;
use super::provenance::Origin;
use super::split::Split;
use super::split::SplitRule;
use super::text::Input;
use super::text::Pieces;
use super::text::find_inputs;
use super::tokenizer::MAX_VOCAB;
use super::tokenizer::MIN_VOCAB;
use super::tokenizer::Tokenizer;
use crate::crypto::Domain;
use crate::crypto::Hasher;

/// How to prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Tokens of the vocabulary that is trained. Default 8192.
    pub vocab_size: usize,
    /// A `tokenizer.json` to use instead. Default none.
    pub tokenizer: Option<PathBuf>,
    /// Tokens of a shard, at most. Default 2^26: 128 MiB of two-byte tokens.
    pub shard_tokens: u64,
    /// Tokens of a block, see [`SplitRule`]. Default none: by the size of the corpus.
    pub block_tokens: Option<u64>,
    /// One block of so many is held out. Default 64.
    pub heldout_one_in: u64,
    /// Key of the choice of what is held out. Default 1.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            vocab_size: 8192,
            tokenizer: None,
            shard_tokens: 1 << 26,
            block_tokens: None,
            heldout_one_in: 64,
            seed: 1,
        }
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading, checking and hashing the texts.
    Check,
    /// Counting words and merging pairs for the tokenizer. After the last byte the merging goes on.
    Train,
    /// Encoding and writing.
    Encode,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The stage.
    pub stage: Stage,
    /// Bytes of text that it has passed.
    pub done_bytes: u64,
    /// Bytes of all texts; in [`Stage::Check`] by the sizes of the files.
    pub total_bytes: u64,
}

/// Receives progress, from any thread.
pub type ProgressFn<'a> = &'a (dyn Fn(Progress) + Sync);

/// Prepares the texts at and below `inputs` (see the errors for what is refused) into the folder
/// `out`, which must not exist or be empty. On an error nothing is left there.
pub fn prepare(
    inputs: &[PathBuf],
    out: &Path,
    options: &Options,
    progress: ProgressFn<'_>,
) -> Result<Manifest, DataError> {
    check_options(options)?;
    check_output(out)?;
    let inputs = find_inputs(inputs)?;
    let entries = check_inputs(&inputs, progress)?;
    let total_bytes = entries.iter().map(|e| e.bytes).sum();
    let tokenizer = match &options.tokenizer {
        Some(path) => Tokenizer::load(path)?,
        None => train_tokenizer(out, &inputs, total_bytes, options.vocab_size, progress)?,
    };

    let staging = Staging::create(out)?;
    let path = staging.dir.join(Manifest::TOKENIZER_FILE);
    write_synced(&path, tokenizer.json())?;
    let report = |done_bytes| progress(Progress { stage: Stage::Encode, done_bytes, total_bytes });
    let mut encoder = Encoder::new(&staging.dir, &tokenizer, options.shard_tokens, &report);
    for (input, entry) in inputs.iter().zip(&entries) {
        encoder.document(input, entry)?;
    }
    let shards = encoder.finish()?;
    let tokens = shards.iter().map(|s| s.tokens).sum();
    let block_tokens =
        options.block_tokens.unwrap_or_else(|| SplitRule::default_block_tokens(tokens));
    let mut manifest = Manifest {
        version: Manifest::VERSION,
        root: None,
        tokenizer: tokenizer.hash(),
        vocab_size: tokenizer.vocab_size(),
        token_bytes: token_bytes(tokenizer.vocab_size()),
        tokens,
        documents: entries.len() as u64,
        split: SplitRule {
            block_tokens,
            heldout_one_in: options.heldout_one_in,
            seed: options.seed,
        },
        filters: Some(Vec::new()),
        shards,
        inputs: entries,
    };
    manifest.split()?;
    manifest.root = manifest.compute_root();
    let path = staging.dir.join(Manifest::FILE);
    let json = manifest
        .to_json()
        .map_err(|e| DataError::Write { path: path.clone(), source: e.into() })?;
    write_synced(&path, &json)?;
    staging.publish(out)?;
    Ok(manifest)
}

fn check_options(options: &Options) -> Result<(), DataError> {
    if options.tokenizer.is_none() && !(MIN_VOCAB..=MAX_VOCAB).contains(&options.vocab_size) {
        return Err(DataError::OutOfRange {
            key: "vocab_size",
            value: options.vocab_size as u64,
            bounds: "257 (one token per byte, and the end of text) to 16777216",
        });
    }
    if !(MIN_SHARD_TOKENS..=MAX_SHARD_TOKENS).contains(&options.shard_tokens) {
        return Err(DataError::OutOfRange {
            key: "shard_tokens",
            value: options.shard_tokens,
            bounds: "1024 to 2^36",
        });
    }
    let rule = SplitRule {
        block_tokens: options.block_tokens.unwrap_or(1025),
        heldout_one_in: options.heldout_one_in,
        seed: options.seed,
    };
    // So many tokens make two blocks under every possible rule: only the rule is checked.
    Split::new(rule, 1 << 40).map(drop)
}

/// Refuses an output that holds something.
fn check_output(out: &Path) -> Result<(), DataError> {
    let occupied = match fs::read_dir(out) {
        Ok(mut entries) => entries.next().is_some(),
        Err(e) if e.kind() == io::ErrorKind::NotFound => false,
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => true,
        Err(e) => return Err(DataError::write(out)(e)),
    };
    if occupied || out.file_name().is_none() {
        return Err(DataError::OutputExists { path: out.to_path_buf() });
    }
    Ok(())
}

/// Reads every text once: all are UTF-8 without NUL, none is empty.
fn check_inputs(inputs: &[Input], progress: ProgressFn<'_>) -> Result<Vec<InputEntry>, DataError> {
    let sizes = inputs.iter().filter_map(|i| fs::metadata(&i.path).ok()).map(|m| m.len());
    let total_bytes = sizes.sum();
    let mut done_bytes = 0;
    let mut entries = Vec::with_capacity(inputs.len());
    for input in inputs {
        let mut pieces = Pieces::open(&input.path)?;
        let mut hasher = Hasher::new(Domain::InputText);
        let mut bytes = 0;
        while let Some(piece) = pieces.next_piece()? {
            hasher.update(piece.as_bytes());
            bytes += piece.len() as u64;
            done_bytes += piece.len() as u64;
            progress(Progress { stage: Stage::Check, done_bytes, total_bytes });
        }
        if bytes == 0 {
            return Err(DataError::EmptyText { path: input.path.clone() });
        }
        let origin = Origin {
            kind: "txt".into(),
            field: String::new(),
            documents: 1,
            licence: String::new(),
            source: String::new(),
        };
        let (name, hash) = (input.name.clone(), hasher.finish());
        entries.push(InputEntry { name, bytes, hash, origin: Some(origin) });
    }
    Ok(entries)
}

/// Trains on all text, or on every n-th piece such that about [`TRAIN_BYTES`] are read.
fn train_tokenizer(
    out: &Path,
    inputs: &[Input],
    total_bytes: u64,
    vocab_size: usize,
    progress: ProgressFn<'_>,
) -> Result<Tokenizer, DataError> {
    let stride = total_bytes.div_ceil(TRAIN_BYTES).max(1);
    // The trainer's iterator has no errors: the first one ends it and waits here.
    let failure = Mutex::new(None);
    let mut remaining = inputs.iter();
    let mut current: Option<Pieces<File>> = None;
    let (mut count, mut done_bytes) = (0u64, 0);
    let mut next = || -> Result<Option<String>, DataError> {
        loop {
            let Some(pieces) = &mut current else {
                let Some(input) = remaining.next() else { return Ok(None) };
                current = Some(Pieces::open(&input.path)?);
                continue;
            };
            let Some(piece) = pieces.next_piece()? else {
                current = None;
                continue;
            };
            done_bytes += piece.len() as u64;
            progress(Progress { stage: Stage::Train, done_bytes, total_bytes });
            count += 1;
            if (count - 1).is_multiple_of(stride) {
                return Ok(Some(piece));
            }
        }
    };
    let pieces = std::iter::from_fn(|| {
        next().unwrap_or_else(|error| {
            *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            None
        })
    });
    let tokenizer = Tokenizer::train(&out.join(Manifest::TOKENIZER_FILE), vocab_size, pieces);
    match failure.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => tokenizer,
    }
}

/// The folder that becomes the output, removed if it does not.
struct Staging {
    dir: PathBuf,
}

impl Staging {
    fn create(out: &Path) -> Result<Self, DataError> {
        let mut name = std::ffi::OsString::from(".");
        name.push(out.file_name().unwrap_or_default());
        name.push(format!(".partial-{}", std::process::id()));
        let dir = out.with_file_name(name);
        fs::create_dir_all(&dir).map_err(DataError::write(&dir))?;
        Ok(Self { dir })
    }

    fn publish(self, out: &Path) -> Result<(), DataError> {
        let complete = || -> io::Result<()> {
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
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; else the error that led here is the news.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let write = || {
        let mut file = File::create(path)?;
        io::Write::write_all(&mut file, bytes)?;
        file.sync_all()
    };
    write().map_err(DataError::write(path))
}

/// Text that the tokenizer is trained on, about. The trainer counts pairs in 32 bits.
const TRAIN_BYTES: u64 = 1 << 30;
const MIN_SHARD_TOKENS: u64 = 1024;
const MAX_SHARD_TOKENS: u64 = 1 << 36;
