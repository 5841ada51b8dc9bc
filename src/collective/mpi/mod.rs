//! A [`Link`] over MPI, which comes in by one of two doors: libmpi loaded at run time (the default: no
//! headers, no feature, one binary for every MPI), or the `mpi` crate linked in (cargo feature `mpi`) for
//! an MPI whose binary interface is unknown to the first. A program has one of them, never two libraries.
//!
//! One thread owns MPI (owner.rs); this handle hands it jobs. Every return code is checked and comes back
//! in the library's words. A panic on any thread of the process ends the job: without that, the
//! others would wait for this rank for ever.

#[cfg(not(feature = "mpi"))]
mod abi;
mod calls;
#[cfg(test)]
mod fake;
#[cfg(not(feature = "mpi"))]
mod library;
#[cfg(feature = "mpi")]
mod linked;
mod owner;
mod transfer;

use std::env;
use std::ffi::c_int;
use std::fmt;
use std::process;
use std::sync::mpsc::{Receiver, Sender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle, ThreadId};
use std::time::{Duration, Instant};

use super::{Error, Link, Request};
use crate::collective::{launcher, panics};
use calls::Calls;
use owner::{Job, Message, Owner};

#[cfg(not(feature = "mpi"))]
use library::Loaded as Door;
#[cfg(feature = "mpi")]
use linked::Linked as Door;

/// The MPI that a job would use here, in words: name, version, file and family. Nothing is started.
pub fn probe() -> Result<String, Error> {
    Door::probe().map_err(|what| Error::Start { what })
}

/// The world of an MPI job, as seen by one rank. MPI ends when the last handle is dropped; a process that
/// leaves with an error should call [`Link::abort`] instead, so that the other ranks end too.
pub struct Mpi {
    rank: usize,
    size: usize,
    description: String,
    jobs: Option<Sender<Job>>,
    owner: Mutex<Option<JoinHandle<()>>>,
    owner_id: ThreadId,
    aborter: Box<dyn Fn(c_int) + Send + Sync>,
}

/// What the owner thread knows once MPI is up.
struct World {
    rank: usize,
    size: usize,
    description: String,
    aborter: Box<dyn Fn(c_int) + Send + Sync>,
}

impl Mpi {
    /// Starts MPI, once in a process, and checks that it sees as many ranks as the launcher started.
    pub fn start() -> Result<Arc<Self>, Error> {
        let (jobs, queue) = channel();
        let (up, world) = sync_channel(1);
        let body = move || match bring_up() {
            Ok((world, owner)) => {
                let _ = up.send(Ok(world));
                run(owner, &queue);
            }
            Err(error) => _ = up.send(Err(error)),
        };
        let owner = thread::Builder::new()
            .name("mpi".into())
            .spawn(body)
            .map_err(|e| Error::Start { what: format!("no thread for MPI: {e}") })?;
        let world = world.recv().unwrap_or_else(|_| {
            Err(Error::Start { what: "the thread of MPI ended before MPI was up".into() })
        })?;
        let World { rank, size, description, aborter } = world;
        let owner_id = owner.thread().id();
        let (jobs, owner) = (Some(jobs), Mutex::new(Some(owner)));
        let mpi = Arc::new(Self { rank, size, description, jobs, owner, owner_id, aborter });
        let link: Arc<dyn Link> = mpi.clone();
        panics::end_job(&link);
        Ok(mpi)
    }

    /// In place: `MPI_Allreduce` of the library itself, in its own order. Only for benches, to
    /// compare with: training never uses it, because its sums depend on the number of ranks.
    pub fn mpi_all_reduce(&self, data: Vec<f32>) -> Result<Vec<f32>, Error> {
        let (end, result) = sync_channel(1);
        self.submit(Job::AllReduce(data, end));
        result.recv().unwrap_or(Err(Error::Lost { rank: self.rank }))
    }

    /// Hands a job to the owner. If it has ended, the job's completion is dropped, which tells
    /// whoever waits.
    fn submit(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }

    fn refuse(&self, peer: usize, tag: u32) -> Option<Request> {
        let what = if peer >= self.size {
            format!("rank {peer} of {} does not exist", self.size)
        } else if tag > LARGEST_TAG {
            format!("tag {tag} is above {LARGEST_TAG}")
        } else {
            return None;
        };
        Some(Request::ended(peer, Err(Error::Group { what })))
    }
}

