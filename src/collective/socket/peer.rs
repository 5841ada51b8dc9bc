//! The connection to one other rank: a thread that writes, and one that reads.
//!
//! A frame is a header of 24 bytes (`NSRF`, version and kind, the token's first 4 bytes, tag, length)
//! and as many bytes as its length says.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::handshake::Token;
use super::mailbox::Mailbox;
use crate::collective::{Completion, Error, Request};

/// Another rank.
#[derive(Debug)]
pub struct Peer {
    rank: usize,
    mailbox: Arc<Mailbox>,
    outgoing: Option<Sender<Outgoing>>,
    stream: TcpStream,
    /// Ends when it has written all, or cannot write any more.
    writer: Option<JoinHandle<()>>,
    reader: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Outgoing {
    Message { tag: u32, bytes: Vec<u8>, completion: Completion },
    Abort { code: i32 },
}

impl Peer {
    /// Rank `rank` at the other end of `stream`.
    pub fn start(rank: usize, stream: TcpStream, token: &Token) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let mailbox = Arc::new(Mailbox::new(rank));
        let (outgoing, queue) = channel();
        let seal = [token[0], token[1], token[2], token[3]];
        let (to, from) = (stream.try_clone()?, stream.try_clone()?);
        let writer = thread::Builder::new()
            .name(format!("to rank {rank}"))
            .spawn(move || write_all(rank, to, seal, &queue))?;
        let box_of_reader = Arc::clone(&mailbox);
        let reader = thread::Builder::new().name(format!("from rank {rank}")).spawn(move || {
            // An error is an end too: whoever waits is told by the closed box.
            let _ = read_all(rank, from, seal, &box_of_reader);
            box_of_reader.close();
        })?;
        let (outgoing, writer, reader) = (Some(outgoing), Some(writer), Some(reader));
        Ok(Self { rank, mailbox, outgoing, stream, writer, reader })
    }

    /// Starts to send.
    pub fn send(&self, tag: u32, bytes: Vec<u8>) -> Request {
        let (request, completion) = Request::new(self.rank);
        if let Some(outgoing) = &self.outgoing {
            // If the writer has ended, the completion is dropped, which means that the peer is lost.
            let _ = outgoing.send(Outgoing::Message { tag, bytes, completion });
        }
        request
    }

    /// Starts to receive.
    pub fn receive(&self, tag: u32, len: usize) -> Request {
        self.mailbox.receive(tag, len)
    }

    /// Asks the other process to end with this exit code.
    pub fn abort(&self, code: i32) {
        if let Some(outgoing) = &self.outgoing {
            let _ = outgoing.send(Outgoing::Abort { code });
        }
    }

    /// Ends the writer after what it still has to write.
    pub fn finish_sending(&mut self) {
        self.outgoing = None;
    }

