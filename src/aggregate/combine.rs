//! The aggregate of the blocks, by a solution.

use std::ops::Range;

use rayon::prelude::*;

use super::Contribution;
use super::Votes;
use super::block::Block;
use super::block::Fault;
use super::coordinate::Ballots;
use super::coordinate::Coordinates;
use super::coordinate::for_each_vote;
use super::exact_sum::power_of_two;
use crate::codec::CHUNK;
use crate::codec::Chunk;
use crate::codec::Layout;
use crate::codec::MAX_CODE;
use crate::codec::MAX_EXPONENT;
use crate::codec::Support;

/// How an aggregate is made.
#[derive(Clone, Debug)]
pub(super) enum How {
    /// A sum with one weight per vector.
    Sum(Vec<f64>),
    /// Every element by itself.
    Coordinates(Coordinates),
}

/// What was seen on the way, over some blocks.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub votes: Votes,
    /// Squared distances of the updates to the aggregate; only of coordinate-wise rules.
    pub squared: Vec<f64>,
    /// The first element that does not fit, of the blocks' own.
    pub overflow: Option<usize>,
}

/// Overwrites `out`, the elements of `blocks`, with the aggregate of `vectors`.
pub(super) fn combine(
    layout: &Layout,
    vectors: &[&dyn Contribution],
    how: &How,
    blocks: Range<usize>,
    out: &mut [f32],
) -> Result<Seen, Fault> {
    let mut parts = Vec::with_capacity(blocks.len());
    let mut rest = out;
    for index in blocks {
        let (mine, others) = rest.split_at_mut(layout.blocks()[index].len());
        parts.push((index, mine));
        rest = others;
    }
    assert!(rest.is_empty(), "elements of the blocks");
    let scratch = || (Block::new(vectors.len()), vec![0.0; CHUNK], Ballots::default());
    let done = parts.into_par_iter().map_init(scratch, |(block, sums, ballots), (index, out)| {
        let needed = |i: usize| match how {
            How::Sum(weights) => weights[i] != 0.0,
            How::Coordinates(_) => true,
        };
        block.read(vectors, needed, layout, index)?;
        let mut seen = match how {
            How::Sum(weights) => weighted(block, weights, sums, out),
            How::Coordinates(rule) => by_coordinate(block, rule, ballots, index, out)?,
        };
        let fits = |x: &f32| x.abs() <= LARGEST;
        seen.overflow = out.iter().position(|x| !fits(x));
        Ok((seen, out.len()))
    });
    let done: Vec<Result<(Seen, usize), Fault>> = done.collect();
    let fault = done.iter().fold(None, |first, one| Fault::first(first, one.clone().err()));
    match fault {
        Some(fault) => Err(fault),
        None => Ok(whole(done.into_iter().flatten())),
    }
}

/// What was seen over all blocks, in their order.
fn whole(blocks: impl Iterator<Item = (Seen, usize)>) -> Seen {
    let (mut whole, mut first) = (Seen::default(), 0);
    for (seen, elements) in blocks {
        whole.votes.add(seen.votes);
        whole.overflow = whole.overflow.or(seen.overflow.map(|at| first + at));
        whole.squared.resize(seen.squared.len().max(whole.squared.len()), 0.0);
        whole.squared.iter_mut().zip(seen.squared).for_each(|(sum, s)| *sum += s);
        first += elements;
    }
    whole
}

/// Every element is one f64 chain over the vectors, rounded once.
fn weighted(block: &Block, weights: &[f64], sums: &mut [f64], out: &mut [f32]) -> Seen {
    block.for_each_chunk(out.len(), |range, chunks| {
        let out = &mut out[range];
        let sums = &mut sums[..out.len()];
        sums.fill(0.0);
        for (i, chunk) in chunks {
            let scale = weights[*i] * power_of_two(chunk.exponent);
            for_each_vote(chunk, |place, value| sums[place] += scale * f64::from(value));
        }
        out.iter_mut().zip(sums).for_each(|(x, s)| *x = *s as f32);
    });
    Seen::default()
}

fn by_coordinate(
    block: &Block,
    rule: &Coordinates,
    ballots: &mut Ballots,
    index: usize,
    out: &mut [f32],
) -> Result<Seen, Fault> {
    let mut seen = Seen { squared: vec![0.0; rule.factors.len()], ..Seen::default() };
    let mut fault = None;
    block.for_each_chunk(out.len(), |range, chunks| {
        let out = &mut out[range];
        match rule.chunk(ballots, chunks, out) {
            Ok(votes) => seen.votes.add(votes),
            Err((vector, what)) => {
                fault = Fault::first(fault.take(), Some(Fault { vector, block: index, what }));
            }
        }
        let length = out.iter().fold(0.0, |sum, &x| sum + f64::from(x) * f64::from(x));
        for (i, chunk) in chunks {
            seen.squared[*i] += squared_distance(chunk, out, length);
        }
    });
    fault.map_or(Ok(seen), Err)
}

/// Of an update's chunk to the aggregate's, whose squared length is `length`: off the support they
/// differ by the aggregate.
fn squared_distance(chunk: &Chunk<'_>, out: &[f32], length: f64) -> f64 {
    let scale = power_of_two(chunk.exponent);
    let is_dense = chunk.support == Support::Dense;
    let mut sum = if is_dense { 0.0 } else { length };
    for_each_vote(chunk, |place, value| {
        let (x, y) = (scale * f64::from(value), f64::from(out[place]));
        sum += (x - y) * (x - y) - if is_dense { 0.0 } else { y * y };
    });
    sum.max(0.0)
}

/// The largest magnitude that codes can say.
const LARGEST: f32 = MAX_CODE as f32 * f32::from_bits(((MAX_EXPONENT + 127) as u32) << 23);