impl Link for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn send(&self, to: usize, tag: u32, bytes: Vec<u8>) -> Request {
        self.refuse(to, tag).unwrap_or_else(|| {
            let (request, completion) = Request::new(to);
            self.submit(Job::Send(Message { peer: to, tag, completion }, bytes));
            request
        })
    }

    fn receive(&self, from: usize, tag: u32, len: usize) -> Request {
        self.refuse(from, tag).unwrap_or_else(|| {
            let (request, completion) = Request::new(from);
            self.submit(Job::Receive(Message { peer: from, tag, completion }, len));
            request
        })
    }

    fn abort(&self, code: i32) -> ! {
        if thread::current().id() != self.owner_id {
            self.submit(Job::Abort(code));
            thread::sleep(ABORT_PATIENCE);
        }
        // The owner is this thread, or gone, or stuck in the library.
        (self.aborter)(code);
        process::exit(code)
    }
}

impl Drop for Mpi {
    fn drop(&mut self) {
        self.jobs = None;
        let owner = self.owner.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(owner) = owner
            && owner.thread().id() != thread::current().id()
        {
            // All ranks have said goodbye, or will be ended. MPICH 4.0 over UCX sometimes never
            // returns from Finalize: one rank waits for messages that the other no longer answers.
            let asked = Instant::now();
            while !owner.is_finished() && asked.elapsed() < END_PATIENCE {
                thread::sleep(Duration::from_millis(1));
            }
            if owner.is_finished() {
                let _ = owner.join();
            }
        }
    }
}

/// How long the end of MPI may take before the process leaves without it.
const END_PATIENCE: Duration = Duration::from_secs(5);

impl fmt::Debug for Mpi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mpi(rank {} of {}, {})", self.rank, self.size, self.description)
    }
}

/// On the owner thread: MPI from nothing to a checked world.
fn bring_up() -> Result<(World, Owner<Door>), Error> {
    let start_error = |what| Error::Start { what };
    let calls = Door::start().map_err(start_error)?;
    let ask = |what: &str, answer: Result<usize, String>| {
        answer.map_err(|why| Error::Start { what: format!("{what}: {why}") })
    };
    let rank = ask("MPI_Comm_rank", calls.rank())?;
    let size = ask("MPI_Comm_size", calls.size())?;
    let description = calls.describe();
    let aborter = calls.aborter();
    let refused = check_size(&description, size).and_then(|()| check_tags(&calls));
    if let Err(what) = refused {
        // Every rank of the job comes to the same result, and ends its MPI here.
        let _ = calls.finalize();
        return Err(start_error(what));
    }
    let owner = Owner::new(calls, rank, size, PIECE_BYTES)?;
    Ok((World { rank, size, description, aborter }, owner))
}

fn run(owner: Owner<Door>, jobs: &Receiver<Job>) {
    if let Err(error) = owner.run(jobs) {
        // Nobody waits for the end of MPI's thread, and the job is over.
        tracing::warn!("{error}");
    }
}

/// An MPI that was started by another family's launcher comes up as many jobs of one rank each,
/// with success; nothing but the size shows it.
fn check_size(library: &str, size: usize) -> Result<(), String> {
    match launcher::place(&|name| env::var(name).ok()) {
        Some(place) if place.size != size => Err(format!(
            "{library} sees {size} rank{}, but the launcher started {} ({}={}): this library does not \
             belong to this launcher. Start with the mpirun of that library (under Slurm: another \
             srun --mpi=…), or set NEUROSHARD_MPI_LIB to the launcher's libmpi.so",
            if size == 1 { "" } else { "s" },
            place.size,
            place.variable,
            place.size
        )),
        _ => Ok(()),
    }
}

fn check_tags(calls: &Door) -> Result<(), String> {
    let largest = calls.largest_tag()?;
    if i64::from(largest) <= i64::from(LARGEST_TAG) {
        let library = calls.describe();
        return Err(format!("{library}: tags reach only {largest}, not {LARGEST_TAG}"));
    }
    Ok(())
}

/// Tags of messages; one more is taken by goodbyes.
const LARGEST_TAG: u32 = (1 << 24) - 1;
/// Bytes in one call of MPI, whose counts have 31 bits.
const PIECE_BYTES: usize = 1 << 30;
/// How long the owner may take to end the job before the calling thread does it itself.
const ABORT_PATIENCE: Duration = Duration::from_millis(500);
