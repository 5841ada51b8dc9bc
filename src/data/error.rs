//! What can be wrong with data, said so that the user knows where and what to do.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;

use thiserror::Error;

use crate::crypto::KeyError;

/// A failure to prepare, open or read data.
#[derive(Debug, Error)]
pub enum DataError {
    /// A file could not be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The folder holds no prepared data.
    #[error(
        "{}: no prepared data here (no manifest.json); make it with neuroshard data prepare",
        dir.display()
    )]
    NotPrepared {
        /// The folder.
        dir: PathBuf,
    },
    /// A file could not be written; nothing was left behind.
    #[error("cannot write {}: {source}{}", path.display(), write_remedy(source))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The inputs hold no text at all.
    #[error(
        "{}: nothing to prepare here; give .txt, .jsonl (each also with .gz or .zst), .parquet or \
         token .bin files, or folders that hold some",
        path.display()
    )]
    NoText {
        /// The folder, or the file of another kind.
        path: PathBuf,
    },
    /// An input, or a file about inputs, that cannot be used.
    #[error("{}: {reason}", path.display())]
    Input {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A line or row of an input that cannot be used.
    #[error("{}, {row} {number}: {reason}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// `line`, counted from 1, or `row`, from 0.
        row: &'static str,
        /// Which.
        number: u64,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// Somebody else writes the same output.
    #[error("{} is in use: the same output is being prepared; wait for it to end", path.display())]
    Busy {
        /// The folder of the work under way.
        path: PathBuf,
    },
    /// A key that cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A reader was told to stop. Never seen outside this module.
    #[error("stopped")]
    Stopped,
    /// One input appears twice.
    #[error("{} is given twice; name each text once", path.display())]
    DuplicateInput {
        /// The second appearance.
        path: PathBuf,
    },
    /// A text of no bytes.
    #[error("{} is empty; remove it from the inputs", path.display())]
    EmptyText {
        /// The file.
        path: PathBuf,
    },
    /// A NUL byte: no text has one.
    #[error(
        "{} is binary: a NUL byte at offset {offset}; only UTF-8 text can be prepared",
        path.display()
    )]
    BinaryText {
        /// The file.
        path: PathBuf,
        /// Bytes from its start.
        offset: u64,
    },
    /// Bytes that are not UTF-8.
    #[error(
        "{} is not UTF-8: invalid byte at offset {offset}; convert it first, for instance with \
         iconv -t UTF-8",
        path.display()
    )]
    InvalidUtf8 {
        /// The file.
        path: PathBuf,
        /// Bytes from its start.
        offset: u64,
    },
    /// An input changed between the check and the use.
    #[error("{} changed while it was prepared; run again when it is at rest", path.display())]
    InputChanged {
        /// The file.
        path: PathBuf,
    },
    /// The output folder holds something.
    #[error("{} exists and is not an empty folder; choose another --out or remove it", path.display())]
    OutputExists {
        /// The folder.
        path: PathBuf,
    },
    /// A number outside what is possible.
    #[error("{key} = {value}: must be {bounds}")]
    OutOfRange {
        /// Name of the setting.
        key: &'static str,
        /// What was given.
        value: u64,
        /// What is allowed.
        bounds: &'static str,
    },
    /// Too few tokens to train and to hold out.
    #[error(
        "the text gives {tokens} tokens, but two blocks of {block_tokens} are the least (one to \
         train on, one held out); add text or lower --block-tokens"
    )]
    TooLittleText {
        /// Tokens there are.
        tokens: u64,
        /// Tokens of a block.
        block_tokens: u64,
    },
    /// Sequences longer than the blocks of the corpus.
    #[error(
        "seq_len = {seq_len}, but the blocks of {} hold sequences of at most {max}; lower \
         train.seq_len or prepare the data again with --block-tokens {} or more",
        path.display(), seq_len + 1
    )]
    SequenceTooLong {
        /// The prepared folder.
        path: PathBuf,
        /// Tokens of a sequence.
        seq_len: usize,
        /// The most that the blocks allow.
        max: u64,
    },
    /// A tokenizer that cannot be used.
    #[error("tokenizer {}: {reason}", path.display())]
    Tokenizer {
        /// The file, or where it would be written.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: String,
    },
    /// A manifest that cannot be believed.
    #[error("{}: {reason}; prepare the data again, or restore the file", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A shard that is not what the manifest says.
    #[error(
        "shard {}: {reason}{}; restore the file, or prepare the data again",
        path.display(), place(bytes)
    )]
    Shard {
        /// The file.
        path: PathBuf,
        /// Which bytes of the file are wrong, where that is known.
        bytes: Option<Range<u64>>,
        /// What is wrong.
        reason: String,
    },
    /// A sequence that does not exist.
    #[error("sequence {index} of {count}: no such {part} sequence")]
    NoSuchSequence {
        /// `training` or `held-out`.
        part: &'static str,
        /// What was asked for.
        index: u64,
        /// How many there are.
        count: u64,
    },
    /// A text that the synthetic language has no word for.
    #[error("{word:?} is no word of the synthetic language; a sample of generated text shows some")]
    UnknownWord {
        /// The first such word.
        word: String,
    },
}

impl DataError {
    /// For `map_err` on reads of `path`.
    pub(super) fn read(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Read { path: path.to_path_buf(), source }
    }

    /// For `map_err` on writes of `path`.
    pub(super) fn write(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::Write { path: path.to_path_buf(), source }
    }
}

fn place(bytes: &Option<Range<u64>>) -> String {
    match bytes {
        Some(bytes) => format!(" (bytes {} to {})", bytes.start, bytes.end),
        None => String::new(),
    }
}

fn write_remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space or choose another folder (nothing was left behind)"
        }
        _ => "",
    }
}
