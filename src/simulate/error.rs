//! Why a simulation failed.

use std::io;
use std::path::PathBuf;

use crate::aggregate;
use crate::data::DataError;
use crate::diloco;
use crate::train;

/// A failure of a simulation, as opposed to what fails inside of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A scenario that cannot be.
    #[error("{}", .complaints.join("; "))]
    Scenario {
        /// All that is wrong, each as `key: why`.
        complaints: Vec<String>,
    },
    /// The outer loop failed.
    #[error(transparent)]
    Outer(#[from] diloco::Error),
    /// The inner training failed.
    #[error(transparent)]
    Train(#[from] train::Error),
    /// The data failed.
    #[error("the data cannot be read")]
    Data(#[from] DataError),
    /// There is no such rule.
    #[error("the rule cannot be used")]
    Aggregate(#[from] aggregate::Error),
    /// Clusters that must hold the same do not: a bug of the outer loop, its codec or its rule.
    #[error("exchange {exchange}: cluster {cluster} holds {what} that differs from the others'")]
    Differs {
        /// Which exchange, from 0.
        exchange: u64,
        /// The first cluster that differs.
        cluster: usize,
        /// In what.
        what: &'static str,
    },
    /// Somebody asked to stop.
    #[error("stopped; what is finished is kept: go on with --resume")]
    Stopped,
    /// A file of the results cannot be used.
    #[error("cannot {doing} {}", .path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A folder of results cannot be used.
    #[error("{}: {why}", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why, and what would help.
        why: String,
    },
    /// One run of a sweep failed.
    #[error("run {run} failed")]
    Run {
        /// The name of its folder.
        run: String,
        /// Why.
        source: Box<Error>,
    },
}

impl Error {
    /// An [`Error::File`]; for `map_err`.
    pub(super) fn file(
        doing: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }

    /// Whether training came to a value that is not finite: something that happens inside of a
    /// simulation.
    pub(super) fn is_divergence(&self) -> bool {
        let inner = match self {
            Self::Train(error) | Self::Outer(diloco::Error::Train(error)) => error,
            Self::Outer(diloco::Error::NonFinite { .. }) => return true,
            Self::Outer(diloco::Error::Update { source, .. }) => {
                return matches!(source, crate::codec::Error::NonFinite { .. });
            }
            _ => return false,
        };
        matches!(inner, train::Error::NonFinite { .. })
    }
}
