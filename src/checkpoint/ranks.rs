//! What the ranks tell each other about a checkpoint. Failures travel as data, so that a rank that
//! fails keeps nobody waiting, and all end with the same error.

use std::error::Error as _;
use std::time::Duration;

use super::Error;
use super::subtree::Piece;
use crate::collective;
use crate::collective::Communicator;

/// What can be told.
pub(super) trait Wire: Sized {
    /// As bytes.
    fn encode(&self) -> Vec<u8>;
    /// From bytes; `None` if they are no such thing.
    fn decode(bytes: &[u8]) -> Option<Self>;
}

/// Calls `job` on rank 0 and tells all its outcome; nobody returns before it has ended.
pub(super) fn first<T: Wire>(
    comm: &dyn Communicator,
    job: impl FnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    if comm.size() == 1 {
        return job();
    }
    let told = match comm.rank() {
        0 => Some(Told::of(comm, job())),
        _ => None,
    };
    tell_all(comm, told)?.outcome()
}

/// Merges what every rank has, in the order of the ranks, and gives it to all. If some have failed,
/// all get the failure of the first of them.
pub(super) fn merge<T: Wire>(
    comm: &dyn Communicator,
    mine: Result<T, Error>,
    merge: impl Fn(T, T) -> Result<T, Error>,
) -> Result<T, Error> {
    if comm.size() == 1 {
        return mine;
    }
    let mut told = Told::of(comm, mine);
    // Ranks may arrive long after each other; only the communicator knows how long to wait.
    comm.barrier()?;
    // Up a binary tree, so that pieces of neighbours merge on the way and messages stay short.
    let (rank, mut step) = (comm.rank(), 1);
    while step < comm.size() {
        if rank % (2 * step) == step {
            send(comm, rank - step, told.encode())?;
            break;
        }
        if rank + step < comm.size() {
            let other = receive(comm, rank + step)?;
            told = match (told, other) {
                (Told::Fine(a), Told::Fine(b)) => Told::of(comm, merge(a, b)),
                (failed @ Told::Failed { .. }, _) | (_, failed) => failed,
            };
        }
        step *= 2;
    }
    tell_all(comm, Some(told))?.outcome()
}

/// Whether all ranks have succeeded; if not, the failure of the first that has not.
pub(super) fn agree<T>(comm: &dyn Communicator, mine: Result<T, Error>) -> Result<T, Error> {
    if comm.size() == 1 {
        return mine;
    }
    let (mine, told) = match mine {
        Ok(mine) => (Some(mine), Ok(())),
        Err(error) => (None, Err(error)),
    };
    merge(comm, told, |(), ()| Ok(()))?;
    mine.ok_or_else(|| lost(comm.rank(), "a failure of this rank"))
}

/// The news of a rank.
enum Told<T> {
    Fine(T),
    Failed { rank: usize, host: String, cause: String },
}

impl<T: Wire> Told<T> {
    fn of(comm: &dyn Communicator, outcome: Result<T, Error>) -> Self {
        match outcome {
            Ok(fine) => Self::Fine(fine),
            Err(Error::OnRank { rank, host, cause }) => Self::Failed { rank, host, cause },
            Err(error) => {
                let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
                Self::Failed { rank: comm.rank(), host, cause: chain(&error) }
            }
        }
    }

    fn outcome(self) -> Result<T, Error> {
        match self {
            Self::Fine(fine) => Ok(fine),
            Self::Failed { rank, host, cause } => Err(Error::OnRank { rank, host, cause }),
        }
    }

    fn encode(&self) -> Vec<u8> {
        match self {
            Self::Fine(fine) => [&[FINE][..], &fine.encode()].concat(),
            Self::Failed { rank, host, cause } => {
                let (rank, host_len) = (*rank as u64, host.len() as u64);
                let head = [&[FAILED][..], &rank.to_le_bytes(), &host_len.to_le_bytes()].concat();
                [&head[..], host.as_bytes(), cause.as_bytes()].concat()
            }
        }
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        if kind == FINE {
            return T::decode(rest).map(Self::Fine);
        }
        let (rank, rest) = rest.split_first_chunk().map(|(b, r)| (u64::from_le_bytes(*b), r))?;
        let (host, rest) = rest.split_first_chunk().map(|(b, r)| (u64::from_le_bytes(*b), r))?;
        let (host, cause) = rest.split_at_checked(usize::try_from(host).ok()?)?;
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        Some(Self::Failed { rank: rank as usize, host: text(host), cause: text(cause) })
    }
}

