//! Which ranks share a host.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use super::{Error, Link};

/// The hosts of a job's ranks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts {
    /// For every rank, the first rank of its host.
    first: Vec<u64>,
    /// For every rank, the name of its host.
    names: Vec<String>,
    rank: usize,
}

impl Hosts {
    /// Of a job with one rank.
    pub fn single() -> Self {
        Self { first: vec![0], names: vec![host_name()], rank: 0 }
    }

    /// Asks all ranks of the link; collective. `patience` bounds the wait.
    pub fn gather(link: &dyn Link, patience: Duration) -> Result<Self, Error> {
        let mine = Identity::here().record();
        let records = exchange(link, mine, patience)?;
        let name = |record: &Record| {
            let end = record.iter().position(|b| *b == 0).unwrap_or(RECORD_BYTES);
            String::from_utf8_lossy(&record[..end]).into_owned()
        };
        let first = |record| records.iter().position(|other| other == record).unwrap_or(0) as u64;
        Ok(Self {
            first: records.iter().map(first).collect(),
            names: records.iter().map(name).collect(),
            rank: link.rank(),
        })
    }

    /// For every rank a number that tells its host: the first rank there.
    pub fn numbers(&self) -> &[u64] {
        &self.first
    }

    /// The name of the host of rank `rank`.
    pub fn name(&self, rank: usize) -> &str {
        &self.names[rank]
    }

    /// Number of hosts.
    pub fn count(&self) -> usize {
        self.first.iter().enumerate().filter(|(rank, first)| *rank as u64 == **first).count()
    }

    /// The ranks of every host, ascending; hosts by their first ranks.
    pub fn by_host(&self) -> Vec<Vec<usize>> {
        let ranks = 0..self.first.len();
        let of = |host| ranks.clone().filter(|rank| self.first[*rank] == host as u64).collect();
        ranks.clone().map(of).filter(|ranks: &Vec<usize>| !ranks.is_empty()).collect()
    }

    /// The ranks of this rank's host, itself among them, ascending.
    pub fn local_ranks(&self) -> Vec<usize> {
        let here = self.first[self.rank];
        (0..self.first.len()).filter(|rank| self.first[*rank] == here).collect()
    }

    /// This rank's index among [`Self::local_ranks`].
    pub fn local_rank(&self) -> usize {
        self.local_ranks().iter().position(|rank| *rank == self.rank).unwrap_or(0)
    }
}

/// What processes of one host have in common, and others have not.
struct Identity {
    name: String,
    boot: String,
    /// Device and inode of /dev/shm: containers of one machine whose shared memory is not the same are
    /// different hosts.
    shared_memory: (u64, u64),
}

type Record = [u8; RECORD_BYTES];

impl Identity {
    fn here() -> Self {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let shared_memory =
            fs::metadata("/dev/shm").map(|m| (m.dev(), m.ino())).unwrap_or_default();
        Self { name: host_name(), boot: boot.trim().to_owned(), shared_memory }
    }

    /// The name, zero bytes, and the rest: equal for one host only.
    fn record(&self) -> Record {
        let mut record = [0; RECORD_BYTES];
        let (device, inode) = self.shared_memory;
        let rest = format!("{} {device}:{inode}", self.boot);
        for (text, place) in [(&self.name, 0..NAME_BYTES), (&rest, NAME_BYTES + 1..RECORD_BYTES)] {
            let len = text.len().min(place.len());
            record[place.start..place.start + len].copy_from_slice(&text.as_bytes()[..len]);
        }
        record
    }
}

/// Every rank's record to every rank, by way of rank 0.
fn exchange(link: &dyn Link, mine: Record, patience: Duration) -> Result<Vec<Record>, Error> {
    let (size, len) = (link.size(), RECORD_BYTES);
    let all = if link.rank() == 0 {
        let receives: Vec<_> = (1..size).map(|rank| link.receive(rank, TAG, len)).collect();
        let mut all = mine.to_vec();
        for receive in receives {
            all.extend(receive.wait(patience)?);
        }
        let sends: Vec<_> = (1..size).map(|rank| link.send(rank, TAG, all.clone())).collect();
        for send in sends {
            send.wait(patience)?;
        }
        all
    } else {
        link.send(0, TAG, mine.to_vec()).wait(patience)?;
        link.receive(0, TAG, size * len).wait(patience)?
    };
    let record = |bytes: &[u8]| bytes.try_into().unwrap_or([0; RECORD_BYTES]);
    Ok(all.chunks_exact(len).map(record).collect())
}

/// The name of this host.
pub fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Longer than Linux allows a host's name to be.
const NAME_BYTES: usize = 64;
/// Of a name, a boot id (36) and two numbers.
const RECORD_BYTES: usize = 160;
/// Of these messages; nothing else is under way yet.
const TAG: u32 = 0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::channels;

    #[test]
    fn ranks_of_one_process_share_a_host() {
        let threads: Vec<_> = channels(3)
            .into_iter()
            .map(|link| {
                std::thread::spawn(move || Hosts::gather(link.as_ref(), Duration::from_secs(20)))
            })
            .collect();
        for (rank, thread) in threads.into_iter().enumerate() {
            let hosts = thread.join().unwrap().unwrap();
            assert_eq!(hosts.numbers(), [0, 0, 0]);
            assert_eq!((hosts.count(), hosts.local_rank()), (1, rank));
            assert_eq!(hosts.local_ranks(), [0, 1, 2]);
            assert_eq!(hosts.name(2), host_name());
        }
    }

    #[test]
    fn ranks_are_local_to_their_host_only() {
        let names = ["a", "b", "a", "b"].map(String::from).to_vec();
        let hosts = Hosts { first: vec![0, 1, 0, 1], names, rank: 3 };
        assert_eq!((hosts.count(), hosts.local_rank()), (2, 1));
        assert_eq!(hosts.local_ranks(), [1, 3]);
        assert_eq!(hosts.by_host(), [[0, 2], [1, 3]]);
    }

    #[test]
    fn a_host_is_its_name_boot_and_shared_memory() {
        let identity = |name: &str, boot: &str, inode| Identity {
            name: name.into(),
            boot: boot.into(),
            shared_memory: (1, inode),
        };
        let record = identity("n1", "b", 1).record();
        assert_eq!(record, identity("n1", "b", 1).record());
        for other in [identity("n2", "b", 1), identity("n1", "c", 1), identity("n1", "b", 2)] {
            assert_ne!(record, other.record());
        }
        // Too long a name is cut, not refused.
        assert_eq!(identity(&"x".repeat(300), "b", 1).record()[NAME_BYTES], 0);
    }
}
