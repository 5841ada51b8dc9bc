//! The messages of one group's collectives over a link: a header, then the payload in pieces.
//!
//! The payload goes in pieces, several under way at once, so that the receiver adds one piece while
//! the next ones travel.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::call::Call;
use super::frame::{FRAME, Frame};
use super::{Error, Link, Request, sum};

/// What the groups of a job share on this rank.
#[derive(Debug)]
pub(super) struct World {
    /// Carries the bytes.
    pub link: Arc<dyn Link>,
    /// The host of every rank of the link.
    pub hosts: Vec<u64>,
    /// Groups get their numbers from here.
    pub next_context: Arc<AtomicU64>,
    patience_ns: AtomicU64,
}

impl World {
    /// The ranks of `link`.
    pub fn new(link: Arc<dyn Link>, hosts: Vec<u64>) -> Self {
        let patience_ns = AtomicU64::new(PATIENCE.as_nanos() as u64);
        Self { link, hosts, next_context: Arc::default(), patience_ns }
    }

    /// The same with a patience of its own.
    pub fn apart(&self) -> Self {
        let (link, hosts) = (self.link.clone(), self.hosts.clone());
        let patience_ns = AtomicU64::new(self.patience_ns.load(Ordering::Relaxed));
        Self { link, hosts, next_context: self.next_context.clone(), patience_ns }
    }

    /// How long a rank may stay silent.
    pub fn patience(&self) -> Duration {
        Duration::from_nanos(self.patience_ns.load(Ordering::Relaxed))
    }

    /// The patience of a rank that waits for others that may themselves wait, `depth` deep: it is
    /// longer, so that the rank next to a silent one is the first to name it.
    pub fn patience_at(&self, depth: u32) -> Duration {
        let patience = self.patience();
        patience.saturating_add((patience / 4).min(GRACE) * depth)
    }

    /// Changes [`World::patience`].
    pub fn set_patience(&self, patience: Duration) {
        let ns = u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX);
        self.patience_ns.store(ns, Ordering::Relaxed);
    }
}

/// The collectives' conversation of some ranks.
#[derive(Debug)]
pub(super) struct Wire {
    world: Arc<World>,
    /// Their ranks in the link, whose numbers stand in errors.
    members: Vec<usize>,
    /// This rank's index in `members`.
    rank: usize,
    /// Of all its messages.
    tag: u32,
    /// Number of the group.
    context: u64,
    /// How many turns of others come before any turn here.
    depth: u32,
    /// Buffers to be used again.
    spare: Mutex<Vec<Vec<u8>>>,
}

/// One turn of an exchange.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// Index of the receiver of what this rank sends.
    pub to: usize,
    /// Index of the sender of what this rank receives.
    pub from: usize,
    /// How many turns of others this one may have to wait for.
    pub depth: u32,
    /// Contributors to what is sent.
    pub contributors: usize,
    /// Contributors that what is received must have.
    pub expected: usize,
}

/// What happens with received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// They replace what is there.
    Copy,
    /// They are f32 and added to what is there.
    Add,
}

impl Wire {
    /// The conversation of `members` under `tag`; this rank is `members[rank]`. Its members may
    /// have to wait for `depth` turns of others first.
    pub fn new(
        world: Arc<World>,
        members: Vec<usize>,
        rank: usize,
        tag: u32,
        context: u64,
        depth: u32,
    ) -> Self {
        Self { world, members, rank, tag, context, depth, spare: Mutex::default() }
    }

    /// This rank's index.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Number of ranks.
    pub fn size(&self) -> usize {
        self.members.len()
    }

