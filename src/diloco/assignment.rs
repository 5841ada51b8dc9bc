//! Which part of the data a cluster trains on.

use serde::Deserialize;
use serde::Serialize;

/// Place `peer` among `peers` clusters that divide the data's steps.
///
/// With M clusters, cluster p reads for inner step `since + t` what a single trainer's loader has at
/// step `first + t·M + p`: no two clusters, and no two steps, read the same batch (within an epoch).
/// When clusters come or go, [`Self::next`] goes on behind everything that was assigned before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Assignment {
    /// This cluster, from 0, in the order of identities.
    pub peer: u64,
    /// All.
    pub peers: u64,
    /// The inner step from which on this holds.
    pub since: u64,
    /// The first loader step of that inner step.
    pub first: u64,
}

impl Assignment {
    /// From the beginning of a training.
    ///
    /// # Panics
    /// If `peer` is none of the `peers` (a bug of the caller).
    pub fn new(peer: u64, peers: u64) -> Self {
        assert!(peer < peers, "cluster {peer} of {peers}");
        Self { peer, peers, since: 0, first: 0 }
    }

    /// The loader step that is read for inner step `step` (0 is the first). None before the
    /// assignment holds, or past what can be counted.
    pub fn loader_step(&self, step: u64) -> Option<u64> {
        let rows = step.checked_sub(self.since)?.checked_mul(self.peers)?;
        self.first.checked_add(rows)?.checked_add(self.peer)
    }

    /// The assignment from inner step `since` on, for cluster `peer` of `peers`. All clusters must
    /// change at the same inner step. None if that lies before this one, or past what can be counted.
    pub fn next(&self, since: u64, peer: u64, peers: u64) -> Option<Self> {
        let rows = since.checked_sub(self.since)?.checked_mul(self.peers)?;
        let first = self.first.checked_add(rows)?;
        (peer < peers).then_some(Self { peer, peers, since, first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_batch_is_read_twice_and_none_is_left_out() {
        // Inner steps with the same clusters, and how many of them.
        let mut read = BTreeSet::new();
        let mut sample = Assignment::new(0, 3);
        let mut since = 0;
        for (steps, peers) in [(5, 3), (2, 1), (7, 8), (1, 2)] {
            sample = sample.next(since, 0, peers).expect("counts");
            for peer in 0..peers {
                let mine = sample.next(since, peer, peers).expect("counts");
                for step in since..since + steps {
                    assert!(read.insert(mine.loader_step(step).expect("counts")));
                }
                assert_eq!(since.checked_sub(1).and_then(|s| mine.loader_step(s)), None);
            }
            since += steps;
        }
        assert_eq!(read.into_iter().collect::<Vec<_>>(), (0..15 + 2 + 56 + 2).collect::<Vec<_>>());
    }

    #[test]
    fn alone_it_is_the_loader_itself() {
        let alone = Assignment::new(0, 1);
        assert_eq!([0, 1, 77].map(|t| alone.loader_step(t)), [Some(0), Some(1), Some(77)]);
        assert_eq!(Assignment::new(1, 2).loader_step(u64::MAX / 2), Some(u64::MAX));
        assert_eq!(Assignment::new(1, 2).loader_step(u64::MAX), None);
    }
}
