//! Median and trimmed mean of every element by itself, over those who voted.
//!
//! An element outside of a sparse update's support is no vote for zero: the peer said nothing, and
//! what it would have said waits in its residual. So the rule is applied to the m voters only, and
//! the result is multiplied by m/P, P being all: an element that every peer sends in turn then moves
//! as far as under the mean. Fewer than 2f + 1 voters are not heard (the element is zero): up to f
//! of m may be liars, and below 2f + 1 they could be half, or all. So liars alone never set an
//! element, and with others they leave it between honest votes.
//!
//! Where updates pick their elements apart, that silences most of what they say (the counts are in
//! `Outcome`): these rules are for dense updates, or shared supports.

use std::ops::Range;

use super::block::What;
use super::exact_sum::power_of_two;
use crate::codec::Chunk;
use crate::codec::Support;

/// What is computed for every element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Middle {
    /// The median; of an even number, the mean of the two in the middle.
    Median,
    /// The mean without the f lowest and the f highest.
    Trimmed,
}

/// The rule, and the points it is applied to: means of clipped updates.
#[derive(Clone, Debug)]
pub(super) struct Coordinates {
    pub middle: Middle,
    pub faulty: usize,
    pub rule: &'static str,
    /// The updates of every point.
    pub groups: Vec<Vec<usize>>,
    /// What each update is multiplied with.
    pub factors: Vec<f64>,
    /// Whether an update is in several points: then all must be dense.
    pub overlap: bool,
    network: Vec<(usize, usize)>,
}

/// How many elements had a voter, and how many had enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Votes {
    /// Elements of which anybody spoke.
    pub spoken: u64,
    /// Elements with at least 2f + 1 voters.
    pub counted: u64,
}

/// Scratch of one thread.
#[derive(Default)]
pub(super) struct Ballots {
    /// By element: voters, and the last of them.
    voters: Vec<u16>,
    last: Vec<u32>,
    /// By element: its slot, from 1; 0 for an element with too few voters.
    slots: Vec<u32>,
    /// Row-major (slot, point): sums and numbers of votes.
    sums: Vec<f64>,
    counts: Vec<u16>,
    tile: Vec<f64>,
}

impl Coordinates {
    pub fn new(
        middle: Middle,
        rule: &'static str,
        faulty: usize,
        groups: Vec<Vec<usize>>,
        factors: Vec<f64>,
    ) -> Self {
        let members: usize = groups.iter().map(Vec::len).sum();
        let network = network(groups.len());
        let overlap = members > factors.len();
        Self { middle, rule, faulty, groups, factors, overlap, network }
    }

