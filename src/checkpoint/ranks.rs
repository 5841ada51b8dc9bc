//! What the ranks tell each other about a checkpoint. Failures travel as data, so that a rank that
//! fails keeps nobody waiting, and all end with the same error.
//!
//! All goes from rank to rank, up and down a binary tree, since collectives have the patience of a
//! training step and a disk needs its own.

use std::time::Duration;

use super::Error;
use super::subtree::Piece;
use crate::collective;
use crate::collective::Communicator;
use crate::collective::host_name;

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
    // Up a binary tree, so that pieces of neighbours merge on the way and messages stay short.
    let (rank, mut step) = (comm.rank(), 1);
    while step < comm.size() {
        if rank % (2 * step) == step {
            // If that fails, so does waiting for the answer, in `tell_all`.
            let _ = send(comm, rank - step, told.encode());
            break;
        }
        if rank + step < comm.size() {
            // A rank that cannot be heard is a failure like any other: the rest shall hear of it.
            let other = receive(comm, rank + step);
            told = match (told, other.unwrap_or_else(|error| Told::of(comm, Err(error)))) {
                (Told::Fine(a), Told::Fine(b)) => Told::of(comm, merge(a, b)),
                (failed @ (Told::Failed { .. } | Told::Lost { .. }), _) | (_, failed) => failed,
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
    /// Rank `rank` failed by itself.
    Failed {
        rank: usize,
        host: String,
        cause: String,
    },
    /// Rank `rank` can no longer talk to some other.
    Lost {
        rank: usize,
        cause: String,
    },
}

impl<T: Wire> Told<T> {
    fn of(comm: &dyn Communicator, outcome: Result<T, Error>) -> Self {
        match outcome {
            Ok(fine) => Self::Fine(fine),
            Err(Error::OnRank { rank, host, cause }) => Self::Failed { rank, host, cause },
            Err(Error::Ranks(error)) => Self::Lost { rank: comm.rank(), cause: error.to_string() },
            Err(error) => {
                Self::Failed { rank: comm.rank(), host: host_name(), cause: chain(&error) }
            }
        }
    }

    fn outcome(self) -> Result<T, Error> {
        match self {
            Self::Fine(fine) => Ok(fine),
            Self::Failed { rank, host, cause } => Err(Error::OnRank { rank, host, cause }),
            Self::Lost { rank, cause } => {
                let what = format!("rank {rank}, over a checkpoint");
                Err(collective::Error::Transport { what, cause }.into())
            }
        }
    }

    fn encode(&self) -> Vec<u8> {
        let (kind, rank, host, cause) = match self {
            Self::Fine(fine) => return [&[FINE][..], &fine.encode()].concat(),
            Self::Failed { rank, host, cause } => (FAILED, *rank, host.as_str(), cause),
            Self::Lost { rank, cause } => (LOST, *rank, "", cause),
        };
        let numbers = [rank as u64, host.len() as u64].map(u64::to_le_bytes).concat();
        [&[kind], &numbers[..], host.as_bytes(), cause.as_bytes()].concat()
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
        let (rank, host, cause) = (rank as usize, text(host), text(cause));
        match kind {
            FAILED => Some(Self::Failed { rank, host, cause }),
            LOST => Some(Self::Lost { rank, cause }),
            _ => None,
        }
    }
}

/// Gives rank 0's news to all, down the same tree.
fn tell_all<T: Wire>(comm: &dyn Communicator, told: Option<Told<T>>) -> Result<Told<T>, Error> {
    let (rank, size) = (comm.rank(), comm.size());
    let mut step = size.next_power_of_two();
    let mut told = told.filter(|_| rank == 0);
    if rank > 0 {
        step = 1 << rank.trailing_zeros();
        // Who hears nothing tells that to those below it.
        told = Some(receive(comm, rank - step).unwrap_or_else(|error| Told::of(comm, Err(error))));
    }
    let told = told.ok_or_else(|| lost(rank, "news about a checkpoint"))?;
    let mut sent = Ok(());
    while step > 1 {
        step /= 2;
        if rank + step < size {
            // The others shall hear it though one is gone.
            sent = sent.and(send(comm, rank + step, told.encode()));
        }
    }
    match told {
        Told::Fine(fine) => sent.map(|()| Told::Fine(fine)),
        failed => Ok(failed),
    }
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
pub(super) fn chain(error: &dyn std::error::Error) -> String {
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
const LOST: u8 = 2;

/// Bytes of a [`Piece`] in a message.
const PIECE_WIRE_BYTES: usize = 52;

/// Of these messages between two ranks.
const TAG: u32 = 4_000;

/// How long a rank may write or read alone. That has nothing to do with the time of a step, to
/// which the communicator's own patience is fit. A rank that dies is noticed at once all the same.
const PATIENCE: Duration = Duration::from_secs(600);

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
        let lost = Told::<()>::Lost { rank: 2, cause: "gone".into() };
        assert!(matches!(Told::<()>::decode(&lost.encode()), Some(Told::Lost { rank: 2, .. })));
        assert_eq!((rank, host.as_str(), cause.as_str()), (3, "höst", "a: b, no space"));
        for cut in 0..17 {
            assert!(Told::<()>::decode(&failed.encode()[..cut]).is_none(), "{cut}");
        }
        assert!(Vec::<Piece>::decode(&[0; 53]).is_none());
    }
}
