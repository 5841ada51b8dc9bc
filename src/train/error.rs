//! Why training ended before its end.

use std::io;
use std::path::PathBuf;

use crate::checkpoint;
use crate::collective;
use crate::data::DataError;
use crate::model::ModelError;
use crate::ops::OpError;

/// A failure of training. What was saved before stays as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A loss or gradient is infinite or not a number.
    #[error(
        "step {step}: {place}: the first value that is not finite; the checkpoints are intact: \
         lower optim.lr or optim.clip, then --resume from the last one in a new run folder, or \
         start anew"
    )]
    NonFinite {
        /// The step that was being computed; the weights are those after the step before it.
        step: u64,
        /// Operation and layer.
        place: String,
    },
    /// The model failed.
    #[error("the model failed")]
    Model(#[from] ModelError),
    /// An operation of the trainer failed: of its optimizer, or a copy from or to the device.
    #[error("an operation of the trainer failed")]
    Optimizer(#[from] OpError),
    /// The data failed.
    #[error("the data cannot be read")]
    Data(#[from] DataError),
    /// A checkpoint failed.
    #[error("checkpoint")]
    Checkpoint(#[from] checkpoint::Error),
    /// The run folder is taken.
    #[error(
        "{} holds a run already; continue it with --resume, or choose another run.dir",
        .path.display()
    )]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// The checkpoint belongs to another plan.
    #[error(
        "{} was made by another plan and cannot be continued with this one: {}; undo the change, \
         or choose another run.dir",
        .path.display(), .differences.join("; ")
    )]
    OtherPlan {
        /// The checkpoint.
        path: PathBuf,
        /// Key, then, now.
        differences: Vec<String>,
    },
    /// No checkpoint of the run can be read, though there are some.
    #[error(
        "none of the checkpoints in {} is whole; restore one, or remove them all to start anew",
        .path.display()
    )]
    NoneWhole {
        /// The folder of checkpoints.
        path: PathBuf,
        /// What is wrong with the newest.
        source: checkpoint::Error,
    },
    /// Ranks could not exchange what they must.
    #[error("step {step}: {source}; the checkpoints are intact: start again with --resume")]
    Exchange {
        /// The step under way, or the last one, if it came between steps.
        step: u64,
        /// Who, and how.
        source: collective::Error,
    },
    /// Ranks could not exchange what they must, outside of a step.
    #[error(transparent)]
    Collective(#[from] collective::Error),
    /// This rank's own failure, of which all others know.
    #[error(transparent)]
    Shared(Box<Error>),
    /// Another rank failed; it tells its error itself.
    #[error("rank {rank} failed: {what}")]
    Elsewhere {
        /// Which: the lowest of those that failed.
        rank: usize,
        /// Its words.
        what: String,
    },
    /// Ranks of one job differ in what must be the same.
    #[error("{}", differs(what, ranks, *alike))]
    Differs {
        /// In what, and what to do.
        what: &'static str,
        /// Which.
        ranks: Vec<usize>,
        /// How many others agree among themselves; 0 if no majority does.
        alike: usize,
    },
    /// Something that only one way of spreading a model over ranks can do so far.
    #[error(
        "{what} of a model whose weights or moments are divided between ranks is not built yet; \
         use parallel.stages = 1 and parallel.zero = 0"
    )]
    Divided {
        /// What was asked for.
        what: &'static str,
    },
    /// A file of the run folder cannot be used.
    #[error("cannot {doing} {}", .path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
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
}

fn differs(what: &str, ranks: &[usize], alike: usize) -> String {
    let list = ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    let (noun, verb) = if ranks.len() == 1 { ("rank", "has") } else { ("ranks", "have") };
    let others = match alike {
        0 => "the others, which are no majority,".to_owned(),
        1 => "the one other rank".to_owned(),
        n => format!("the {n} others"),
    };
    format!("{noun} {list} {verb} {what} than {others}")
}
