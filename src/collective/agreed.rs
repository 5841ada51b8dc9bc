//! What goes wrong on one rank, told to all while they can still choose.

use super::{Communicator, Error};

/// What the first rank that has something to tell tells; none if none has. Collective.
pub(super) fn first_told(
    comm: &dyn Communicator,
    mine: Option<String>,
) -> Result<Option<String>, Error> {
    let mut record = vec![0; TOLD_BYTES];
    if let Some(text) = mine {
        // Cut where a letter ends; the zeros after it are no part of it.
        let whole = |len: &usize| text.is_char_boundary(*len);
        let len = (0..=text.len().min(TOLD_BYTES - 1)).rev().find(whole).unwrap_or(0);
        record[0] = 1;
        record[1..=len].copy_from_slice(&text.as_bytes()[..len]);
    }
    let mut all = vec![0; TOLD_BYTES * comm.size()];
    comm.all_gather(&record, &mut all)?;
    let told = all.chunks_exact(TOLD_BYTES).find(|record| record[0] == 1);
    let text = |record: &[u8]| String::from_utf8_lossy(&record[1..]).trim_matches('\0').to_owned();
    Ok(told.map(text))
}

/// Of one rank.
const TOLD_BYTES: usize = 768;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::threads;

    #[test]
    fn the_first_to_tell_is_heard_by_all() {
        let long = "ü".repeat(TOLD_BYTES);
        std::thread::scope(|scope| {
            for comm in threads(4) {
                let long = long.clone();
                scope.spawn(move || {
                    assert_eq!(first_told(comm.as_ref(), None).unwrap(), None);
                    let rank = comm.rank();
                    let mine = (rank >= 2).then(|| format!("rank {rank} has no GPU"));
                    let told = first_told(comm.as_ref(), mine).unwrap();
                    assert_eq!(told.as_deref(), Some("rank 2 has no GPU"));
                    let told = first_told(comm.as_ref(), (rank == 3).then_some(long)).unwrap();
                    assert!(told.unwrap().chars().all(|letter| letter == 'ü'));
                });
            }
        });
    }
}
