//! How ranks find each other: by what is there.
//!
//! | found | door |
//! |---|---|
//! | `NEUROSHARD_RENDEZVOUS` (`tcp://host:port` or `file:///path`) | sockets |
//! | variables of an MPI launcher (mpirun, `srun --mpi=pmix` or `pmi2`) | MPI |
//! | a step of several Slurm tasks without MPI | sockets, with a file in the run's directory |
//! | none of these | one rank |

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::hosts::Hosts;
use super::launcher::{self, Environment};
use super::mpi::Mpi;
use super::{Communicator, Error, Link, group, single};

/// What start-up needs to know.
#[derive(Clone, Debug)]
pub struct Start {
    /// The run's directory: rendezvous files go there unless the environment names a place.
    pub run_dir: PathBuf,
    /// How long ranks may take to come together.
    pub patience: Duration,
}

/// A job whose ranks have found each other. It ends when `world`, and all groups split from it, are dropped.
pub struct Job {
    /// All ranks.
    pub world: Arc<dyn Communicator>,
    /// How they found each other, for logs.
    pub door: String,
    /// Where they run.
    pub hosts: Hosts,
}

/// Brings the ranks together; collective. Every rank gets the same kind of error, so that it is
/// enough to print that of [`is_first`].
pub fn start(start: &Start) -> Result<Job, Error> {
    let link: Arc<dyn Link> = match choose(&variable)? {
        Choice::Single => {
            let (world, door, hosts) = (single(), "one rank".into(), Hosts::single());
            return Ok(Job { world, door, hosts });
        }
        Choice::Mpi => Mpi::start()?,
    };
    let hosts = Hosts::gather(link.as_ref(), start.patience)?;
    let door = link.describe();
    let world = group(link, hosts.numbers().to_vec())?;
    Ok(Job { world, door, hosts })
}

/// Whether the launcher made this process the first of its job (or the only one): the one that
/// speaks where all would say the same.
pub fn is_first() -> bool {
    launcher::place(&variable).is_none_or(|place| place.rank == 0)
}

/// A way to start.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Single,
    Mpi,
}

fn choose(environment: Environment<'_>) -> Result<Choice, Error> {
    // A job of one needs no library.
    if launcher::place(environment).is_some_and(|place| place.size == 1) {
        return Ok(Choice::Single);
    }
    Ok(match launcher::detect(environment) {
        Some(_) => Choice::Mpi,
        None => Choice::Single,
    })
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({:?}, {}, {:?})", self.world, self.door, self.hosts)
    }
}
