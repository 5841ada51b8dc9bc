//! How ranks find each other: by what is there.
//!
//! | found | door |
//! |---|---|
//! | `NEUROSHARD_RENDEZVOUS` (`tcp://host:port` or `file:///path`) | sockets, even under an MPI launcher |
//! | variables of an MPI launcher (mpirun, `srun --mpi=pmix` or `pmi2`) | MPI |
//! | a step of several Slurm tasks without MPI | sockets, with a file in the run's directory |
//! | none of these | one rank |

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::hosts::Hosts;
use super::launcher::{self, Environment};
use super::mpi::Mpi;
use super::panics;
use super::socket::{Place, Rendezvous, Socket};
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

/// Brings the ranks together; collective. Mostly all ranks get the same error, so the first gets it a little
/// before the others: launchers end a job when its first process fails, and it is told once.
pub fn start(start: &Start) -> Result<Job, Error> {
    bring_together(start).inspect_err(|_| {
        if !is_first() {
            thread::sleep(AFTER_THE_FIRST);
        }
    })
}

fn bring_together(start: &Start) -> Result<Job, Error> {
    let link: Arc<dyn Link> = match choose(&variable, &start.run_dir)? {
        Choice::Single => {
            let (world, door, hosts) = (single(), "one rank".into(), Hosts::single());
            return Ok(Job { world, door, hosts });
        }
        Choice::Mpi => Mpi::start()?,
        Choice::Socket(rendezvous) => {
            let link: Arc<dyn Link> = Socket::start(&rendezvous, start.patience)?;
            panics::end_job(&link);
            link
        }
    };
    let hosts = Hosts::gather(link.as_ref(), start.patience)?;
    let door = link.describe();
    let world = group(link, hosts.numbers().to_vec())?;
    Ok(Job { world, door, hosts })
}

/// Whether the launcher made this process the first of its job (or the only one): the one that
/// speaks where all would say the same.
pub fn is_first() -> bool {
    let own = variable("NEUROSHARD_RANK").and_then(|rank| rank.parse().ok());
    own.or(launcher::place(&variable).map(|place| place.rank)).is_none_or(|rank: usize| rank == 0)
}

/// A way to start.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Choice {
    Single,
    Mpi,
    Socket(Rendezvous),
}

fn choose(environment: Environment<'_>, run_dir: &Path) -> Result<Choice, Error> {
    let place = launcher::place(environment);
    if let Some(text) = environment("NEUROSHARD_RENDEZVOUS") {
        let meeting = Place::parse(&text)
            .map_err(|why| Error::Start { what: format!("NEUROSHARD_RENDEZVOUS={why}") })?;
        let (rank, ranks) = rank_of_ranks(environment, place)?;
        return Ok(meet_at(environment, meeting, rank, ranks));
    }
    // A job of one needs no library.
    if place.as_ref().is_some_and(|place| place.size == 1) {
        return Ok(Choice::Single);
    }
    if launcher::detect(environment).is_some() {
        return Ok(Choice::Mpi);
    }
    Ok(match launcher::slurm_place(environment) {
        Some(launcher::Place { rank, size, .. }) => {
            let meeting = Place::File(run_dir.join("rendezvous"));
            meet_at(environment, meeting, rank, size)
        }
        None => Choice::Single,
    })
}

fn meet_at(environment: Environment<'_>, place: Place, rank: usize, ranks: usize) -> Choice {
    if ranks == 1 {
        return Choice::Single;
    }
    // Ranks of one job may have other working directories.
    let place = match place {
        Place::File(path) => Place::File(std::path::absolute(&path).unwrap_or(path)),
        address @ Place::Address(_) => address,
    };
    let job = launcher::job(environment);
    Choice::Socket(Rendezvous { place, job, rank, ranks })
}

/// What the variables for this purpose say, or else the launcher.
fn rank_of_ranks(
    environment: Environment<'_>,
    place: Option<launcher::Place>,
) -> Result<(usize, usize), Error> {
    let fail = |what: String| Error::Start { what };
    let number = |name: &str| {
        let parse = |text: String| {
            text.trim().parse::<usize>().map_err(|_| fail(format!("{name}={text} is no number")))
        };
        environment(name).map(parse).transpose()
    };
    let (rank, ranks) = match (number("NEUROSHARD_RANK")?, number("NEUROSHARD_RANKS")?, place) {
        (Some(rank), Some(ranks), _) => (rank, ranks),
        (None, None, Some(place)) => (place.rank, place.size),
        _ => {
            return Err(fail(
                "NEUROSHARD_RENDEZVOUS wants NEUROSHARD_RANK (from 0) and NEUROSHARD_RANKS beside it, or a \
                 launcher that sets its own"
                    .into(),
            ));
        }
    };
    if rank >= ranks {
        return Err(fail(format!("rank {rank} of {ranks} ranks: ranks count from 0")));
    }
    Ok((rank, ranks))
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok()
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Job({:?}, {}, {:?})", self.world, self.door, self.hosts)
    }
}

