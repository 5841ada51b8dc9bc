//! From text to a prepared folder: tokenizer, shards and manifest.
//!
//! All inputs are read and checked before anything is written, and all is written to a folder
//! beside the output, which is renamed last: there is a whole folder, or none. Memory does not grow
//! with the corpus, but for some bytes a document (docs/DATA.md, section 2) and the distinct words
//! that the tokenizer is trained on.

use std::fs;
use std::fs::File;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::thread;

use super::DataError;
use super::encode::Job;
use super::encode::encode;
use super::encode::read_staying;
use super::input::Input;
use super::input::Item;
use super::input::Reading;
use super::input::find_inputs;
use super::manifest::Manifest;
use super::manifest::ShardEntry;
use super::manifest::token_bytes;
use super::provenance::FilterEntry;
use super::provenance::InputEntry;
use super::provenance::Origin;
use super::provenance::provenance_hash;
use super::split::Split;
use super::split::SplitRule;
use super::staging::Head;
use super::staging::Left;
use super::staging::Staging;
use super::stated::Statement;
use super::stated::Statements;
use super::survey::Found;
use super::survey::survey;
use super::tokenizer::MAX_VOCAB;
use super::tokenizer::MIN_VOCAB;
use super::tokenizer::Tokenizer;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;
use crate::crypto::SigningKey;

/// How to prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Tokens of the vocabulary that is trained. Default 8192.
    pub vocab_size: usize,
    /// A `tokenizer.json` to use instead. Default none.
    pub tokenizer: Option<PathBuf>,
    /// The field of JSON lines that holds the text. Default `text`.
    pub field: String,
    /// The column of Parquet that holds the text. Default `text`.
    pub column: String,
    /// The licence of all inputs, as the manifest states it. Default empty.
    pub licence: String,
    /// Where all inputs are from, as the manifest states it. Default empty.
    pub source: String,
    /// A TOML file with licence and source of single inputs. Default none.
    pub inputs_info: Option<PathBuf>,
    /// The file of the key that signs the root. Default none: it is not signed.
    pub sign: Option<PathBuf>,
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
            field: "text".into(),
            column: "text".into(),
            licence: String::new(),
            source: String::new(),
            inputs_info: None,
            sign: None,
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
    /// Reading, checking and hashing the inputs.
    Check,
    /// Once, where a killed preparation goes on; the bytes are of tokens that are kept.
    Resumed,
    /// Once, where work of another command line or of other inputs was found, and removed.
    Restarted,
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
    /// Bytes that it has passed.
    pub done_bytes: u64,
    /// All bytes: in [`Stage::Check`] of files, then of text.
    pub total_bytes: u64,
}

/// Receives progress, from any thread.
pub type ProgressFn<'a> = &'a (dyn Fn(Progress) + Sync);

/// Prepares the inputs at and below `inputs` (see the errors for what is refused) into the folder
/// `out`, which must not exist or be empty. On an error nothing is left there. What a killed
/// preparation left is gone on with, if the inputs and options are the same.
pub fn prepare(
    inputs: &[PathBuf],
    out: &Path,
    options: &Options,
    progress: ProgressFn<'_>,
) -> Result<Manifest, DataError> {
    check_options(options)?;
    check_output(out)?;
    let key = options.sign.as_deref().map(SigningKey::load).transpose()?;
    let given = options.tokenizer.as_deref().map(Tokenizer::load).transpose()?;
    let tokens = given.as_ref().map(|t| (t.end_of_text(), t.vocab_size()));
    let reading = Reading { field: &options.field, column: &options.column, tokens };
    let inputs = find_inputs(inputs)?;
    let Described { found, filters, entries } = describe(&inputs, reading, options, progress)?;
    let total_bytes = found.iter().map(|f| f.text_bytes).sum();
    let at = |stage| move |done_bytes| progress(Progress { stage, done_bytes, total_bytes });

    let preparation = preparation(options, given.as_ref(), &filters, &entries);
    let (staging, left) = Staging::take(out, preparation)?;
    let (head, finished) = match left {
        Left::Work(head, finished) => (Some(head), finished),
        Left::Nothing => (None, Vec::new()),
        Left::Other => {
            at(Stage::Restarted)(0);
            (None, Vec::new())
        }
    };
    let path = staging.dir().join(Manifest::TOKENIZER_FILE);
    let tokenizer = match (head, given) {
        (Some(head), _) => Tokenizer::load(&path)?.expect_hash(&path, head.tokenizer)?,
        (None, given) => {
            let train =
                || train_tokenizer(out, &inputs, &found, reading, options, &at(Stage::Train));
            let tokenizer = given.map_or_else(train, Ok)?;
            write_synced(&path, tokenizer.json())?;
            staging.begin(&Head { preparation, tokenizer: tokenizer.hash() })?;
            tokenizer
        }
    };
    if head.is_some() {
        let kept: u64 = finished.iter().map(|f| f.shard.tokens).sum();
        at(Stage::Resumed)(kept * u64::from(token_bytes(tokenizer.vocab_size())));
    }
    let job = Job {
        inputs: &inputs,
        found: &found,
        reading,
        tokenizer: &tokenizer,
        shard_tokens: options.shard_tokens,
        progress: &at(Stage::Encode),
    };
    let shards = encode(job, &staging, finished)?;
    let manifest = manifest(options, &tokenizer, shards, filters, entries, key.as_ref())?;
    let path = staging.dir().join(Manifest::FILE);
    let json = manifest.to_json();
    let json = json.map_err(|e| DataError::Write { path: path.clone(), source: e.into() })?;
    write_synced(&path, &json)?;
    staging.publish(out)?;
    Ok(manifest)
}

