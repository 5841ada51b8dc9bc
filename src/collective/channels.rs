//! A link between the threads of one process: a mailbox per rank.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Completion, Error, Link, Request};

/// Links of `ranks` ranks in one process, in the order of their ranks. A rank whose link is
/// dropped is lost to the others.
pub fn channels(ranks: usize) -> Vec<Arc<dyn Link>> {
    let boxes: Arc<Vec<_>> = Arc::new((0..ranks).map(|_| Mutex::default()).collect());
    (0..ranks)
        .map(|rank| Arc::new(Channels { rank, boxes: boxes.clone() }) as Arc<dyn Link>)
        .collect()
}

/// One rank's end.
struct Channels {
    rank: usize,
    boxes: Arc<Vec<Mutex<Mailbox>>>,
}

/// What has come for a rank, and what it waits for, by (sender, tag). At most one of the two has
/// entries for the same key.
#[derive(Default)]
struct Mailbox {
    come: HashMap<(usize, u32), VecDeque<Vec<u8>>>,
    awaited: HashMap<(usize, u32), VecDeque<(usize, Completion)>>,
    /// Senders that are gone.
    gone: Vec<usize>,
}

impl Channels {
    fn mailbox(&self, rank: usize) -> MutexGuard<'_, Mailbox> {
        // Nothing panics while it is held; if something did, the queues are still whole.
        self.boxes[rank].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, rank: usize) -> Result<(), Error> {
        let ranks = self.boxes.len();
        let what = || format!("there is no rank {rank} among {ranks}");
        if rank < ranks { Ok(()) } else { Err(Error::Group { what: what() }) }
    }
}

impl Link for Channels {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.boxes.len()
    }

    fn describe(&self) -> String {
        "threads of one process".into()
    }

    fn send(&self, to: usize, tag: u32, bytes: Vec<u8>) -> Request {
        if let Err(error) = self.known(to) {
            return Request::ended(to, Err(error));
        }
        if self.mailbox(self.rank).gone.contains(&to) {
            return Request::ended(to, Err(Error::Lost { rank: to }));
        }
        let mut mailbox = self.mailbox(to);
        let key = (self.rank, tag);
        match mailbox.awaited.get_mut(&key).and_then(VecDeque::pop_front) {
            Some((len, completion)) => completion.finish(checked(self.rank, len, bytes)),
            None => mailbox.come.entry(key).or_default().push_back(bytes),
        }
        // The bytes belong to the receiver now.
        Request::ended(to, Ok(Vec::new()))
    }

    fn receive(&self, from: usize, tag: u32, len: usize) -> Request {
        if let Err(error) = self.known(from) {
            return Request::ended(from, Err(error));
        }
        let mut mailbox = self.mailbox(self.rank);
        let key = (from, tag);
        if let Some(bytes) = mailbox.come.get_mut(&key).and_then(VecDeque::pop_front) {
            return Request::ended(from, checked(from, len, bytes));
        }
        if mailbox.gone.contains(&from) {
            return Request::ended(from, Err(Error::Lost { rank: from }));
        }
        let (request, completion) = Request::new(from);
        mailbox.awaited.entry(key).or_default().push_back((len, completion));
        request
    }

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }
}

impl Drop for Channels {
    fn drop(&mut self) {
        for other in 0..self.boxes.len() {
            let mut mailbox = self.mailbox(other);
            mailbox.gone.push(self.rank);
            for ((from, _), waiting) in &mut mailbox.awaited {
                if *from == self.rank {
                    for (_, completion) in waiting.drain(..) {
                        completion.finish(Err(Error::Lost { rank: self.rank }));
                    }
                }
            }
        }
    }
}

impl fmt::Debug for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Channels({} of {})", self.rank, self.boxes.len())
    }
}

fn checked(from: usize, len: usize, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
    if bytes.len() == len {
        return Ok(bytes);
    }
    let what = format!("it sent {} bytes where {len} are expected", bytes.len());
    Err(Error::OutOfStep { rank: from, what })
}
