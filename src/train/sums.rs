//! Gradients of a step while they are summed: a chain per shard, then the tree over shards
//! (docs/ARITHMETIC.md, section 15), bucket by bucket.

use super::Error;
use super::state::{Layout, held_shape};
use crate::model::Bucket;
use crate::model::Dims;
use crate::model::TiedHead;
use crate::ops::Kernels;
use crate::ops::elementwise;
use crate::ops::matmul::Start;
use crate::shard::Counter;
use crate::shard::Division;
use crate::shard::tree_values;
use crate::tensor::DType;
use crate::tensor::Tensor;

/// Buffers, and what is in them.
#[derive(Debug)]
pub(super) struct Sums {
    shapes: Vec<Bucket<Vec<usize>>>,
    /// Which pool a bucket's buffers come from and go back to.
    pool_of: Vec<usize>,
    pools: Vec<Vec<Bucket<Tensor>>>,
    /// Chains of the shard under way.
    open: Vec<Option<Bucket<Tensor>>>,
    /// Trees over the shards before it.
    counters: Vec<Counter<Bucket<Tensor>>>,
    /// Sums over all shards: whole tensors, or the slices of this rank.
    pub done: Vec<Option<Bucket<Tensor>>>,
    order: Order,
}

/// In which order a rank computes its micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// One micro-batch after the other through all layers: every bucket has a tree of its own.
    Depth,
    /// One layer after the other for all micro-batches: all blocks share the memory of one tree.
    Breadth,
}

impl Sums {
    /// Memory for the gradients of a stage whose data ranks compute `shards` shards each.
    pub fn new(
        kernels: &dyn Kernels,
        dims: &Dims,
        layout: &Layout,
        (division, shards, order): (Division, usize, Order),
    ) -> Result<Self, Error> {
        let shapes = Bucket::shapes(dims, layout.layers.clone(), TiedHead::Apart);
        let first_block = layout.block(layout.layers.start);
        let shared = |b: usize, shape: &Bucket<Vec<usize>>| match shape {
            Bucket::Block { .. } if order == Order::Breadth => first_block,
            _ => b,
        };
        let pool_of: Vec<_> = shapes.iter().enumerate().map(|(b, s)| shared(b, s)).collect();
        let zeros = |shape: &Bucket<Vec<usize>>| Bucket::zeros(kernels, shape.clone());
        let mut pools = Vec::new();
        for (b, shape) in shapes.iter().enumerate() {
            // Where blocks share, one more is on its way to the other ranks.
            let away = order == Order::Breadth && b == first_block && division.ranks > 1;
            let count = if pool_of[b] == b { tree_values(shards) + usize::from(away) } else { 0 };
            pools.push((0..count).map(|_| zeros(shape)).collect::<Result<_, _>>()?);
        }
        let slices = |shape: &Bucket<Vec<usize>>| {
            shape.clone().try_map(|_, shape| {
                let range = division.gradient(shape.iter().product());
                kernels.zeros(DType::F32, &held_shape(&shape, &range))
            })
        };
        let done = shapes.iter().map(|shape| match order {
            Order::Depth => Ok(None),
            Order::Breadth => slices(shape).map(Some),
        });
        Ok(Self {
            open: shapes.iter().map(|_| None).collect(),
            counters: shapes.iter().map(|_| Counter::default()).collect(),
            done: done.collect::<Result<_, _>>()?,
            pool_of,
            pools,
            shapes,
            order,
        })
    }

    /// The chain of bucket `b` over the shard under way, and where the next gradients of matrices
    /// start: at zero if the chain begins here, for which all else has been cleared.
    pub fn open(
        &mut self,
        kernels: &dyn Kernels,
        b: usize,
    ) -> Result<(&mut Bucket<Tensor>, Start), Error> {
        let mut start = Start::Existing;
        if self.open[b].is_none() {
            let mut bucket = match self.pools[self.pool_of[b]].pop() {
                Some(bucket) => bucket,
                // A step that failed has kept some.
                None => Bucket::zeros(kernels, self.shapes[b].clone())?,
            };
            if let (Bucket::Block { layer, .. }, Bucket::Block { layer: here, .. }) =
                (&mut bucket, &self.shapes[b])
            {
                *layer = *here;
            }
            bucket.begin(kernels)?;
            start = Start::Zero;
            self.open[b] = Some(bucket);
        }
        match &mut self.open[b] {
            Some(bucket) => Ok((bucket, start)),
            None => unreachable!("just opened"),
        }
    }

    /// Ends the chain of a shard. The sum over `shards` shards, after the last of them.
    pub fn close(
        &mut self,
        kernels: &dyn Kernels,
        b: usize,
        last: Last,
    ) -> Result<Option<Bucket<Tensor>>, Error> {
        let Some(leaf) = self.open[b].take() else { return Ok(None) };
        let used = &mut self.pools[self.pool_of[b]];
        self.counters[b].push(leaf, used, |left, right| left.add(kernels, right))?;
        Ok(if last == Last::Shard { self.counters[b].finish() } else { None })
    }

    /// A buffer of bucket `b` that has served.
    pub fn give_back(&mut self, b: usize, bucket: Bucket<Tensor>) {
        self.pools[self.pool_of[b]].push(bucket);
    }

    /// Copies what this rank owns of the sum `bucket`, and takes the buffer back.
    pub fn keep_slices(
        &mut self,
        kernels: &dyn Kernels,
        (b, division): (usize, &Division),
        bucket: Bucket<Tensor>,
    ) -> Result<(), Error> {
        if let Some(slices) = &mut self.done[b] {
            slices.as_mut().zip(bucket.as_ref()).try_map(|_, (slice, whole)| {
                let len = whole.shape().len();
                let range = division.gradient(len);
                let from = whole.view().reshape(&[len]).rows(range.clone());
                elementwise::copy(kernels, slice.view_mut().reshape(&[range.len()]), from)
            })?;
        }
        self.give_back(b, bucket);
        Ok(())
    }

    /// Takes back all buffers of the step before, whether it ended or failed.
    pub fn begin(&mut self) {
        for b in 0..self.shapes.len() {
            let pool = &mut self.pools[self.pool_of[b]];
            pool.extend(self.open[b].take());
            pool.extend(self.counters[b].abandon());
            if self.order == Order::Depth {
                pool.extend(self.done[b].take());
            }
        }
    }
}

/// Whether a shard is the rank's last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
    /// It is.
    Shard,
    /// There are more.
    No,
}