fn manifest(
    options: &Options,
    tokenizer: &Tokenizer,
    shards: Vec<ShardEntry>,
    filters: Vec<FilterEntry>,
    inputs: Vec<InputEntry>,
    key: Option<&SigningKey>,
) -> Result<Manifest, DataError> {
    let tokens = shards.iter().map(|s| s.tokens).sum();
    let block_tokens =
        options.block_tokens.unwrap_or_else(|| SplitRule::default_block_tokens(tokens));
    let mut manifest = Manifest {
        version: Manifest::VERSION,
        root: None,
        signed: None,
        tokenizer: tokenizer.hash(),
        vocab_size: tokenizer.vocab_size(),
        token_bytes: token_bytes(tokenizer.vocab_size()),
        tokens,
        documents: inputs.iter().filter_map(|i| i.origin.as_ref()).map(|o| o.documents).sum(),
        split: SplitRule {
            block_tokens,
            heldout_one_in: options.heldout_one_in,
            seed: options.seed,
        },
        filters: Some(filters),
        shards,
        inputs,
    };
    manifest.split()?;
    manifest.root = manifest.compute_root();
    if let Some(key) = key {
        manifest.sign(key);
    }
    Ok(manifest)
}

/// The inputs, read once.
struct Described {
    found: Vec<Found>,
    filters: Vec<FilterEntry>,
    entries: Vec<InputEntry>,
}

fn describe(
    inputs: &[Input],
    reading: Reading<'_>,
    options: &Options,
    progress: ProgressFn<'_>,
) -> Result<Described, DataError> {
    let otherwise = Statement { licence: options.licence.clone(), source: options.source.clone() };
    let statements = Statements::load(options.inputs_info.as_deref(), otherwise)?;
    let names: Vec<_> = inputs.iter().map(|input| &input.name[..]).collect();
    let statements = statements.about(&names)?;
    let sizes = inputs.iter().filter_map(|i| fs::metadata(&i.path).ok()).map(|m| m.len());
    let total_bytes = sizes.sum();
    let surveyed = survey(inputs, reading, &|done_bytes| {
        progress(Progress { stage: Stage::Check, done_bytes, total_bytes });
    })?;
    let filter = |name: &str, dropped| FilterEntry { name: name.into(), version: 1, dropped };
    let filters =
        vec![filter("empty", surveyed.empty), filter("exact-duplicate", surveyed.duplicates)];
    let of = inputs.iter().zip(&surveyed.inputs).zip(statements);
    let entries = of.map(|((input, found), stated)| InputEntry {
        name: input.name.clone(),
        bytes: found.file_bytes,
        hash: found.file_hash,
        origin: Some(Origin {
            kind: input.kind_name(),
            field: input.field_name(&reading),
            documents: found.documents,
            licence: stated.licence,
            source: stated.source,
        }),
    });
    let entries = entries.collect();
    Ok(Described { found: surveyed.inputs, filters, entries })
}

/// What makes a preparation the same: everything that the folder depends on.
fn preparation(
    options: &Options,
    tokenizer: Option<&Tokenizer>,
    filters: &[FilterEntry],
    inputs: &[InputEntry],
) -> Hash {
    let mut hasher = Hasher::new(Domain::Preparation);
    hasher.update(provenance_hash(filters, inputs).as_bytes());
    // A trained tokenizer follows from the inputs and the size of its vocabulary.
    match tokenizer {
        Some(tokenizer) => hasher.update(&[1]).update(tokenizer.hash().as_bytes()),
        None => hasher.update(&[0]).update(&(options.vocab_size as u64).to_le_bytes()),
    };
    let numbers = [
        options.shard_tokens,
        options.block_tokens.unwrap_or(0),
        options.heldout_one_in,
        options.seed,
    ];
    for number in numbers {
        hasher.update(&number.to_le_bytes());
    }
    hasher.finish()
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

/// Trains on all text, or on every n-th piece such that about [`TRAIN_BYTES`] are read.
fn train_tokenizer(
    out: &Path,
    inputs: &[Input],
    found: &[Found],
    reading: Reading<'_>,
    options: &Options,
    progress: &(dyn Fn(u64) + Sync),
) -> Result<Tokenizer, DataError> {
    let total_bytes: u64 = found.iter().map(|f| f.text_bytes).sum();
    let stride = total_bytes.div_ceil(TRAIN_BYTES).max(1);
    thread::scope(|scope| {
        let (send, receive) = sync_channel(WAITING_PIECES);
        let reader = scope.spawn(move || {
            let (mut count, mut done_bytes) = (0u64, 0);
            read_staying(inputs, found, reading, &mut |item| {
                done_bytes += item.bytes();
                progress(done_bytes);
                let Item::Text(piece) = item else { return Ok(()) };
                count += 1;
                match (count - 1).is_multiple_of(stride) {
                    true => send.send(piece).map_err(|_| DataError::Stopped),
                    false => Ok(()),
                }
            })
        });
        let path = out.join(Manifest::TOKENIZER_FILE);
        let tokenizer = Tokenizer::train(&path, options.vocab_size, receive.into_iter());
        match reader.join() {
            // The reader stops because the trainer did.
            Ok(Ok(()) | Err(DataError::Stopped)) => tokenizer,
            Ok(Err(error)) => Err(error),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
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
/// Pieces that wait for the trainer.
const WAITING_PIECES: usize = 256;
const MIN_SHARD_TOKENS: u64 = 1024;
const MAX_SHARD_TOKENS: u64 = 1 << 36;
