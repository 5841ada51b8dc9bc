//! Why a run cannot be watched.

use std::io;
use std::path::PathBuf;

/// Why a run cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// There is no run of `train`.
    #[error(
        "{} has no run: neither metrics.jsonl nor config.toml (of `neuroshard train`); {remedy}", .path.display()
    )]
    NoRun {
        /// Which folder.
        path: PathBuf,
        /// What to name instead.
        remedy: String,
    },
    /// Standard input or output is no terminal that could be drawn on.
    #[error("{why}; `neuroshard watch --once` prints one picture as plain text")]
    NoTerminal {
        /// What is missing.
        why: &'static str,
    },
    /// The terminal failed.
    #[error("the terminal cannot be used")]
    Terminal(#[source] io::Error),
}

impl Error {
    /// An [`Error::Read`] of a path; for `map_err`.
    pub(super) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }
}
