//! The thread that owns MPI, from Init to Finalize.
//!
//! MPI makes progress only inside its calls. This thread starts the transfers that it is asked for and
//! polls them; between polls it sleeps a 64th of the time it has waited so far (20 us to 1 ms), so
//! that it adds little to any wait and takes no core from the computation.
//!
//! A rank that ends sends an empty message, its goodbye, to every other. So nobody has to wait in
//! MPI_Finalize, which would take a core and hide failures: who waits for a message of a rank that said
//! goodbye gets [`Error::Lost`] instead.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::calls::Calls;
use super::transfer::Transfer;
use crate::collective::{Completion, Error};

/// What the owner is asked to do.
pub enum Job {
    /// Sends the bytes.
    Send(Message, Vec<u8>),
    /// Receives so many bytes.
    Receive(Message, usize),
    /// The library's own sum over all ranks, for comparisons.
    AllReduce(Vec<f32>, std::sync::mpsc::SyncSender<Result<Vec<f32>, Error>>),
    /// Ends all ranks.
    Abort(i32),
}

/// The address of a transfer.
pub struct Message {
    /// The rank at the other side.
    pub peer: usize,
    /// Which message of that rank.
    pub tag: u32,
    /// Told the end.
    pub completion: Completion,
}

/// The state of the thread.
pub struct Owner<C: Calls> {
    calls: C,
    rank: usize,
    size: usize,
    /// Bytes that go in one call of MPI, at most 2^31 - 1.
    piece_bytes: usize,
    transfers: Vec<Transfer<C>>,
    /// Receives of the other ranks' goodbyes; `None` once it came.
    goodbyes: Vec<Option<Transfer<C>>>,
    /// When the goodbye of a rank came.
    left: Vec<Option<Instant>>,
    goodbyes_checked: Instant,
}

impl<C: Calls> Owner<C> {
    /// For an initialized MPI.
    pub fn new(calls: C, rank: usize, size: usize, piece_bytes: usize) -> Result<Self, Error> {
        let now = Instant::now();
        let (transfers, goodbyes, left) = (Vec::new(), Vec::new(), vec![None; size]);
        let mut owner = Self {
            calls,
            rank,
            size,
            piece_bytes,
            transfers,
            goodbyes,
            left,
            goodbyes_checked: now,
        };
        for peer in 0..size {
            let receive = (peer != rank)
                .then(|| Transfer::receive(&owner.calls, peer, GOODBYE, 0, piece_bytes, None));
            owner.goodbyes.push(receive.transpose()?);
        }
        Ok(owner)
    }