    /// Closes the connection when all is written, or at `deadline`.
    pub fn close(&mut self, deadline: Instant) {
        self.outgoing = None;
        let writing = || self.writer.as_ref().is_some_and(|writer| !writer.is_finished());
        while writing() && Instant::now() < deadline {
            thread::sleep(LOOK);
        }
        // If the peer does not read, what is left goes nowhere.
        let _ = self.stream.shutdown(Shutdown::Both);
        self.mailbox.close();
        for thread in [self.writer.take(), self.reader.take()].into_iter().flatten() {
            let _ = thread.join();
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.close(Instant::now() + LAST_WORDS);
    }
}

/// Writes what is queued, until the queue's end or the peer's.
fn write_all(rank: usize, mut stream: TcpStream, seal: [u8; 4], queue: &Receiver<Outgoing>) {
    for outgoing in queue {
        match outgoing {
            Outgoing::Message { tag, bytes, completion } => {
                let written = write_frame(&mut stream, seal, KIND_MESSAGE, tag, &bytes);
                let failed = written.is_err();
                let lost = |_| Error::Lost { rank };
                completion.finish(written.map(|()| bytes).map_err(lost));
                if failed {
                    return;
                }
            }
            Outgoing::Abort { code } => {
                let _ = write_frame(&mut stream, seal, KIND_ABORT, code.cast_unsigned(), &[]);
            }
        }
    }
    // The peer's reader sees the end, and this rank's reader goes on.
    let _ = stream.shutdown(Shutdown::Write);
}

fn write_frame(
    stream: &mut TcpStream,
    seal: [u8; 4],
    kind: u16,
    tag: u32,
    bytes: &[u8],
) -> io::Result<()> {
    let mut header = [0; HEADER_BYTES];
    header[0..4].copy_from_slice(MAGIC);
    header[4..6].copy_from_slice(&VERSION.to_le_bytes());
    header[6..8].copy_from_slice(&kind.to_le_bytes());
    header[8..12].copy_from_slice(&seal);
    header[12..16].copy_from_slice(&tag.to_le_bytes());
    header[16..24].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
    if bytes.len() <= SMALL {
        // One packet instead of two.
        return stream.write_all(&[&header, bytes].concat());
    }
    stream.write_all(&header)?;
    stream.write_all(bytes)
}

/// Reads frames into the box, until the peer's end or this rank's.
fn read_all(
    rank: usize,
    mut stream: TcpStream,
    seal: [u8; 4],
    mailbox: &Mailbox,
) -> io::Result<()> {
    while mailbox.wait_for_room() {
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header)?;
        let Some(Header { kind, tag, len }) = Header::parse(&header, seal) else {
            tracing::warn!("rank {rank} sends what is no message; its connection is closed");
            let _ = stream.shutdown(Shutdown::Both);
            return Ok(());
        };
        if kind == KIND_ABORT {
            let code = tag.cast_signed();
            eprintln!("rank {rank} ended the job with code {code}");
            process::exit(code);
        }
        // Grows as bytes come: a length alone takes no memory.
        let mut bytes = Vec::with_capacity(len.min(FIRST_BYTES) as usize);
        (&mut stream).take(len).read_to_end(&mut bytes)?;
        if bytes.len() as u64 != len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        mailbox.deliver(tag, bytes);
    }
    Ok(())
}

/// The start of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    kind: u16,
    tag: u32,
    len: u64,
}

impl Header {
    /// `None` if it is none of this job.
    fn parse(bytes: &[u8; HEADER_BYTES], seal: [u8; 4]) -> Option<Self> {
        let (magic, rest) = bytes.split_at(4);
        let short = |at: usize| u16::from_le_bytes([rest[at], rest[at + 1]]);
        let word =
            |at: usize| u32::from_le_bytes([rest[at], rest[at + 1], rest[at + 2], rest[at + 3]]);
        let (version, kind, tag) = (short(0), short(2), word(8));
        let len = u64::from(word(12)) | u64::from(word(16)) << 32;
        let ours = magic == MAGIC && version == VERSION && rest[4..8] == seal;
        let known = kind == KIND_MESSAGE || kind == KIND_ABORT && len == 0;
        (ours && known && len <= MAX_BYTES).then_some(Self { kind, tag, len })
    }
}

const MAGIC: &[u8; 4] = b"NSRF";
const VERSION: u16 = 1;
const HEADER_BYTES: usize = 24;
const KIND_MESSAGE: u16 = 0;
/// The tag is the exit code.
const KIND_ABORT: u16 = 1;
/// More than any message has.
const MAX_BYTES: u64 = 1 << 40;
/// Messages that are copied behind their header.
const SMALL: usize = 8 << 10;
/// Allocated before anything has come.
const FIRST_BYTES: u64 = 4 << 20;
/// Between looks at the writer.
const LOOK: Duration = Duration::from_millis(1);
/// How long a peer may take to read the last messages of a rank that ends.
const LAST_WORDS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_other_jobs_versions_and_sizes_are_refused() {
        let mut good = [0; HEADER_BYTES];
        good[0..4].copy_from_slice(MAGIC);
        good[4] = 1;
        good[8..12].copy_from_slice(&[1, 2, 3, 4]);
        good[12] = 7;
        good[17] = 1;
        let seal = [1, 2, 3, 4];
        let want = Header { kind: KIND_MESSAGE, tag: 7, len: 256 };
        assert_eq!(Header::parse(&good, seal), Some(want));
        assert_eq!(Header::parse(&good, [1, 2, 3, 5]), None);
        for (at, value) in [(0, b'X'), (4, 2), (6, 9), (23, 1)] {
            let mut bad = good;
            bad[at] = value;
            assert_eq!(Header::parse(&bad, seal), None, "byte {at}");
        }
    }
}
