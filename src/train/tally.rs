//! What all ranks must know of a step before any weight moves: one small all-gather.
//!
//! Every rank gives its vote, the losses of its shards, and the sums of squares of the blocks of
//! gradient that it owns. Then every rank adds all of them in canonical order
//! (docs/ARITHMETIC.md, sections 11 and 15), so all take the same decisions.

use std::ops::Range;

use super::Error;
use crate::collective::Communicator;
use crate::model::Bucket;
use crate::model::Dims;
use crate::model::TiedHead;
use crate::optim::Norm;
use crate::shard::BLOCK_ELEMENTS;
use crate::shard::parts_of;
use crate::shard::tree_sum;

/// Who tells what.
#[derive(Debug)]
pub(super) struct Tally {
    /// In canonical order: a world rank, and how many blocks it has of the next tensor.
    order: Vec<(usize, usize)>,
    /// Blocks of each world rank.
    blocks: Vec<usize>,
    /// Shards of each rank.
    shards: usize,
    /// World ranks of the last stage, which have the losses.
    last_stage: Range<usize>,
}

/// What all ranks together say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Total {
    /// The OR of all votes.
    pub votes: u64,
    /// Sum of the losses of all tokens.
    pub loss: f64,
    /// Global norm of the gradient.
    pub norm: Norm,
}

impl Tally {
    /// For stages of the blocks `stages`, each with `data_ranks` ranks of `shards` shards.
    pub fn new(dims: &Dims, stages: &[Range<usize>], data_ranks: usize, shards: usize) -> Self {
        let mut order = Vec::new();
        let mut blocks = vec![0; stages.len() * data_ranks];
        for (stage, layers) in stages.iter().enumerate() {
            for bucket in Bucket::shapes(dims, layers.clone(), TiedHead::Shared) {
                for (_, shape) in bucket.into_named() {
                    let parts = parts_of(shape.iter().product(), data_ranks);
                    for rank in 0..data_ranks {
                        let count = parts.of(rank).len().div_ceil(BLOCK_ELEMENTS);
                        let rank = stage * data_ranks + rank;
                        order.push((rank, count));
                        blocks[rank] += count;
                    }
                }
            }
        }
        let last_stage = (stages.len() - 1) * data_ranks..stages.len() * data_ranks;
        Self { order, blocks, shards, last_stage }
    }

    /// Blocks of world rank `rank`.
    pub fn blocks(&self, rank: usize) -> usize {
        self.blocks[rank]
    }

    /// Tells `mine` and hears all. Collective over the world.
    pub fn total(
        &self,
        world: &dyn Communicator,
        vote: u64,
        losses: &[f64],
        sums: &[f32],
    ) -> Result<Total, Error> {
        let most = self.blocks.iter().max().copied().unwrap_or(0);
        let (losses_at, sums_at) = (8, 8 + 8 * self.shards);
        let mut mine = vec![0u8; sums_at + 4 * most];
        mine[..losses_at].copy_from_slice(&vote.to_le_bytes());
        put(&mut mine[losses_at..], losses.iter().map(|x| x.to_le_bytes()));
        put(&mut mine[sums_at..], sums.iter().map(|x| x.to_le_bytes()));
        let mut all = vec![0u8; mine.len() * self.blocks.len()];
        world.all_gather(&mine, &mut all)?;
        let told: Vec<&[u8]> = all.chunks_exact(mine.len()).collect();
        let votes = told.iter().fold(0, |votes, m| votes | u64::from_le_bytes(word(m)));
        let losses: Vec<f64> = told[self.last_stage.clone()]
            .iter()
            .flat_map(|m| m[losses_at..sums_at].chunks_exact(8))
            .map(|bytes| f64::from_le_bytes(word(bytes)))
            .collect();
        let sums: Vec<Vec<f32>> = told
            .iter()
            .map(|m| m[sums_at..].chunks_exact(4).map(|b| f32::from_le_bytes(word(b))).collect())
            .collect();
        let mut next = vec![0; sums.len()];
        let in_order = self.order.iter().map(|&(rank, count)| {
            let first = next[rank];
            next[rank] += count;
            &sums[rank][first..first + count]
        });
        Ok(Total { votes, norm: Norm::of_blocks(in_order), loss: tree_sum(&losses) })
    }
}

fn put<const N: usize>(to: &mut [u8], words: impl Iterator<Item = [u8; N]>) {
    to.chunks_exact_mut(N).zip(words).for_each(|(to, word)| to.copy_from_slice(&word));
}

/// The first bytes of `bytes`, which are there.
fn word<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut word = [0; N];
    word.copy_from_slice(&bytes[..N]);
    word
}