/// Gives rank 0's news to all.
fn tell_all<T: Wire>(comm: &dyn Communicator, told: Option<Told<T>>) -> Result<Told<T>, Error> {
    let mut bytes = match (comm.rank(), &told) {
        (0, Some(told)) => told.encode(),
        _ => Vec::new(),
    };
    let mut len = (bytes.len() as u64).to_le_bytes();
    comm.broadcast(0, &mut len)?;
    bytes.resize(length(0, len)?, 0);
    comm.broadcast(0, &mut bytes)?;
    Told::decode(&bytes).ok_or_else(|| lost(0, "an answer about a checkpoint"))
}

fn send(comm: &dyn Communicator, to: usize, bytes: Vec<u8>) -> Result<(), Error> {
    let len = (bytes.len() as u64).to_le_bytes().to_vec();
    comm.send(to, TAG, len).wait(PATIENCE)?;
    comm.send(to, TAG, bytes).wait(PATIENCE)?;
    Ok(())
}

fn receive<T: Wire>(comm: &dyn Communicator, from: usize) -> Result<Told<T>, Error> {
    let bad = || lost(from, "news about a checkpoint");
    let len = comm.receive(from, TAG, 8).wait(PATIENCE)?;
    let len = length(from, len.try_into().map_err(|_| bad())?)?;
    let bytes = comm.receive(from, TAG, len).wait(PATIENCE)?;
    Told::decode(&bytes).ok_or_else(bad)
}

/// The length of a message of rank `from`, bounded before memory is taken.
fn length(from: usize, bytes: [u8; 8]) -> Result<usize, Error> {
    let len = u64::from_le_bytes(bytes);
    match len <= MAX_MESSAGE_BYTES {
        true => Ok(len as usize),
        false => Err(lost(from, "news about a checkpoint")),
    }
}

fn lost(rank: usize, wanted: &str) -> Error {
    let what = format!("expected {wanted}, and it sent something else");
    collective::Error::OutOfStep { rank, what }.into()
}

/// An error with its sources, on one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

impl Wire for () {
    fn encode(&self) -> Vec<u8> {
        Vec::new()
    }
    fn decode(_: &[u8]) -> Option<Self> {
        Some(())
    }
}

impl Wire for String {
    fn encode(&self) -> Vec<u8> {
        self.clone().into_bytes()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        String::from_utf8(bytes.to_vec()).ok()
    }
}

impl Wire for Vec<u64> {
    fn encode(&self) -> Vec<u8> {
        self.iter().flat_map(|word| word.to_le_bytes()).collect()
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks();
        rest.is_empty().then(|| words.iter().map(|&w| u64::from_le_bytes(w)).collect())
    }
}

impl Wire for Vec<Piece> {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len() * PIECE_WIRE_BYTES);
        for piece in self {
            bytes.extend(piece.tensor.to_le_bytes());
            bytes.extend(piece.offset.to_le_bytes());
            bytes.extend(piece.len.to_le_bytes());
            bytes.extend(piece.value);
        }
        bytes
    }
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (pieces, rest) = bytes.as_chunks::<PIECE_WIRE_BYTES>();
        let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).ok();
        let piece = |b: &[u8; PIECE_WIRE_BYTES]| {
            Some(Piece {
                tensor: u32::from_le_bytes(*b.first_chunk()?),
                offset: word(&b[4..12])?,
                len: word(&b[12..20])?,
                value: *b.last_chunk()?,
            })
        };
        rest.is_empty().then(|| pieces.iter().map(piece).collect())?
    }
}

const FINE: u8 = 0;
const FAILED: u8 = 1;

/// Bytes of a [`Piece`] in a message.
const PIECE_WIRE_BYTES: usize = 52;

/// Of these messages between two ranks.
const TAG: u32 = 4_000;

/// Between ranks that have just met at a barrier.
const PATIENCE: Duration = Duration::from_secs(60);

/// The pieces of ten thousand tensors are some 30 MB; more is a mistake.
const MAX_MESSAGE_BYTES: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_survive_the_way() {
        let piece = Piece { tensor: 7, offset: 1 << 40, len: 16 << 10, value: [9; 32] };
        let fine = Told::Fine(vec![piece, piece]);
        match Told::<Vec<Piece>>::decode(&fine.encode()) {
            Some(Told::Fine(back)) => assert_eq!(back, [piece, piece]),
            _ => panic!("not fine"),
        }
        let failed =
            Told::<()>::Failed { rank: 3, host: "höst".into(), cause: "a: b, no space".into() };
        let Some(Told::<()>::Failed { rank, host, cause }) = Told::decode(&failed.encode()) else {
            panic!("not a failure");
        };
        assert_eq!((rank, host.as_str(), cause.as_str()), (3, "höst", "a: b, no space"));
        for cut in 0..17 {
            assert!(Told::<()>::decode(&failed.encode()[..cut]).is_none(), "{cut}");
        }
        assert!(Vec::<Piece>::decode(&[0; 53]).is_none());
    }
}
