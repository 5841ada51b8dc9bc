//! Why a round of the outer loop failed.

use std::io;
use std::path::Path;
use std::path::PathBuf;

use crate::aggregate;
use crate::checkpoint;
use crate::codec;
use crate::data::DataError;
use crate::train;

/// A failure of the outer loop. A cluster that gets one is as it was before the call, but for
/// inner steps already done; after a failure of its device it must be loaded again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The inner training failed.
    #[error(transparent)]
    Train(#[from] train::Error),
    /// The data failed.
    #[error("the data cannot be read")]
    Data(#[from] DataError),
    /// An update of this cluster cannot be written.
    #[error("the update of fragment {fragment} in round {round} cannot be written")]
    Update {
        /// Which round, from 0.
        round: u64,
        /// Which fragment, from 0.
        fragment: usize,
        /// Why.
        source: codec::Error,
    },
    /// The updates of a round cannot be aggregated.
    #[error("round {round}: no aggregate; {rejected} updates were rejected")]
    Aggregate {
        /// Which round, from 0.
        round: u64,
        /// How many updates did not count.
        rejected: usize,
        /// Why.
        source: aggregate::Error,
    },
    /// Something infinite, or not a number.
    #[error("round {round}: {what} has a value that is not finite; nothing was applied")]
    NonFinite {
        /// What.
        what: &'static str,
        /// In which round, from 0.
        round: u64,
    },
    /// A call that does not fit what the cluster has done so far.
    #[error("fragment {fragment} in round {round}: {what}")]
    OutOfTurn {
        /// Which fragment, from 0.
        fragment: usize,
        /// Its round, from 0.
        round: u64,
        /// What is not possible.
        what: &'static str,
    },
    /// An outer state of another model, or of another division into fragments.
    #[error("the outer state of fragment {fragment} has {found} weights, not {expected}")]
    OtherModel {
        /// Which fragment, from 0.
        fragment: usize,
        /// How many weights it has.
        found: usize,
        /// How many it must have.
        expected: usize,
    },
    /// Inner steps past what can be counted.
    #[error("inner step {step} has no place in the data (assignment: {assignment})")]
    Unassigned {
        /// The step, from 0.
        step: u64,
        /// What is assigned.
        assignment: String,
    },
    /// The ranks of this cluster have failed together, over its files.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The operating system refused.
    #[error("cannot {doing} {}", .path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        #[source]
        source: io::Error,
    },
    /// A saved cluster that cannot be used.
    #[error("{}: {what}; {DAMAGED}", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// A saved cluster of another job.
    #[error(
        "{} was saved by another job or cluster: {differences}; undo the change, or begin in \
         another folder",
        .path.display()
    )]
    OtherJob {
        /// The file.
        path: PathBuf,
        /// What differs: then, now.
        differences: String,
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