    /// Works until `jobs` has ended, then says goodbye and ends MPI.
    pub fn run(mut self, jobs: &Receiver<Job>) -> Result<(), Error> {
        let mut pause = Pause::new();
        loop {
            if self.poll() {
                pause = Pause::new();
            }
            match pause.job(jobs, !self.transfers.is_empty(), self.size > 1) {
                Ok(job) => {
                    self.start(job);
                    while let Ok(job) = jobs.try_recv() {
                        self.start(job);
                    }
                    pause = Pause::new();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            }
        }
    }

    fn start(&mut self, job: Job) {
        let (piece, calls) = (self.piece_bytes, &self.calls);
        let started = match job {
            Job::Send(Message { peer, tag, completion }, bytes) => {
                Transfer::send(calls, peer, tag + 1, bytes, piece, Some(completion))
            }
            Job::Receive(Message { peer, tag, completion }, len) => {
                Transfer::receive(calls, peer, tag + 1, len, piece, Some(completion))
            }
            Job::AllReduce(mut data, end) => {
                let result = calls.all_reduce(&mut data);
                let _ = end.send(
                    result
                        .map(|()| data)
                        .map_err(|cause| Error::Transport { what: "MPI_Allreduce".into(), cause }),
                );
                return;
            }
            Job::Abort(code) => return (calls.aborter())(code),
        };
        // Whoever waits has been told of a failure; the others go on.
        self.transfers.extend(started.ok());
    }

    /// Asks MPI about everything under way; whether something ended.
    fn poll(&mut self) -> bool {
        let before = self.transfers.len();
        let transfers = std::mem::take(&mut self.transfers);
        self.transfers = transfers.into_iter().filter_map(|t| t.poll(&self.calls)).collect();
        if self.goodbyes_checked.elapsed() >= GOODBYE_CHECK {
            self.goodbyes_checked = Instant::now();
            self.poll_goodbyes();
        }
        self.transfers.len() < before
    }

    fn poll_goodbyes(&mut self) {
        for (peer, goodbye) in self.goodbyes.iter_mut().enumerate() {
            if let Some(transfer) = goodbye.take() {
                *goodbye = transfer.poll(&self.calls);
                if goodbye.is_none() {
                    self.left[peer] = Some(Instant::now());
                }
            }
        }
        // What a rank sent before its goodbye may arrive a little after it, not much.
        for transfer in &mut self.transfers {
            if self.left[transfer.peer()].is_some_and(|left| left.elapsed() > GRACE) {
                transfer.fail(Error::Lost { rank: transfer.peer() });
            }
        }
    }

    /// Says goodbye, waits for the others' and ends MPI.
    ///
    /// If a transfer never ended, MPI is left as it is: Finalize would wait for it, and the
    /// launcher ends a job whose processes leave without it, which is right for a failed one.
    fn end(mut self) -> Result<(), Error> {
        let asked = Instant::now();
        while self.transfers.iter().any(Transfer::is_send) && asked.elapsed() < GRACE {
            self.poll();
            thread::sleep(LONGEST_PAUSE);
        }
        for peer in (0..self.size).filter(|peer| *peer != self.rank) {
            let goodbye = Transfer::send(&self.calls, peer, GOODBYE, Vec::new(), 1, None)?;
            self.transfers.push(goodbye);
        }
        let mut clean = true;
        loop {
            self.poll();
            let open = self.goodbyes.iter().flatten().count();
            if open == 0 && asked.elapsed() > GRACE {
                clean = self.transfers.is_empty();
                break;
            }
            if open == 0 && self.transfers.is_empty() {
                break;
            }
            thread::sleep(LONGEST_PAUSE);
        }
        if !clean {
            // The memory of these transfers belongs to MPI until the process ends.
            std::mem::forget(self);
            return Ok(());
        }
        self.calls
            .finalize()
            .map_err(|cause| Error::Transport { what: "MPI_Finalize".into(), cause })
    }
}

/// Waits between polls: the longer it has waited, the longer it sleeps.
struct Pause {
    since: Instant,
    polls: u32,
}

impl Pause {
    fn new() -> Self {
        Self { since: Instant::now(), polls: 0 }
    }

    /// The next job, if one comes before it is time to poll again.
    fn job(
        &mut self,
        jobs: &Receiver<Job>,
        waiting: bool,
        peers: bool,
    ) -> Result<Job, RecvTimeoutError> {
        self.polls = self.polls.saturating_add(1);
        if waiting && self.polls < YIELDS {
            thread::yield_now();
            return jobs.try_recv().map_err(|error| match error {
                std::sync::mpsc::TryRecvError::Empty => RecvTimeoutError::Timeout,
                std::sync::mpsc::TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
            });
        }
        let pause = self.since.elapsed() / 64;
        if waiting {
            jobs.recv_timeout(pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE))
        } else if peers {
            // Messages handed to the library may still need it to push them out.
            jobs.recv_timeout(pause.clamp(SHORTEST_PAUSE, GOODBYE_CHECK))
        } else {
            jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
        }
    }
}

/// The tag of goodbyes; the tags of others are one higher.
const GOODBYE: u32 = 0;
/// How often to look for goodbyes.
const GOODBYE_CHECK: Duration = Duration::from_millis(20);
/// How long a message may be under way when its sender has gone.
const GRACE: Duration = Duration::from_secs(2);
/// Polls before the first sleep.
const YIELDS: u32 = 50;
const SHORTEST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);
