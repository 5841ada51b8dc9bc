//! Outcomes that all ranks share: a failure of one is a failure of all, told once.

use super::Error;
use crate::collective::Communicator;

/// `mine` if every rank succeeded. Otherwise the lowest rank that failed gets its own error, as
/// [`Error::Shared`], and all others [`Error::Elsewhere`] with its words. Collective.
pub fn agree<T>(comm: &dyn Communicator, mine: Result<T, Error>) -> Result<T, Error> {
    if comm.size() == 1 {
        return mine;
    }
    let words = mine.as_ref().err().map(chain).unwrap_or_default();
    let mut note = [0; NOTE_BYTES];
    let len = floor_char_boundary(&words, NOTE_BYTES - 2);
    note[2..2 + len].copy_from_slice(&words.as_bytes()[..len]);
    // A failure without words is still one.
    let tag = if mine.is_err() { len + 1 } else { 0 };
    note[..2].copy_from_slice(&(tag as u16).to_le_bytes());
    let mut all = vec![0; NOTE_BYTES * comm.size()];
    comm.all_gather(&note, &mut all)?;
    for (rank, note) in all.chunks_exact(NOTE_BYTES).enumerate() {
        let tag = usize::from(u16::from_le_bytes([note[0], note[1]]));
        if tag == 0 {
            continue;
        }
        let what = String::from_utf8_lossy(&note[2..(1 + tag).clamp(2, NOTE_BYTES)]).into_owned();
        return match mine {
            Err(error) if rank == comm.rank() => Err(Error::Shared(Box::new(error))),
            _ => Err(Error::Elsewhere { rank, what }),
        };
    }
    mine
}

/// Whether `mine` is the same on every rank; if not, [`Error::Differs`] on all, which names those
/// that differ from the most frequent value. Collective.
pub fn same(comm: &dyn Communicator, what: &'static str, mine: &[u8; 32]) -> Result<(), Error> {
    let mut all = vec![0; mine.len() * comm.size()];
    comm.all_gather(mine, &mut all)?;
    let values: Vec<&[u8]> = all.chunks_exact(mine.len()).collect();
    let count = |value: &[u8]| values.iter().filter(|v| **v == value).count();
    // Of equally frequent values the one of the lowest rank counts as the right one.
    let right = values.iter().rev().max_by_key(|value| count(value)).copied().unwrap_or(mine);
    let odd: Vec<usize> = (0..values.len()).filter(|&rank| values[rank] != right).collect();
    if odd.is_empty() {
        return Ok(());
    }
    let alike = values.len() - odd.len();
    let alike = if alike > odd.len() { alike } else { 0 };
    Err(Error::Differs { what, ranks: odd, alike })
}

/// An error and its causes on one line.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let line = cause.to_string();
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        source = cause.source();
    }
    text
}

/// The longest start of `text` of at most `max` bytes that ends between characters.
fn floor_char_boundary(text: &str, max: usize) -> usize {
    (0..=max.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or(0)
}

/// Bytes that every rank tells of its outcome.
const NOTE_BYTES: usize = 1024;
