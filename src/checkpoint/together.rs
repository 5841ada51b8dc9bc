//! What others save beside a checkpoint, with errors of their own: done so that no rank waits for one
//! that has failed, and, unlike `train::agree`, with the patience that a disk needs.

use super::Error;
use super::ranks;
use crate::collective::Communicator;
use crate::collective::host_name;

/// Calls `job` on rank 0; nobody returns before it has ended. If it fails, rank 0 keeps its error and
/// the others are told of it.
pub fn on_first<E>(comm: &dyn Communicator, job: impl FnOnce() -> Result<(), E>) -> Result<(), E>
where
    E: std::error::Error + From<Error>,
{
    let mut mine = None;
    let told = ranks::first(comm, || job().map_err(|error| keep(comm, error, &mut mine)));
    mine.map_or_else(|| told.map_err(E::from), Err)
}

/// Whether all ranks have succeeded. If not, who has failed keeps its error, and the others are told of
/// the first.
pub fn all_agree<T, E>(comm: &dyn Communicator, mine: Result<T, E>) -> Result<T, E>
where
    E: std::error::Error + From<Error>,
{
    let mut own = None;
    let told = ranks::agree(comm, mine.map_err(|error| keep(comm, error, &mut own)));
    own.map_or_else(|| told.map_err(E::from), Err)
}

/// What the others are told of `error`, which goes to `own`.
fn keep<E: std::error::Error>(comm: &dyn Communicator, error: E, own: &mut Option<E>) -> Error {
    let told = Error::OnRank { rank: comm.rank(), host: host_name(), cause: ranks::chain(&error) };
    *own = Some(error);
    told
}