    /// Sends the byte ranges `out` of `data` and receives the ranges `into`, which do not overlap
    /// them; both as one stream of bytes.
    pub fn exchange(
        &self,
        call: &Call,
        turn: Turn,
        data: &mut [u8],
        (out, into): (&[Range<usize>], &[Range<usize>]),
        arrival: Arrival,
    ) -> Result<(), Error> {
        let mut sending = Sending::start(self, call, turn, data, out);
        let patience = self.patience(turn.depth);
        let want = into.iter().map(Range::len).sum();
        let mut frame = self.frame(call, turn.from, want, patience)?;
        if frame.contributors != turn.expected as u64 {
            let (want, got) = (turn.expected, frame.contributors as usize);
            return Err(Error::Contributors { want, got });
        }
        let pieces = cut(into);
        if frame.is_whole() {
            pieces.iter().for_each(|piece| arrive(data, piece, frame.inline(), arrival));
            return sending.finish(data, patience);
        }
        let from = self.members[turn.from];
        let mut posted = pieces.iter().map(|piece| {
            let len = piece.iter().map(Range::len).sum();
            self.world.link.receive(from, self.tag, len)
        });
        let mut coming: VecDeque<Request> = posted.by_ref().take(WINDOW).collect();
        for piece in &pieces {
            let Some(request) = coming.pop_front() else { break };
            let bytes = request.wait(patience)?;
            coming.extend(posted.next());
            sending.one_more(data, patience)?;
            arrive(data, piece, &bytes, arrival);
            self.keep(bytes);
        }
        sending.finish(data, patience)
    }

    /// Sends only: all of `data`.
    pub fn send_to(&self, call: &Call, to: usize, data: &[u8]) -> Result<(), Error> {
        let turn = Turn { to, from: to, depth: 0, contributors: 1, expected: 1 };
        let whole = 0..data.len();
        let mut sending = Sending::start(self, call, turn, data, &[whole]);
        sending.finish(data, self.patience(0))
    }

    /// Receives only: all of `data`.
    pub fn receive_from(
        &self,
        call: &Call,
        from: usize,
        depth: u32,
        data: &mut [u8],
    ) -> Result<(), Error> {
        let patience = self.patience(depth);
        let mut frame = self.frame(call, from, data.len(), patience)?;
        if frame.is_whole() {
            data.copy_from_slice(frame.inline());
            return Ok(());
        }
        let len = data.len();
        let whole = 0..len;
        for piece in cut(std::slice::from_ref(&whole)) {
            let size = piece.iter().map(Range::len).sum();
            let bytes = self.world.link.receive(self.members[from], self.tag, size);
            let bytes = bytes.wait(patience)?;
            arrive(data, &piece, &bytes, Arrival::Copy);
            self.keep(bytes);
        }
        Ok(())
    }

    /// Tells all others that this rank gave up in `call`, so that nobody waits for it in vain.
    pub fn give_up(&self, call: &Call, error: &Error) {
        let frame = Frame::failure(self.context, call, error);
        for (index, peer) in self.members.iter().enumerate() {
            if index != self.rank {
                // Not waited for: who does not get it has its own patience.
                let bytes = bytemuck::bytes_of(&frame).to_vec();
                drop(self.world.link.send(*peer, self.tag, bytes));
            }
        }
    }

    /// The header from index `from` of a payload of `want` bytes.
    fn frame(
        &self,
        call: &Call,
        from: usize,
        want: usize,
        patience: Duration,
    ) -> Result<Frame, Error> {
        let rank = self.members[from];
        let bytes = self.world.link.receive(rank, self.tag, FRAME).wait(patience)?;
        let frame = Frame::parse(&bytes, rank, self.context, call)?;
        if frame.bytes == want as u64 {
            return Ok(frame);
        }
        let what = format!("it sends {} bytes where {want} are expected", frame.bytes);
        Err(Error::OutOfStep { rank, what })
    }

    /// `error` of a send; if the receiver is gone, what it said before it went.
    fn reason(&self, call: &Call, error: Error) -> Error {
        let Error::Lost { rank } = error else { return error };
        // Messages that are no headers end the search: their length is refused.
        while let Some(Ok(bytes)) = self.world.link.receive(rank, self.tag, FRAME).poll() {
            if let Err(reason) = Frame::parse(&bytes, rank, self.context, call) {
                return reason;
            }
        }
        error
    }

    fn patience(&self, depth: u32) -> Duration {
        self.world.patience_at(self.depth + depth)
    }

