//! Communication beside computation: a thread that runs jobs on a communicator, in order.
//!
//! Neither MPI nor sockets progress by themselves. A bucket of gradients is handed to the lane as
//! soon as backward has finished it, and comes back when its sum is there; meanwhile backward goes
//! on. Every rank must submit the same jobs in the same order.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{Communicator, Error};

type Job = Box<dyn FnOnce(&dyn Communicator) + Send>;

/// A communicator with a thread of its own.
pub struct Lane {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// The result of a job, some time later.
#[derive(Debug)]
#[must_use = "a job may fail: wait for it"]
pub struct Ticket<T>(Receiver<Result<T, Error>>);

impl Lane {
    /// A lane over `comm`, which nobody else may use meanwhile: split it off first.
    pub fn new(comm: Arc<dyn Communicator>) -> Result<Self, Error> {
        let (jobs, queue) = sync_channel::<Job>(QUEUE);
        let body = move || queue.into_iter().for_each(|job| job(comm.as_ref()));
        let thread = std::thread::Builder::new().name("lane".into()).spawn(body).map_err(|e| {
            Error::Transport { what: "starting a thread".into(), cause: e.to_string() }
        })?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Runs `job` after those submitted before it.
    pub fn submit<T: Send + 'static>(
        &self,
        job: impl FnOnce(&dyn Communicator) -> Result<T, Error> + Send + 'static,
    ) -> Ticket<T> {
        let (result, ticket) = sync_channel(1);
        let job: Job = Box::new(move |comm| {
            // Nobody may be waiting any more.
            let _ = result.send(job(comm));
        });
        if let Some(jobs) = &self.jobs {
            // The thread ends only when `jobs` is gone, or by a panic, which the ticket reports.
            let _ = jobs.send(job);
        }
        Ticket(ticket)
    }
}

impl<T> Ticket<T> {
    /// Waits for the job's end. The communicator's patience bounds how long that is.
    pub fn wait(self) -> Result<T, Error> {
        self.0.recv().unwrap_or_else(|_| {
            let (what, cause) = ("a job of communication", "its thread ended".to_owned());
            Err(Error::Transport { what: what.into(), cause })
        })
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lane")
    }
}

/// Jobs that may wait: more than a step has buckets.
const QUEUE: usize = 4096;
