//! The model's weights in buckets: what is computed, exchanged and updated together.
//!
//! A stage has the embedding (the first one), a bucket per block, and final norm and LM head (the
//! last one). Buckets one after the other give the canonical order of [`Params`].

use std::ops::Range;

use super::config::Dims;
use super::head::Head;
use super::params::BlockParams;
use super::params::Params;
use super::params::is_norm;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::elementwise;
use crate::tensor::DType;
use crate::tensor::Tensor;

/// One value per weight of a bucket.
#[derive(Clone, Debug, PartialEq)]
pub enum Bucket<T> {
    /// `(V, C)`: a row per token.
    Embedding(T),
    /// A transformer block.
    Block {
        /// Its number in the model.
        layer: usize,
        /// Its weights.
        weights: BlockParams<T>,
    },
    /// What stands after the last block.
    Head {
        /// `(C)`: scale of the norm before the LM head.
        final_norm: T,
        /// `(V, C)`; none where the embedding serves.
        lm_head: Option<T>,
    },
}

/// Whether a head that is the embedding table has a tensor of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TiedHead {
    /// Among gradients, because its sum has a tree of its own; and where the embedding is in
    /// another stage.
    Apart,
    /// Among weights, where the embedding serves.
    Shared,
}

impl<T> Bucket<T> {
    /// Applies `f` to every name and value in canonical order; stops at the first error.
    pub fn try_map<U, E>(self, mut f: impl FnMut(&str, T) -> Result<U, E>) -> Result<Bucket<U>, E> {
        Ok(match self {
            Self::Embedding(value) => Bucket::Embedding(f("embedding", value)?),
            Self::Block { layer, weights } => {
                let named = |name: &str, value| f(&format!("blocks.{layer}.{name}"), value);
                Bucket::Block { layer, weights: weights.try_map(named)? }
            }
            Self::Head { final_norm, lm_head } => {
                let final_norm = f("final_norm", final_norm)?;
                let lm_head = lm_head.map(|value| f("lm_head", value)).transpose()?;
                Bucket::Head { final_norm, lm_head }
            }
        })
    }

    /// Borrows every value.
    pub fn as_ref(&self) -> Bucket<&T> {
        match self {
            Self::Embedding(value) => Bucket::Embedding(value),
            Self::Block { layer, weights } => {
                Bucket::Block { layer: *layer, weights: weights.as_ref() }
            }
            Self::Head { final_norm, lm_head } => {
                Bucket::Head { final_norm, lm_head: lm_head.as_ref() }
            }
        }
    }

    /// Borrows every value mutably.
    pub fn as_mut(&mut self) -> Bucket<&mut T> {
        match self {
            Self::Embedding(value) => Bucket::Embedding(value),
            Self::Block { layer, weights } => {
                Bucket::Block { layer: *layer, weights: weights.as_mut() }
            }
            Self::Head { final_norm, lm_head } => {
                Bucket::Head { final_norm, lm_head: lm_head.as_mut() }
            }
        }
    }

    /// Pairs every value with its counterpart; a tied head that only one of them has is left out.
    ///
    /// # Panics
    /// If they are buckets of different kinds (a bug of the caller).
    pub fn zip<U>(self, other: Bucket<U>) -> Bucket<(T, U)> {
        match (self, other) {
            (Self::Embedding(a), Bucket::Embedding(b)) => Bucket::Embedding((a, b)),
            (Self::Block { layer, weights }, Bucket::Block { weights: other, .. }) => {
                Bucket::Block { layer, weights: weights.zip(other) }
            }
            (
                Self::Head { final_norm, lm_head },
                Bucket::Head { final_norm: other, lm_head: other_head },
            ) => Bucket::Head { final_norm: (final_norm, other), lm_head: lm_head.zip(other_head) },
            _ => panic!("buckets of different kinds"),
        }
    }

    /// The embedding.
    ///
    /// # Panics
    /// If it is a bucket of another kind (a bug of the caller), like its sisters below.
    pub fn embedding(&self) -> &T {
        let Self::Embedding(value) = self else { panic!("not the bucket of the embedding") };
        value
    }

    /// The weights of a block.
    pub fn block(&self) -> &BlockParams<T> {
        let Self::Block { weights, .. } = self else { panic!("not the bucket of a block") };
        weights
    }

    /// The weights of a block.
    pub fn block_mut(&mut self) -> &mut BlockParams<T> {
        let Self::Block { weights, .. } = self else { panic!("not the bucket of a block") };
        weights
    }

    /// Final norm and LM head, which is `table` where it is none of its own.
    pub fn head<'a>(&'a self, table: Option<&'a T>) -> Head<&'a T> {
        match self {
            Self::Head { final_norm, lm_head } => match lm_head.as_ref().or(table) {
                Some(lm_head) => Head { final_norm, lm_head },
                None => panic!("a head that is tied to nothing"),
            },
            _ => panic!("not the bucket of the head"),
        }
    }

    /// Names and values in canonical order.
    pub fn into_named(self) -> Vec<(String, T)> {
        let mut named = Vec::new();
        let all = self.try_map(|name, value| {
            named.push((name.to_owned(), value));
            Ok::<_, std::convert::Infallible>(())
        });
        match all {
            Ok(_) => named,
            Err(never) => match never {},
        }
    }
}

impl Bucket<Vec<usize>> {
    /// The shapes of the buckets of a stage that has the blocks `layers`.
    pub fn shapes(dims: &Dims, layers: Range<usize>, tied: TiedHead) -> Vec<Self> {
        let table = || vec![dims.vocab, dims.width];
        let mut all = Vec::new();
        if layers.start == 0 {
            all.push(Self::Embedding(table()));
        }
        let block = |layer| Self::Block { layer, weights: BlockParams::shapes(dims) };
        all.extend(layers.clone().map(block));
        if layers.end == dims.layers {
            let apart = !dims.tied || tied == TiedHead::Apart;
            let lm_head = apart.then(table);
            all.push(Self::Head { final_norm: vec![dims.width], lm_head });
        }
        all
    }
}

impl Bucket<Tensor> {
    /// Zeros of the given shapes.
    pub fn zeros(kernels: &dyn Kernels, shapes: Bucket<Vec<usize>>) -> Result<Self, OpError> {
        shapes.try_map(|_, shape| kernels.zeros(DType::F32, &shape))
    }

    /// Prepares gradients for a chain that starts at zero: clears those that are always added to.
    /// Those of matrices are left as they are, to be overwritten (`matmul::Start::Zero`).
    pub fn begin(&mut self, kernels: &dyn Kernels) -> Result<(), OpError> {
        self.as_mut().try_map(|name, x| match is_norm(name) || name == "embedding" {
            true => elementwise::fill(kernels, x.view_mut(), 0.0),
            false => Ok(()),
        })?;
        Ok(())
    }

    /// `self = self + other`.
    pub fn add(&mut self, kernels: &dyn Kernels, other: &Self) -> Result<(), OpError> {
        self.as_mut()
            .zip(other.as_ref())
            .try_map(|_, (sum, x)| elementwise::add(kernels, sum.view_mut(), x.view()))?;
        Ok(())
    }
}

impl<T> From<Params<T>> for Vec<Bucket<T>> {
    /// The buckets of a whole model.
    fn from(params: Params<T>) -> Self {
        let mut all = vec![Bucket::Embedding(params.embedding)];
        let blocks = params.blocks.into_iter().enumerate();
        all.extend(blocks.map(|(layer, weights)| Bucket::Block { layer, weights }));
        all.push(Bucket::Head { final_norm: params.final_norm, lm_head: params.lm_head });
        all
    }
}