    fn buffer(&self) -> Vec<u8> {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        spare.pop().unwrap_or_default()
    }

    fn keep(&self, buffer: Vec<u8>) {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.capacity() > 0 && spare.len() < 2 * WINDOW {
            spare.push(buffer);
        }
    }
}

/// A payload on its way out.
struct Sending<'a> {
    wire: &'a Wire,
    call: Call,
    to: usize,
    pieces: std::vec::IntoIter<Vec<Range<usize>>>,
    under_way: VecDeque<Request>,
}

impl<'a> Sending<'a> {
    /// Sends the header and the first pieces.
    fn start(wire: &'a Wire, call: &Call, turn: Turn, data: &[u8], out: &[Range<usize>]) -> Self {
        let bytes = out.iter().map(Range::len).sum();
        let mut frame = Frame::new(wire.context, call, turn.contributors, bytes);
        let mut pieces = cut(out);
        if frame.is_whole() {
            let mut at = 0;
            for range in pieces.drain(..).flatten() {
                frame.inline()[at..at + range.len()].copy_from_slice(&data[range.clone()]);
                at += range.len();
            }
        }
        let to = wire.members[turn.to];
        let header = wire.world.link.send(to, wire.tag, bytemuck::bytes_of(&frame).to_vec());
        let under_way = VecDeque::from([header]);
        let call = *call;
        let mut sending = Self { wire, call, to, pieces: pieces.into_iter(), under_way };
        (0..WINDOW).for_each(|_| sending.next(data));
        sending
    }

    fn next(&mut self, data: &[u8]) {
        let Some(piece) = self.pieces.next() else { return };
        let mut bytes = self.wire.buffer();
        bytes.clear();
        piece.into_iter().for_each(|range| bytes.extend_from_slice(&data[range]));
        self.under_way.push_back(self.wire.world.link.send(self.to, self.wire.tag, bytes));
    }

    /// Waits for the oldest piece under way, and sends one more.
    fn one_more(&mut self, data: &[u8], patience: Duration) -> Result<(), Error> {
        if let Some(request) = self.under_way.pop_front() {
            let sent = request.wait(patience);
            self.wire.keep(sent.map_err(|error| self.wire.reason(&self.call, error))?);
        }
        self.next(data);
        Ok(())
    }

    fn finish(&mut self, data: &[u8], patience: Duration) -> Result<(), Error> {
        while !self.under_way.is_empty() {
            self.one_more(data, patience)?;
        }
        Ok(())
    }
}

/// Puts one piece where it belongs.
fn arrive(data: &mut [u8], piece: &[Range<usize>], mut bytes: &[u8], arrival: Arrival) {
    for range in piece {
        let (here, rest) = bytes.split_at(range.len());
        bytes = rest;
        let there = &mut data[range.clone()];
        match arrival {
            Arrival::Copy => there.copy_from_slice(here),
            Arrival::Add => sum::add_bytes(bytemuck::cast_slice_mut(there), here),
        }
    }
}

/// The ranges as pieces of at most [`PIECE`] bytes; short ranges share one.
fn cut(ranges: &[Range<usize>]) -> Vec<Vec<Range<usize>>> {
    let mut pieces = Vec::new();
    let mut piece = Vec::new();
    let mut room = PIECE;
    for range in ranges {
        let mut start = range.start;
        while start < range.end {
            let end = range.end.min(start + room);
            piece.push(start..end);
            room -= end - start;
            start = end;
            if room == 0 {
                pieces.push(std::mem::take(&mut piece));
                room = PIECE;
            }
        }
    }
    if !piece.is_empty() {
        pieces.push(piece);
    }
    pieces
}

/// How long a rank may stay silent before anybody has said otherwise.
const PATIENCE: Duration = Duration::from_secs(300);

/// The most that waiting is prolonged for every rank in between.
const GRACE: Duration = Duration::from_secs(2);

/// Bytes of a piece: a multiple of 4, so that no f32 is cut in two.
const PIECE: usize = 1 << 20;

/// Pieces under way at once, in each direction.
const WINDOW: usize = 4;
