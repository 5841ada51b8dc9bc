//! What goes wrong between ranks.

use std::path::PathBuf;
use std::time::Duration;

/// A failure of communication. The job cannot go on after it; its checkpoints can.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Some ranks did not answer in time.
    #[error("rank {} silent for {:.1} s: it hangs, or the network to it is cut", list(.ranks), .waited.as_secs_f64())]
    Silent {
        /// Who.
        ranks: Vec<usize>,
        /// For how long.
        waited: Duration,
    },
    /// A rank is gone.
    #[error("rank {rank} is gone: its process ended or its connection broke")]
    Lost {
        /// Who.
        rank: usize,
    },
    /// A rank sent something else than the others expect: it runs other code or another config, or is in
    /// another step.
    #[error("rank {rank} is out of step: {what}")]
    OutOfStep {
        /// Who.
        rank: usize,
        /// What was expected and what came.
        what: String,
    },
    /// A sum has another number of contributors than ranks.
    #[error("a sum over {want} ranks has {got} contributors; the result is refused")]
    Contributors {
        /// Ranks of the group.
        want: usize,
        /// Counted.
        got: usize,
    },
    /// Ranks that cannot form this group.
    #[error("{what}")]
    Group {
        /// Why, and what to do.
        what: String,
    },
    /// The job could not be started.
    #[error("cannot start the ranks: {what}")]
    Start {
        /// Why, and what to do.
        what: String,
    },
    /// The library or the system reported a failure.
    #[error("{what}: {cause}")]
    Transport {
        /// What was being done, with whom.
        what: String,
        /// Their words.
        cause: String,
    },
    /// A file of the start-up cannot be used.
    #[error("{}: {why}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
}

impl Error {
    /// The ranks it names.
    pub fn ranks(&self) -> Vec<usize> {
        match self {
            Self::Silent { ranks, .. } => ranks.clone(),
            Self::Lost { rank } | Self::OutOfStep { rank, .. } => vec![*rank],
            _ => Vec::new(),
        }
    }
}

fn list(ranks: &[usize]) -> String {
    ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
