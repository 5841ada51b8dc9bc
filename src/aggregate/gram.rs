//! Inner products of all updates with one another, exact.

use std::ops::Range;

use rayon::prelude::*;

use super::Contribution;
use super::Error;
use super::ExactSum;
use super::block::Block;
use super::block::Fault;
use super::products::Pairs;
use super::products::Products;
use crate::codec::Layout;

/// The Gram matrix of several vectors, as exact integers. Those of different blocks (shards, ranks)
/// merge in any order to that of the whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gram {
    vectors: usize,
    /// Lower triangle, row by row.
    products: Vec<ExactSum>,
}

impl Gram {
    /// That of `vectors` vectors without elements.
    pub fn new(vectors: usize) -> Self {
        Self { vectors, products: vec![ExactSum::ZERO; vectors * (vectors + 1) / 2] }
    }

    /// That of some blocks of `vectors`; threads share the blocks. With [`Pairs::Own`] only the
    /// squares are summed. Memory per thread: one decoded block of every vector, and the matrix.
    pub(super) fn of_blocks(
        layout: &Layout,
        vectors: &[&dyn Contribution],
        blocks: Range<usize>,
        pairs: Pairs,
    ) -> Result<Self, Fault> {
        let n = vectors.len();
        let start = || Partial { gram: Self::new(n), block: None, fault: None };
        let sum = blocks.into_par_iter().fold(start, |mut partial, index| {
            let (block, products) =
                partial.block.get_or_insert_with(|| (Block::new(n), Products::new(n)));
            match block.read(vectors, |_| true, layout, index) {
                Ok(()) => block.for_each_chunk(layout.blocks()[index].len(), |_, chunks| {
                    products.add_chunk(chunks, pairs, &mut partial.gram.products);
                }),
                Err(fault) => partial.fault = Fault::first(partial.fault.take(), Some(fault)),
            }
            partial
        });
        let whole = sum.reduce(start, |mut a, b| {
            a.gram.merge(&b.gram);
            Partial { gram: a.gram, block: None, fault: Fault::first(a.fault, b.fault) }
        });
        whole.fault.map_or(Ok(whole.gram), Err)
    }

    /// How many vectors.
    pub fn vectors(&self) -> usize {
        self.vectors
    }

    /// Adds the matrix of other elements of the same vectors.
    ///
    /// # Panics
    /// If the numbers of vectors differ.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.vectors, other.vectors, "vectors of a Gram matrix");
        self.products.iter_mut().zip(&other.products).for_each(|(sum, other)| sum.merge(other));
    }

    /// The inner product of two vectors, exact.
    pub fn product(&self, i: usize, j: usize) -> &ExactSum {
        &self.products[at(i, j)]
    }

    /// The Euclidean norm: of the square, rounded once, the rounded root.
    pub fn norm(&self, i: usize) -> f64 {
        self.product(i, i).to_f64().sqrt()
    }

    /// The squared distance of two vectors, rounded once.
    pub fn squared_distance(&self, i: usize, j: usize) -> f64 {
        if i == j {
            return 0.0;
        }
        let mut sum = self.product(i, i).clone();
        sum.merge(self.product(j, j));
        sum.add_multiple(self.product(i, j), -2);
        sum.to_f64()
    }

    /// For other ranks: the number of vectors (u32), then the sums; all little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = (self.vectors as u32).to_le_bytes().to_vec();
        self.products.iter().for_each(|sum| bytes.extend(sum.to_bytes()));
        bytes
    }

    /// Reads [`Self::to_bytes`] of a matrix of `vectors` vectors.
    pub fn from_bytes(vectors: usize, bytes: &[u8]) -> Result<Self, Error> {
        let wrong = Error::Bytes { what: "a Gram matrix of another number of vectors" };
        let Some((count, rest)) = bytes.split_first_chunk::<4>() else { return Err(wrong) };
        let (sums, excess) = rest.as_chunks::<{ ExactSum::BYTES }>();
        let is_right = u32::from_le_bytes(*count) as usize == vectors
            && sums.len() == vectors * (vectors + 1) / 2
            && excess.is_empty();
        if !is_right {
            return Err(wrong);
        }
        let products = sums.iter().map(ExactSum::from_bytes).collect::<Result<_, _>>()?;
        Ok(Self { vectors, products })
    }
}

struct Partial {
    gram: Gram,
    block: Option<(Block, Products)>,
    fault: Option<Fault>,
}

/// Place of a pair in the lower triangle.
pub(super) fn at(i: usize, j: usize) -> usize {
    let (row, column) = if i > j { (i, j) } else { (j, i) };
    row * (row + 1) / 2 + column
}
