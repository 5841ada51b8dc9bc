//! One message under way, in as many pieces as the 32-bit counts of MPI ask for.

use std::ffi::c_int;
use std::ops::Range;

use super::calls::Calls;
use crate::collective::{Completion, Error};

/// A send or receive that was started.
pub struct Transfer<C: Calls> {
    direction: Direction,
    peer: usize,
    tag: u32,
    /// Sent from or received to; neither moved nor touched until all pieces have ended.
    bytes: Vec<u8>,
    pieces: Vec<C::Pending>,
    /// Bytes that the pieces that ended have received.
    received: usize,
    completion: Option<Completion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Send,
    Receive,
}

impl<C: Calls> Transfer<C> {
    /// Starts to send to rank `peer`. A failure is told to `completion` too.
    pub fn send(
        calls: &C,
        peer: usize,
        tag: u32,
        bytes: Vec<u8>,
        piece_bytes: usize,
        completion: Option<Completion>,
    ) -> Result<Self, Error> {
        Self::start(calls, Direction::Send, peer, tag, bytes, piece_bytes, completion)
    }

    /// Starts to receive `len` bytes from rank `peer`. A failure is told to `completion` too.
    pub fn receive(
        calls: &C,
        peer: usize,
        tag: u32,
        len: usize,
        piece_bytes: usize,
        completion: Option<Completion>,
    ) -> Result<Self, Error> {
        // One byte more than wanted, so that a message that is too long shows in its count: some
        // libraries (Open MPI 4) do not report truncation from MPI_Test.
        let bytes = vec![0; len + 1];
        Self::start(calls, Direction::Receive, peer, tag, bytes, piece_bytes, completion)
    }

    fn start(
        calls: &C,
        direction: Direction,
        peer: usize,
        tag: u32,
        bytes: Vec<u8>,
        piece_bytes: usize,
        completion: Option<Completion>,
    ) -> Result<Self, Error> {
        let (pieces, received) = (Vec::new(), 0);
        let mut transfer = Self { direction, peer, tag, bytes, pieces, received, completion };
        let start = transfer.bytes.as_mut_ptr();
        let message = transfer.message_bytes();
        let room = transfer.bytes.len() - message;
        for piece in pieces_of(message, piece_bytes) {
            let last = piece.end == message;
            let piece = piece.start..piece.end + if last { room } else { 0 };
            let len = c_int::try_from(piece.len()).unwrap_or(c_int::MAX);
            let (peer, tag) = (peer as c_int, tag as c_int);
            let at = start.wrapping_add(piece.start);
            // SAFETY: the bytes are the transfer's own. They stay on the heap where they are, and
            // nobody reads or writes them, until `poll` has seen the end of every piece; a transfer that
            // does not get there is leaked (see `Drop`).
            let pending = unsafe {
                match direction {
                    Direction::Send => calls.send(at, len, peer, tag),
                    Direction::Receive => calls.receive(at, len, peer, tag),
                }
            };
            match pending {
                Ok(pending) => transfer.pieces.push(pending),
                Err(cause) => return Err(transfer.broken(cause)),
            }
        }
        Ok(transfer)
    }

    /// The rank at the other side.
    pub fn peer(&self) -> usize {
        self.peer
    }

    /// Whether it sends.
    pub fn is_send(&self) -> bool {
        self.direction == Direction::Send
    }

    /// Asks how it stands: `None` when it has ended and whoever waits was told.
    pub fn poll(mut self, calls: &C) -> Option<Self> {
        // Pieces end in any order, but nothing is gained by looking past the first that has not.
        while let Some(piece) = self.pieces.last_mut() {
            match calls.test(piece) {
                Ok(None) => return Some(self),
                Ok(Some(bytes)) => {
                    self.received += bytes;
                    self.pieces.pop();
                }
                Err(cause) => return self.failed_piece(cause),
            }
        }
        let len = self.message_bytes();
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.truncate(len);
        if let Some(completion) = self.completion.take() {
            let whole = self.is_send() || self.received == len;
            completion.finish(if whole { Ok(bytes) } else { Err(self.other_length(len)) });
        }
        None
    }

    /// Tells whoever waits that it failed; the pieces stay under way.
    pub fn fail(&mut self, error: Error) {
        if let Some(completion) = self.completion.take() {
            completion.finish(Err(error));
        }
    }

    /// A piece that ended in a failure, such as a longer message than expected, is told to
    /// whoever waits; MPI itself may go on.
    fn failed_piece(mut self, cause: String) -> Option<Self> {
        self.pieces.pop();
        let error = Error::Transport { what: self.what(), cause };
        self.fail(error);
        (!self.pieces.is_empty()).then_some(self)
    }

    /// Bytes of the message itself.
    fn message_bytes(&self) -> usize {
        self.bytes.len() - usize::from(self.direction == Direction::Receive)
    }

    fn other_length(&self, want: usize) -> Error {
        let got = match self.received {
            got if got > want => "more".into(),
            got => got.to_string(),
        };
        let what = format!(
            "message {} should have {want} bytes and has {got}",
            self.tag.saturating_sub(1)
        );
        Error::OutOfStep { rank: self.peer, what }
    }

    fn broken(mut self, cause: String) -> Error {
        let what = self.what();
        self.fail(Error::Transport { what: what.clone(), cause: cause.clone() });
        Error::Transport { what, cause }
    }

    fn what(&self) -> String {
        let verb = match self.direction {
            Direction::Send => "sending to",
            Direction::Receive => "receiving from",
        };
        format!(
            "{verb} rank {} ({} bytes, message {})",
            self.peer,
            self.message_bytes(),
            self.tag.saturating_sub(1)
        )
    }
}

impl<C: Calls> Drop for Transfer<C> {
    fn drop(&mut self) {
        if !self.pieces.is_empty() {
            // MPI may still read or write these bytes.
            std::mem::forget(std::mem::take(&mut self.bytes));
        }
    }
}

/// The pieces of a message of `len` bytes: at least one, so that an empty message is one too.
fn pieces_of(len: usize, piece_bytes: usize) -> impl Iterator<Item = Range<usize>> {
    let count = len.div_ceil(piece_bytes).max(1);
    (0..count).map(move |i| i * piece_bytes..((i + 1) * piece_bytes).min(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_message() {
        let pieces = |len| pieces_of(len, 4).map(|p| (p.start, p.end)).collect::<Vec<_>>();
        assert_eq!(pieces(0), [(0, 0)]);
        assert_eq!(pieces(3), [(0, 3)]);
        assert_eq!(pieces(4), [(0, 4)]);
        assert_eq!(pieces(9), [(0, 4), (4, 8), (8, 9)]);
    }
}
