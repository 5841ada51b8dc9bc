//! NCCL between the GPUs of several ranks: it carries bytes, and never sums.
//!
//! The library is found and loaded at run time. Ranks that have met by other means (MPI, sockets,
//! threads) tell each other the group's id there, so NCCL needs no rendezvous of its own. No call
//! waits without a bound; a communicator ends by Finalize and Destroy, and by Abort only after a
//! failure. NCCL's own sums are not used: their order is NCCL's affair (docs/ARITHMETIC.md, section 15).

mod calls;
mod communicator;
mod error;
#[cfg(test)]
mod fake;
mod library;
mod placement;
#[cfg(test)]
mod tests;

pub use error::Error;
pub use library::{LIBRARY_VARIABLE, Library, Version};

use std::env;
use std::sync::Arc;
use std::time::Duration;

use communicator::NcclCommunicator;
use placement::Place;

use super::device::{DeviceLink, Turn};
use super::{Communicator, agreed};
use crate::backend::cuda::door::Door;

/// The NCCL that would be used here, or why there is none. Needs no GPU.
pub fn probe() -> Result<Library, Error> {
    Library::load()
}

/// A link between the devices of the ranks of `comm`; collective, and all ranks fail alike. `name` is
/// this rank's number in errors.
pub fn link(
    comm: &dyn Communicator,
    door: &Arc<dyn Door>,
    name: usize,
) -> Result<Arc<dyn DeviceLink>, Error> {
    link_by(comm, door, name, Library::load)
}

fn link_by(
    comm: &dyn Communicator,
    door: &Arc<dyn Door>,
    name: usize,
    load: impl FnOnce() -> Result<Library, Error>,
) -> Result<Arc<dyn DeviceLink>, Error> {
    let found = load().and_then(|library| Ok((place(door, name, library.version())?, library)));
    let (mine, library) = together(comm, name, found)?;
    let places = placement::gather(comm, &mine)?;
    let variable = |name: &str| env::var(name).ok();
    let max_ctas = together(comm, name, placement::judge(&places, &variable))?;
    let id = match comm.rank() {
        0 => NcclCommunicator::id(&library),
        _ => Ok(calls::Id([0; 128])),
    };
    let mut id = together(comm, name, id)?;
    comm.broadcast(0, &mut id.0).map_err(|error| Error::Ranks(error.to_string()))?;
    let (place, patience) = ((comm.rank(), comm.size()), comm.patience());
    let started = NcclCommunicator::start(&library, door.clone(), id, place, max_ctas, patience);
    // Who failed has aborted its own; the others do so by dropping theirs.
    let communicator = together(comm, name, started)?;
    Ok(Arc::new(Nccl { communicator, place, name, version: library.version(), patience }))
}

fn place(door: &Arc<dyn Door>, name: usize, version: Version) -> Result<Place, Error> {
    let stream = door.stream().ok_or_else(|| Error::NoGpu { device: door.describe() })?;
    let host = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Ok(Place { name, host: host.trim().to_owned(), bus_id: stream.bus_id, version })
}

/// `mine`, if no rank failed; else the failure, of whichever rank. Collective.
fn together<T>(comm: &dyn Communicator, name: usize, mine: Result<T, Error>) -> Result<T, Error> {
    let told = mine.as_ref().err().map(|error| format!("rank {name}: {error}"));
    let first = agreed::first_told(comm, told).map_err(|error| Error::Ranks(error.to_string()))?;
    match (first, mine) {
        (None, mine) => mine,
        (Some(_), Err(error)) => Err(error),
        (Some(told), Ok(_)) => Err(Error::Ranks(told)),
    }
}

/// The ranks' GPUs, by NCCL.
#[derive(Debug)]
struct Nccl {
    communicator: NcclCommunicator,
    /// This rank, and how many there are.
    place: (usize, usize),
    /// This rank's number in errors.
    name: usize,
    version: Version,
    /// How long NCCL may take to begin an exchange: at first it connects.
    patience: Duration,
}

impl DeviceLink for Nccl {
    fn rank(&self) -> usize {
        self.place.0
    }

    fn size(&self) -> usize {
        self.place.1
    }

    fn describe(&self) -> String {
        format!("NCCL {}", self.version)
    }

    fn exchange(&self, stream: &dyn Door, turn: &Turn<'_>) -> Result<(), super::Error> {
        let begun = self.communicator.exchange(stream, turn, self.patience);
        begun.map_err(|error| error.of_rank(self.name))
    }

    fn check(&self) -> Result<(), super::Error> {
        self.communicator.check().map_err(|error| error.of_rank(self.name))
    }

    fn give_up(&self) {
        self.communicator.abort();
    }
}
