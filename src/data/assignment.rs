//! Who trains on which sequences: a pure function that anyone computes in constant time.
//!
//! Of `P` peers each trains `H` inner steps a round, each step on a batch of `B` sequences in `S`
//! logical shards. Rounds count from the start of the training, or from where the numbers of peers
//! last changed. Peer `p` has in inner step `h` of round `r`, for row `j` of logical shard `s`, the
//! position
//!
//! ```text
//! x = ((first + (r * H + h) * P + p) * B) + s * B / S + j
//! ```
//!
//! It lies in epoch `x / n` of the `n` training sequences, and reads the sequence that the epoch's
//! [`Permutation`], keyed by the genesis seed, has at `x mod n`. Positions count up without a gap,
//! so no two peers, steps, shards or rows share one, and each epoch reads every sequence once. It is
//! the order of [`super::Loader`], whose step is `first + (r * H + h) * P + p`.

use super::Permutation;

/// The numbers that all peers agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// Key of the order: the genesis seed.
    pub seed: u64,
    /// Training sequences of the dataset, 1 to [`Permutation::MAX_LEN`].
    pub sequences: u64,
    /// Peers, 1 or more.
    pub peers: u64,
    /// Inner steps of a round, 1 or more.
    pub inner_steps: u64,
    /// Sequences of a peer's inner step, a multiple of `shards`.
    pub batch_sequences: u64,
    /// Logical shards of a batch, 1 or more.
    pub shards: u64,
    /// Peers' steps that were assigned before round 0: 0 at the start of a training.
    pub first: u64,
}

/// A place in the training: whose, when, and which part of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Round, from 0.
    pub round: u64,
    /// Which peer, from 0, in the order of identities.
    pub peer: u64,
    /// Inner step within the round, from 0.
    pub inner_step: u64,
    /// Logical shard of the batch, from 0.
    pub shard: u64,
}

/// A training sequence in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sample {
    /// How often all sequences have been read before.
    pub epoch: u64,
    /// Which training sequence.
    pub sequence: u64,
}

impl Assignment {
    /// Rows of one logical shard.
    pub fn rows(&self) -> Option<u64> {
        let rows = self.batch_sequences.checked_div(self.shards)?;
        (rows > 0 && rows * self.shards == self.batch_sequences).then_some(rows)
    }

    /// Row `row` of a logical shard. None where the numbers do not fit together, where there is no
    /// such place, or past what can be counted.
    pub fn sample(&self, place: Place, row: u64) -> Option<Sample> {
        let Place { round, peer, inner_step, shard } = place;
        let rows = self.rows()?;
        let inside = peer < self.peers
            && inner_step < self.inner_steps
            && shard < self.shards
            && row < rows
            && self.possible();
        if !inside {
            return None;
        }
        let step = round.checked_mul(self.inner_steps)?.checked_add(inner_step)?;
        let step = step.checked_mul(self.peers)?.checked_add(peer)?.checked_add(self.first)?;
        let position = step.checked_mul(self.batch_sequences)?.checked_add(shard * rows + row)?;
        let (epoch, at) = (position / self.sequences, position % self.sequences);
        let sequence = self.order(epoch)?.at(at)?;
        Some(Sample { epoch, sequence })
    }

    /// The rows of a logical shard, in order; none as for [`Self::sample`].
    pub fn samples(&self, place: Place) -> Option<Vec<Sample>> {
        // A row costs 16 bytes here: of a batch of numbers from outside no more is reserved.
        self.sample(place, 0)?;
        (0..self.rows()?).map(|row| self.sample(place, row)).collect()
    }

    /// The place and row that read a sequence in an epoch: the inverse of [`Self::sample`]. None
    /// for no sequence, or one that was read before `first`.
    pub fn place(&self, sample: Sample) -> Option<(Place, u64)> {
        let rows = self.rows()?;
        if !self.possible() {
            return None;
        }
        let at = self.order(sample.epoch)?.position_of(sample.sequence)?;
        let position = sample.epoch.checked_mul(self.sequences)?.checked_add(at)?;
        let step = (position / self.batch_sequences).checked_sub(self.first)?;
        let in_batch = position % self.batch_sequences;
        let (peer, step) = (step % self.peers, step / self.peers);
        let (round, inner_step) = (step / self.inner_steps, step % self.inner_steps);
        Some((Place { round, peer, inner_step, shard: in_batch / rows }, in_batch % rows))
    }

    fn possible(&self) -> bool {
        let sequences = (1..=Permutation::MAX_LEN).contains(&self.sequences);
        sequences && self.peers > 0 && self.inner_steps > 0
    }

    /// The order of an epoch; of more epochs than the key can tell apart there is none.
    fn order(&self, epoch: u64) -> Option<Permutation> {
        (epoch < 1 << 48).then(|| Permutation::new(self.sequences, self.seed, epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_reads_every_sequence_once() {
        for (sequences, peers, inner_steps, batch_sequences, shards) in
            [(97, 3, 4, 8, 2), (1000, 5, 3, 6, 3), (5, 2, 1, 4, 4), (64, 1, 8, 8, 1)]
        {
            let assignment = Assignment {
                seed: 11,
                sequences,
                peers,
                inner_steps,
                batch_sequences,
                shards,
                first: 0,
            };
            let mut counts = vec![vec![0; sequences as usize]; 4];
            let steps = 4 * sequences / batch_sequences / peers / inner_steps + 1;
            for round in 0..=steps {
                for inner_step in 0..inner_steps {
                    for peer in 0..peers {
                        for shard in 0..shards {
                            let place = Place { round, peer, inner_step, shard };
                            for (row, sample) in
                                assignment.samples(place).unwrap().into_iter().enumerate()
                            {
                                assert_eq!(assignment.place(sample), Some((place, row as u64)));
                                if let Some(epoch) = counts.get_mut(sample.epoch as usize) {
                                    epoch[sample.sequence as usize] += 1;
                                }
                            }
                        }
                    }
                }
            }
            assert!(counts.iter().flatten().all(|&n| n == 1), "{counts:?}");
        }
    }

    #[test]
    fn impossible_numbers_give_nothing() {
        let good = Assignment {
            seed: 1,
            sequences: 100,
            peers: 2,
            inner_steps: 3,
            batch_sequences: 4,
            shards: 2,
            first: 5,
        };
        let place = Place { round: 1, peer: 1, inner_step: 2, shard: 1 };
        assert!(good.sample(place, 1).is_some());
        assert_eq!(good.sample(place, 2), None);
        for bad in [
            Place { peer: 2, ..place },
            Place { inner_step: 3, ..place },
            Place { shard: 2, ..place },
            Place { round: u64::MAX, ..place },
        ] {
            assert_eq!(good.sample(bad, 0), None);
        }
        for bad in [
            Assignment { sequences: 0, ..good },
            Assignment { sequences: u64::MAX, ..good },
            Assignment { peers: 0, ..good },
            Assignment { inner_steps: 0, ..good },
            Assignment { shards: 0, ..good },
            Assignment { shards: 3, ..good },
            Assignment { batch_sequences: 0, ..good },
            Assignment { first: u64::MAX, ..good },
        ] {
            assert_eq!(bad.sample(place, 0), None, "{bad:?}");
            let _ = bad.place(Sample { epoch: 0, sequence: 0 });
        }
        assert_eq!(good.place(Sample { epoch: 0, sequence: 100 }), None);
        assert_eq!(good.place(Sample { epoch: u64::MAX, sequence: 0 }), None);
    }
}
