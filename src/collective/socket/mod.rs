//! A [`Link`] over TCP, for jobs without MPI: a connection between every two ranks.
//!
//! Ranks find each other at a TCP address, or by a file on a file system that all see (rendezvous.rs,
//! meet.rs). A rank that dies closes its connections: whoever waits for it gets [`Error::Lost`]. A network
//! that is cut shows only by silence, which the communicator's patience bounds. Each connection has two
//! threads, which mostly sleep: this door is for some hundred ranks, MPI for more.

mod addresses;
mod handshake;
mod mailbox;
mod meet;
mod peer;
mod rendezvous;

use std::fmt;
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{Error, Link, Request};
use mailbox::Mailbox;
use peer::Peer;

pub use rendezvous::{Place, Rendezvous};

/// All ranks of a job, as seen by one. When it is dropped, what was sent is still written.
pub struct Socket {
    rank: usize,
    /// `None` for this rank.
    peers: Vec<Option<Peer>>,
    /// What this rank sends to itself.
    own: Mailbox,
    description: String,
}

impl Socket {
    /// Meets the other ranks, within `patience`. Whoever is missing then is named in the error, on all ranks
    /// that came.
    pub fn start(rendezvous: &Rendezvous, patience: Duration) -> Result<Arc<Self>, Error> {
        let rank = rendezvous.rank;
        let (mesh, token) = meet::meet(rendezvous, patience)?;
        let mut peers = Vec::new();
        for (other, stream) in mesh.into_iter().enumerate() {
            let started = stream.map(|stream| Peer::start(other, stream, &token)).transpose();
            peers.push(started.map_err(|e| Error::Transport {
                what: format!("the connection to rank {other}"),
                cause: e.to_string(),
            })?);
        }
        let description = match &rendezvous.place {
            Place::Address(address) => format!("sockets (met at {address})"),
            Place::File(place) => {
                format!("sockets (met by {})", rendezvous.file(place).display())
            }
        };
        Ok(Arc::new(Self { rank, peers, own: Mailbox::new(rank), description }))
    }

    fn refuse(&self, peer: usize, tag: u32) -> Option<Request> {
        let what = if peer >= self.size() {
            format!("rank {peer} of {} does not exist", self.size())
        } else if tag > LARGEST_TAG {
            format!("tag {tag} is above {LARGEST_TAG}")
        } else {
            return None;
        };
        Some(Request::ended(peer, Err(Error::Group { what })))
    }
}

impl Link for Socket {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.peers.len()
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn send(&self, to: usize, tag: u32, bytes: Vec<u8>) -> Request {
        if let Some(refused) = self.refuse(to, tag) {
            return refused;
        }
        match &self.peers[to] {
            Some(peer) => peer.send(tag, bytes),
            None => {
                self.own.deliver(tag, bytes.clone());
                Request::ended(to, Ok(bytes))
            }
        }
    }

    fn receive(&self, from: usize, tag: u32, len: usize) -> Request {
        self.refuse(from, tag).unwrap_or_else(|| match &self.peers[from] {
            Some(peer) => peer.receive(tag, len),
            None => self.own.receive(tag, len),
        })
    }

    fn abort(&self, code: i32) -> ! {
        for peer in self.peers.iter().flatten() {
            peer.abort(code);
        }
        // For the writers. Who does not get it in this time sees the connection break.
        thread::sleep(LAST_WORDS);
        process::exit(code)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let deadline = Instant::now() + CLOSING;
        // All at once, not one after the other.
        self.peers.iter_mut().flatten().for_each(Peer::finish_sending);
        self.peers.iter_mut().flatten().for_each(|peer| peer.close(deadline));
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket(rank {} of {}, {})", self.rank, self.size(), self.description)
    }
}

const LARGEST_TAG: u32 = (1 << 24) - 1;
/// For an abort to reach the others.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// How long peers may take to read the last messages of a rank that ends.
const CLOSING: Duration = Duration::from_secs(10);
