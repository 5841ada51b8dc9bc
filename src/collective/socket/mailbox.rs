//! What has come from one peer and is not wanted yet, and what is wanted and has not come.

use std::collections::{HashMap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::collective::{Completion, Error, Request};

/// The messages of one peer.
#[derive(Debug)]
pub struct Mailbox {
    peer: usize,
    state: Mutex<State>,
    /// Told when a receive is posted or the box is closed.
    wanted: Condvar,
}

#[derive(Debug, Default)]
struct State {
    arrived: HashMap<u32, VecDeque<Vec<u8>>>,
    arrived_bytes: usize,
    posted: HashMap<u32, VecDeque<(usize, Completion)>>,
    posted_count: usize,
    /// The peer is gone, or this rank is ending.
    closed: bool,
}

impl Mailbox {
    /// Empty.
    pub fn new(peer: usize) -> Self {
        Self { peer, state: Mutex::default(), wanted: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics halfway.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to receive `len` bytes under `tag`.
    pub fn receive(&self, tag: u32, len: usize) -> Request {
        let mut state = self.lock();
        if let Some(bytes) = state.arrived.get_mut(&tag).and_then(VecDeque::pop_front) {
            state.arrived_bytes -= bytes.len();
            self.wanted.notify_all();
            return Request::ended(self.peer, self.checked(tag, len, bytes));
        }
        if state.closed {
            return Request::ended(self.peer, Err(Error::Lost { rank: self.peer }));
        }
        let (request, completion) = Request::new(self.peer);
        state.posted.entry(tag).or_default().push_back((len, completion));
        state.posted_count += 1;
        self.wanted.notify_all();
        request
    }

    /// A message has come.
    pub fn deliver(&self, tag: u32, bytes: Vec<u8>) {
        let mut state = self.lock();
        match state.posted.get_mut(&tag).and_then(VecDeque::pop_front) {
            Some((len, completion)) => {
                state.posted_count -= 1;
                drop(state);
                completion.finish(self.checked(tag, len, bytes));
            }
            None => {
                state.arrived_bytes += bytes.len();
                state.arrived.entry(tag).or_default().push_back(bytes);
            }
        }
    }

    /// Waits while much has come that nobody wants, so that a fast peer cannot fill this rank's
    /// memory. If anything of the peer is awaited, it may lie behind the next message, and there is no
    /// wait. False when the box was closed.
    pub fn wait_for_room(&self) -> bool {
        let mut state = self.lock();
        while !state.closed && state.posted_count == 0 && state.arrived_bytes > MAX_UNWANTED_BYTES {
            state = self.wanted.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        !state.closed
    }

    /// Nothing will come any more: tells all who wait. What has come can still be received.
    pub fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.posted_count = 0;
        let posted = std::mem::take(&mut state.posted);
        self.wanted.notify_all();
        drop(state);
        for (_, completion) in posted.into_values().flatten() {
            completion.finish(Err(Error::Lost { rank: self.peer }));
        }
    }

    fn checked(&self, tag: u32, len: usize, bytes: Vec<u8>) -> Result<Vec<u8>, Error> {
        if bytes.len() == len {
            return Ok(bytes);
        }
        let what = format!("message {tag} should have {len} bytes and has {}", bytes.len());
        Err(Error::OutOfStep { rank: self.peer, what })
    }
}

/// Bytes of one peer that wait for a receive before its connection is left to fill up.
const MAX_UNWANTED_BYTES: usize = 256 << 20;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn messages_meet_receives_in_order_whichever_comes_first() {
        let mailbox = Mailbox::new(3);
        let early = mailbox.receive(1, 2);
        mailbox.deliver(2, vec![9]);
        mailbox.deliver(1, vec![1, 1]);
        mailbox.deliver(1, vec![2]);
        assert_eq!(early.wait(PATIENCE).unwrap(), [1, 1]);
        assert_eq!(mailbox.receive(1, 1).wait(PATIENCE).unwrap(), [2]);
        assert_eq!(mailbox.receive(2, 1).wait(PATIENCE).unwrap(), [9]);
    }

    #[test]
    fn what_came_outlives_the_peer_and_the_rest_is_lost() {
        let mailbox = Mailbox::new(3);
        let vain = mailbox.receive(1, 2);
        mailbox.deliver(2, vec![9]);
        mailbox.close();
        assert!(matches!(vain.wait(PATIENCE), Err(Error::Lost { rank: 3 })));
        assert_eq!(mailbox.receive(2, 1).wait(PATIENCE).unwrap(), [9]);
        assert!(matches!(mailbox.receive(2, 1).wait(PATIENCE), Err(Error::Lost { rank: 3 })));
        assert!(!mailbox.wait_for_room());
    }

    #[test]
    fn a_full_box_waits_until_something_is_wanted() {
        let mailbox = Mailbox::new(0);
        mailbox.deliver(1, vec![0; MAX_UNWANTED_BYTES + 1]);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| mailbox.wait_for_room());
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished());
            let wanted = mailbox.receive(2, 1);
            assert!(waiting.join().unwrap());
            mailbox.deliver(2, vec![7]);
            assert_eq!(wanted.wait(PATIENCE).unwrap(), [7]);
        });
    }
}