    /// Overwrites `out` with the elements of one chunk of all updates, or says which update it
    /// cannot take.
    pub fn chunk(
        &self,
        ballots: &mut Ballots,
        chunks: &[(usize, Chunk<'_>)],
        out: &mut [f32],
    ) -> Result<Votes, (usize, What)> {
        let sparse = chunks.iter().find(|(_, chunk)| chunk.support != Support::Dense);
        match sparse {
            None => Ok(self.dense(ballots, chunks, out)),
            Some((vector, _)) if self.overlap => Err((*vector, What::Sparse(self.rule))),
            Some(_) => Ok(self.sparse(ballots, chunks, out)),
        }
    }

    /// Every point votes on every element: a sorting network over rows of elements.
    fn dense(
        &self,
        ballots: &mut Ballots,
        chunks: &[(usize, Chunk<'_>)],
        out: &mut [f32],
    ) -> Votes {
        let points = self.groups.len();
        let all = out.len() as u64;
        ballots.tile.resize(points * TILE, 0.0);
        for (tile, out) in out.chunks_mut(TILE).enumerate() {
            let columns = tile * TILE..tile * TILE + out.len();
            for (row, group) in ballots.tile.chunks_mut(TILE).zip(&self.groups) {
                self.mean_of(group, chunks, columns.clone(), &mut row[..out.len()]);
            }
            for &(low, high) in &self.network {
                let (left, right) = ballots.tile.split_at_mut(high * TILE);
                let pairs = left[low * TILE..][..TILE].iter_mut().zip(&mut right[..TILE]);
                pairs.for_each(|(a, b)| {
                    (*a, *b) = if *b < *a { (*b, *a) } else { (*a, *b) };
                });
            }
            let middle = self.kept(points);
            let mut sums = [0.0; TILE];
            for row in ballots.tile.chunks(TILE).take(middle.end).skip(middle.start) {
                sums.iter_mut().zip(row).for_each(|(s, x)| *s += x);
            }
            let kept = middle.len() as f64;
            out.iter_mut().zip(sums).for_each(|(x, s)| *x = (s / kept) as f32);
        }
        Votes { spoken: all, counted: all }
    }

    fn mean_of(
        &self,
        group: &[usize],
        chunks: &[(usize, Chunk<'_>)],
        columns: Range<usize>,
        row: &mut [f64],
    ) {
        row.fill(0.0);
        for &i in group {
            let chunk = &chunks[i].1;
            let scale = self.factors[i] * power_of_two(chunk.exponent);
            let values = &chunk.values[columns.clone()];
            row.iter_mut().zip(values).for_each(|(x, &v)| *x += scale * f64::from(v));
        }
        if group.len() > 1 {
            row.iter_mut().for_each(|x| *x /= group.len() as f64);
        }
    }

    /// Points vote on some elements only, and a point on those of which one of its updates speaks.
    fn sparse(
        &self,
        ballots: &mut Ballots,
        chunks: &[(usize, Chunk<'_>)],
        out: &mut [f32],
    ) -> Votes {
        let votes = self.register(ballots, chunks, out.len());
        self.collect(ballots, chunks, votes.counted as usize);
        let points = self.groups.len();
        let mut column = Vec::with_capacity(points);
        for (x, &slot) in out.iter_mut().zip(&ballots.slots) {
            *x = 0.0;
            if slot == 0 {
                continue;
            }
            let slot = (slot as usize - 1) * points..slot as usize * points;
            column.clear();
            let votes = ballots.sums[slot.clone()].iter().zip(&ballots.counts[slot]);
            column.extend(votes.filter(|(_, n)| **n > 0).map(|(s, &n)| s / f64::from(n)));
            column.sort_unstable_by(f64::total_cmp);
            let kept = self.kept(column.len());
            let mean = column[kept.clone()].iter().fold(0.0, |sum, v| sum + v) / kept.len() as f64;
            *x = (mean * (column.len() as f64 / points as f64)) as f32;
        }
        votes
    }

    /// Counts the voters of every element and gives a slot to those with enough.
    fn register(
        &self,
        ballots: &mut Ballots,
        chunks: &[(usize, Chunk<'_>)],
        elements: usize,
    ) -> Votes {
        ballots.voters.clear();
        ballots.voters.resize(elements, 0);
        ballots.last.clear();
        ballots.last.resize(elements, 0);
        for (point, group) in self.groups.iter().enumerate() {
            let point = point as u32 + 1;
            for &i in group {
                for_each_vote(&chunks[i].1, |place, _| {
                    if ballots.last[place] != point {
                        ballots.last[place] = point;
                        ballots.voters[place] += 1;
                    }
                });
            }
        }
        let mut votes = Votes::default();
        let needed = 2 * self.faulty + 1;
        ballots.slots.clear();
        ballots.slots.extend(ballots.voters.iter().map(|&n| {
            votes.spoken += u64::from(n > 0);
            let is_heard = usize::from(n) >= needed;
            votes.counted += u64::from(is_heard);
            if is_heard { votes.counted as u32 } else { 0 }
        }));
        votes
    }

    fn collect(&self, ballots: &mut Ballots, chunks: &[(usize, Chunk<'_>)], slots: usize) {
        let points = self.groups.len();
        ballots.sums.clear();
        ballots.sums.resize(slots * points, 0.0);
        ballots.counts.clear();
        ballots.counts.resize(slots * points, 0);
        for (point, group) in self.groups.iter().enumerate() {
            for &i in group {
                let scale = self.factors[i] * power_of_two(chunks[i].1.exponent);
                for_each_vote(&chunks[i].1, |place, value| {
                    if let Some(slot) = ballots.slots[place].checked_sub(1) {
                        let at = slot as usize * points + point;
                        ballots.sums[at] += scale * f64::from(value);
                        ballots.counts[at] += 1;
                    }
                });
            }
        }
    }

    /// Which of `votes` votes, in order of size, are averaged.
    fn kept(&self, votes: usize) -> Range<usize> {
        match self.middle {
            Middle::Median => (votes - 1) / 2..votes / 2 + 1,
            Middle::Trimmed => self.faulty..votes - self.faulty,
        }
    }
}

impl Votes {
    pub(super) fn add(&mut self, other: Self) {
        self.spoken += other.spoken;
        self.counted += other.counted;
    }
}

/// Calls `vote` with place and code of all elements of the support.
pub(super) fn for_each_vote(chunk: &Chunk<'_>, mut vote: impl FnMut(usize, i32)) {
    match chunk.support {
        Support::Dense => chunk.values.iter().enumerate().for_each(|(p, &v)| vote(p, v)),
        Support::Sparse(places) => {
            places.iter().zip(chunk.values).for_each(|(&p, &v)| vote(usize::from(p), v));
        }
    }
}

/// Batcher's merge-exchange network for `n` rows (Knuth, TAOCP 3, 5.2.2, algorithm M).
fn network(n: usize) -> Vec<(usize, usize)> {
    let mut comparators = Vec::new();
    let top = n.next_power_of_two() / 2;
    let mut p = top;
    while p > 0 {
        let (mut q, mut r, mut d) = (top, 0, p);
        loop {
            let fits = (0..n.saturating_sub(d)).filter(|i| i & p == r);
            comparators.extend(fits.map(|i| (i, i + d)));
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
    comparators
}

/// Columns sorted at once.
const TILE: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// A network that sorts all zeros and ones sorts everything (Knuth, theorem Z).
    #[test]
    fn the_network_sorts() {
        for n in 0..=16usize {
            let network = network(n);
            for bits in 0..1u32 << n {
                let mut row: Vec<u32> = (0..n).map(|i| bits >> i & 1).collect();
                for &(low, high) in &network {
                    assert!(low < high && high < n);
                    if row[high] < row[low] {
                        row.swap(low, high);
                    }
                }
                assert!(row.is_sorted(), "{n} {bits:b}");
            }
        }
        assert_eq!(network(16).len(), 63);
        assert_eq!(network(64).len(), 543);
    }
}
