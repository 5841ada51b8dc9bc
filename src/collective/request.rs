//! A transfer under way.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use super::Error;

/// A send or a receive that was started. It owns its bytes until it ends.
#[derive(Debug)]
#[must_use = "a transfer may fail: wait for it"]
pub struct Request {
    peer: usize,
    end: Receiver<Result<Vec<u8>, Error>>,
}

/// The other end of a [`Request`]: for those who carry it out.
#[derive(Debug)]
pub struct Completion(SyncSender<Result<Vec<u8>, Error>>);

impl Completion {
    /// Ends the transfer: the bytes received, or the bytes sent (to be used again), or a failure.
    pub fn finish(self, result: Result<Vec<u8>, Error>) {
        // Nobody may be waiting any more.
        let _ = self.0.send(result);
    }
}

impl Request {
    /// A transfer with rank `peer`, and its other end.
    pub fn new(peer: usize) -> (Self, Completion) {
        let (sender, end) = sync_channel(1);
        (Self { peer, end }, Completion(sender))
    }

    /// A transfer that has ended.
    pub fn ended(peer: usize, result: Result<Vec<u8>, Error>) -> Self {
        let (request, completion) = Self::new(peer);
        completion.finish(result);
        request
    }

    /// The rank at the other side.
    pub fn peer(&self) -> usize {
        self.peer
    }

    /// The bytes, if the transfer has ended.
    pub fn poll(&mut self) -> Option<Result<Vec<u8>, Error>> {
        match self.end.try_recv() {
            Ok(result) => Some(result),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Err(Error::Lost { rank: self.peer })),
        }
    }

    /// Waits for its end, at most for `patience`.
    pub fn wait(self, patience: Duration) -> Result<Vec<u8>, Error> {
        match self.end.recv_timeout(patience) {
            Ok(result) => result,
            Err(RecvTimeoutError::Timeout) => {
                Err(Error::Silent { ranks: vec![self.peer], waited: patience })
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::Lost { rank: self.peer }),
        }
    }
}
