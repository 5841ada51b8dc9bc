//! Why a round of the outer loop failed.

use crate::aggregate;
use crate::codec;
use crate::data::DataError;
use crate::train;

/// A failure of the outer loop. A cluster that gets one is as it was before the call, but for
/// inner steps already done.
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
}