/// Longer than a launcher needs to end a job one of whose processes failed.
const AFTER_THE_FIRST: Duration = Duration::from_millis(1500);

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(variables: &[(&str, &str)]) -> Result<Choice, Error> {
        let find = |name: &str| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        };
        choose(&find, Path::new("/runs/a"))
    }

    fn socket(place: Place, job: Option<&str>, rank: usize, ranks: usize) -> Choice {
        Choice::Socket(Rendezvous { place, job: job.map(String::from), rank, ranks })
    }

    const STEP: [(&str, &str); 4] = [
        ("SLURM_JOB_ID", "77"),
        ("SLURM_STEP_ID", "1"),
        ("SLURM_PROCID", "2"),
        ("SLURM_STEP_NUM_TASKS", "4"),
    ];

    #[test]
    fn the_door_is_chosen_by_what_is_there() {
        assert_eq!(chosen(&[]).unwrap(), Choice::Single);
        let open_mpi = [("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2")];
        assert_eq!(chosen(&open_mpi).unwrap(), Choice::Mpi);
        assert_eq!(chosen(&[("PMI_RANK", "1"), ("PMI_SIZE", "2")]).unwrap(), Choice::Mpi);
        assert_eq!(chosen(&[("PMI_RANK", "0"), ("PMI_SIZE", "1")]).unwrap(), Choice::Single);
        assert_eq!(chosen(&[&STEP[..], &[("PMIX_RANK", "2")]].concat()).unwrap(), Choice::Mpi);
    }

    #[test]
    fn slurm_steps_without_mpi_meet_by_a_file_of_their_attempt() {
        let place = || Place::File("/runs/a/rendezvous".into());
        assert_eq!(chosen(&STEP).unwrap(), socket(place(), Some("77.1.0"), 2, 4));
        let again = [&STEP[..], &[("SLURM_RESTART_COUNT", "3")]].concat();
        assert_eq!(chosen(&again).unwrap(), socket(place(), Some("77.1.3"), 2, 4));
        // A batch script, and a step of one task, are alone.
        let script = [("SLURM_JOB_ID", "77"), ("SLURM_PROCID", "0"), ("SLURM_NTASKS", "4")];
        assert_eq!(chosen(&script).unwrap(), Choice::Single);
        let alone = [&STEP[..3], &[("SLURM_STEP_NUM_TASKS", "1")]].concat();
        assert_eq!(chosen(&alone).unwrap(), Choice::Single);
    }

    #[test]
    fn a_named_rendezvous_wins() {
        let tcp = ("NEUROSHARD_RENDEZVOUS", "tcp://n1:4000");
        let (rank, ranks) = (("NEUROSHARD_RANK", "1"), ("NEUROSHARD_RANKS", "2"));
        let place = || Place::Address("n1:4000".into());
        assert_eq!(chosen(&[tcp, rank, ranks]).unwrap(), socket(place(), None, 1, 2));
        let named = chosen(&[tcp, rank, ranks, ("NEUROSHARD_JOB", "x")]).unwrap();
        assert_eq!(named, socket(place(), Some("x"), 1, 2));
        // Under a launcher, its own numbers.
        let in_step = chosen(&[&STEP[..], &[tcp]].concat()).unwrap();
        assert_eq!(in_step, socket(place(), Some("77.1.0"), 2, 4));
        let mpirun = [tcp, ("PMI_RANK", "1"), ("PMI_SIZE", "3")];
        assert_eq!(chosen(&mpirun).unwrap(), socket(place(), None, 1, 3));
        let file = ("NEUROSHARD_RENDEZVOUS", "file:///shared/meet");
        let meeting = Place::File("/shared/meet".into());
        assert_eq!(chosen(&[file, rank, ranks]).unwrap(), socket(meeting, None, 1, 2));
        let (first, one) = (("NEUROSHARD_RANK", "0"), ("NEUROSHARD_RANKS", "1"));
        assert_eq!(chosen(&[tcp, first, one]).unwrap(), Choice::Single);
    }

    #[test]
    fn half_a_rendezvous_is_refused() {
        let tcp = ("NEUROSHARD_RENDEZVOUS", "tcp://n1:4000");
        let (rank, ranks) = (("NEUROSHARD_RANK", "2"), ("NEUROSHARD_RANKS", "2"));
        let cases: [(&[(&str, &str)], &str); 5] = [
            (&[tcp], "wants NEUROSHARD_RANK"),
            (&[tcp, rank], "wants NEUROSHARD_RANK"),
            (&[tcp, rank, ranks], "rank 2 of 2 ranks"),
            (&[tcp, rank, ("NEUROSHARD_RANKS", "two")], "NEUROSHARD_RANKS=two is no number"),
            (&[("NEUROSHARD_RENDEZVOUS", "n1"), rank, ranks], "neither tcp://"),
        ];
        for (variables, want) in cases {
            let error = chosen(variables).unwrap_err().to_string();
            assert!(error.contains(want), "{variables:?}: {error}");
        }
    }
}
