//! The header before the bytes of every message of a collective.

use std::time::Duration;

use bytemuck::{Pod, Zeroable};

use super::Error;
use super::call::Call;

/// A header, with the payload in it if that is short. Ranks of one job have one byte order; another
/// one shows in the magic.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Frame {
    magic: u64,
    /// Which group it belongs to.
    pub context: u64,
    /// What the sender is in.
    pub call: Call,
    /// Ranks whose values are summed in the payload; of other calls 1.
    pub contributors: u64,
    /// Length of the payload.
    pub bytes: u64,
    /// 0, or why the sender gave up: a number of [`Verdict`].
    verdict: u32,
    culprit: u32,
    inline: [u8; INLINE],
}

/// Payloads up to here travel in the header.
pub(super) const INLINE: usize = 128;

/// Length of a header.
pub(super) const FRAME: usize = size_of::<Frame>();

/// The last byte is the version of the header and of how collectives exchange.
const MAGIC: u64 = u64::from_ne_bytes(*b"nshard\0\x01");

impl Frame {
    /// The header of `bytes` payload bytes.
    pub fn new(context: u64, call: &Call, contributors: usize, bytes: usize) -> Self {
        let (contributors, bytes) = (contributors as u64, bytes as u64);
        let (magic, call, inline) = (MAGIC, *call, [0; INLINE]);
        Self { magic, context, call, contributors, bytes, verdict: 0, culprit: 0, inline }
    }

    /// The header by which the sender tells that it gave up, and why.
    pub fn failure(context: u64, call: &Call, error: &Error) -> Self {
        let verdict = Verdict::of(error);
        let mut frame = Self { verdict: verdict.kind, ..Self::new(context, call, 0, 0) };
        frame.culprit = verdict.rank as u32;
        let text = verdict.what.as_bytes();
        let len = text.len().min(INLINE);
        frame.inline[..len].copy_from_slice(&text[..len]);
        frame
    }

    /// Where a short payload lies.
    pub fn inline(&mut self) -> &mut [u8] {
        let len = (self.bytes as usize).min(INLINE);
        &mut self.inline[..len]
    }

    /// Whether the payload lies in the header.
    pub fn is_whole(&self) -> bool {
        self.bytes as usize <= INLINE
    }

    /// The header in `bytes`, which came from `rank`; an error if it is not of this group and call
    /// or tells of a failure.
    pub fn parse(bytes: &[u8], rank: usize, context: u64, call: &Call) -> Result<Self, Error> {
        let frame: Self = bytemuck::try_pod_read_unaligned(bytes)
            .ok()
            .filter(|f: &Self| f.magic == MAGIC)
            .ok_or_else(|| Error::OutOfStep {
                rank,
                what: "its message has no header of this version: another binary?".into(),
            })?;
        if frame.context != context {
            let what = "its message belongs to another group of ranks".into();
            return Err(Error::OutOfStep { rank, what });
        }
        if frame.verdict != 0 {
            let text = String::from_utf8_lossy(&frame.inline);
            let what = text.trim_end_matches('\0').to_owned();
            let (kind, culprit) = (frame.verdict, frame.culprit as usize);
            return Err(Verdict { kind, rank: culprit, what }.error(rank, &frame.call, call));
        }
        call.check(rank, &frame.call)?;
        Ok(frame)
    }
}

/// An error as it travels to ranks that would otherwise wait for one that gave up.
pub(super) struct Verdict {
    /// Above 0.
    pub kind: u32,
    /// The culprit.
    pub rank: usize,
    /// What it did.
    pub what: String,
}

impl Verdict {
    /// `error` for the others.
    pub fn of(error: &Error) -> Self {
        let (kind, rank, what) = match error {
            Error::OutOfStep { rank, what } => (1, *rank, what.clone()),
            Error::Lost { rank } => (2, *rank, String::new()),
            Error::Silent { ranks, waited } => {
                (3, ranks.first().copied().unwrap_or(0), waited.as_millis().to_string())
            }
            other => (4, 0, other.to_string()),
        };
        Self { kind, rank, what }
    }

    /// What to make of it: rank `from` gave up in call `theirs`, while this rank is in `mine`.
    pub fn error(self, from: usize, theirs: &Call, mine: &Call) -> Error {
        // A rank that was in another call blames the wrong ones. One that gave up in an earlier
        // call does not.
        if theirs.sequence >= mine.sequence
            && let Err(error) = mine.check(from, theirs)
        {
            return error;
        }
        let Self { kind, rank, what } = self;
        match kind {
            1 => Error::OutOfStep { rank, what },
            2 => Error::Lost { rank },
            3 => {
                let waited = Duration::from_millis(what.parse().unwrap_or(0));
                Error::Silent { ranks: vec![rank], waited }
            }
            _ => Error::Transport { what: format!("rank {from} gave up"), cause: what },
        }
    }
}
