//! What can be wrong with a checkpoint, and what to do about it.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::collective;
use crate::ops::OpError;

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A copy from or to the device failed.
    #[error("cannot copy the state between a device and its host")]
    Device(#[from] OpError),
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
    /// A folder is no checkpoint.
    #[error(
        "{} is not a checkpoint: it has no manifest.json; name a folder such as \
         runs/NAME/checkpoints/00000100",
        .path.display()
    )]
    Absent {
        /// The folder.
        path: PathBuf,
    },
    /// The manifest cannot be understood.
    #[error("{}: {why}; {DAMAGED}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The checkpoint was written by a program with another format.
    #[error(
        "{}: version {found} of the checkpoint format; this program reads version {newest}: \
         use the program that wrote it, or a newer one",
        .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u64,
        /// The newest version that can be read.
        newest: u64,
    },
    /// A file has another length than the manifest says.
    #[error("{}: {got} bytes, should be {want}: truncated or overwritten; {DAMAGED}", .path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// Bytes it should have.
        want: u64,
        /// Bytes it has.
        got: u64,
    },
    /// Bytes differ from what was written.
    #[error("{}: {what} does not match its hash: bytes have changed; {DAMAGED}", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The part of it.
        what: String,
    },
    /// The checkpoint is of another model.
    #[error(
        "{}: checkpoint of another model: {what}; use the configuration it was made with \
         (config.toml in the run folder)",
        .path.display()
    )]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// The first difference.
        what: String,
    },
    /// A folder that rank 0 has is not there, or another one is.
    #[error(
        "{}: not what rank 0 sees there: run.dir is not on a file system that all ranks share",
        .path.display()
    )]
    NotShared {
        /// The folder.
        path: PathBuf,
    },
    /// A rank failed, and so all give up.
    #[error("rank {rank} on {host}: {cause}")]
    OnRank {
        /// Who.
        rank: usize,
        /// Where.
        host: String,
        /// Its error.
        cause: String,
    },
    /// The ranks lost each other.
    #[error("the ranks lost each other over a checkpoint; earlier checkpoints are untouched")]
    Ranks(#[from] collective::Error),
    /// The slices of a tensor do not make up the tensor.
    #[error("tensor {name}: {why}: a bug of this program")]
    Slices {
        /// The tensor.
        name: String,
        /// What is wrong with them.
        why: &'static str,
    },
    /// A tensor cannot be saved as it is.
    #[error("tensor {name} is not f32 in host memory")]
    Place {
        /// The tensor.
        name: String,
    },
}

impl Error {
    /// An [`Error::Io`]; for `map_err`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// What to do about damage.
const DAMAGED: &str = "restore the folder from a copy, or remove it and resume from the one before";

/// What to do about an error of the system.
fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            ": the disk is full (earlier checkpoints are untouched); make room, then --resume"
        }
        io::ErrorKind::PermissionDenied => ": no permission",
        _ => "",
    }
}
