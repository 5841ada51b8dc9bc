//! Why there is no report.

use std::io;
use std::path::PathBuf;

/// Why there is no report.
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
    /// There is no run in a folder.
    #[error(
        "{} has no run: neither metrics.jsonl (of `neuroshard train`) nor rounds.jsonl (of `neuroshard \
         simulate`), in it or {depth} folders deep", .path.display()
    )]
    Nothing {
        /// Which.
        path: PathBuf,
        /// How deep was looked.
        depth: usize,
    },
    /// There are more runs than a page can show.
    #[error("more than {most} runs; name fewer folders")]
    TooMany {
        /// How many would be taken.
        most: usize,
    },
}

impl Error {
    /// An [`Error::Read`] of a path; for `map_err`.
    pub(super) fn read(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Read { path, source }
    }
}
