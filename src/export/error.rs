//! What can be wrong with a Hugging Face folder, and what to do about it.

use std::error;
use std::io;
use std::path::Path;
use std::path::PathBuf;

/// Why a folder could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {doing} {}{}", .path.display(), remedy(.source))]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// The folder to be made holds something.
    #[error("{} exists and is not an empty folder; name another one, or remove it", .path.display())]
    Occupied {
        /// The folder.
        path: PathBuf,
    },
    /// Something in a folder cannot be taken.
    #[error("{}: {what}; {remedy}", .path.display())]
    Refused {
        /// The file or folder.
        path: PathBuf,
        /// Field or tensor, what it is, and what is wrong with it.
        what: String,
        /// What to do.
        remedy: String,
    },
    /// The weights to be written could not be had.
    #[error("cannot get the weights")]
    Weights(#[source] Box<dyn error::Error + Send + Sync>),
}

impl Error {
    /// An [`Error::Io`]; for `map_err`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// An [`Error::Refused`].
    pub(super) fn refused(path: &Path, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Refused { path: path.to_owned(), what: what.into(), remedy: remedy.into() }
    }
}

/// What to do about an error of the system.
fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": the disk is full; make room or name another folder (nothing was left behind)"
        }
        io::ErrorKind::PermissionDenied => ": no permission",
        io::ErrorKind::NotFound => ": no such file",
        _ => "",
    }
}
