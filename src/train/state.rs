//! Weights and moments, as far as this rank holds them.

use std::ops::Range;

use super::{Error, Plan};
use crate::model::Bucket;
use crate::model::TiedHead;
use crate::model::entering_dtype;
use crate::model::initial;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::elementwise;
use crate::shard::Division;
use crate::tensor::DType;
use crate::tensor::Tensor;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Which buckets a stage has, and where they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// The stage's blocks.
    pub layers: Range<usize>,
    /// The model's.
    pub all_layers: usize,
}

/// What a rank keeps from step to step. Tensors that it holds whole have their own shapes, slices
/// have one extent.
#[derive(Debug)]
pub(super) struct State {
    /// The weights, f32; of a tied head in another stage than the embedding, a copy.
    pub weights: Vec<Bucket<Tensor>>,
    /// What passes read of them, where that is rounded and the weights are whole.
    pub rounded: Option<Vec<Bucket<Tensor>>>,
    precision: Precision,
    /// First moments.
    pub m: Vec<Bucket<Tensor>>,
    /// Second moments.
    pub v: Vec<Bucket<Tensor>>,
    /// Shapes of the whole tensors of the stage, without copies.
    pub shapes: Vec<Bucket<Vec<usize>>>,
    /// `[V, C]`: the shape of the embedding table, and of a head.
    pub table_shape: [usize; 2],
    /// Who has what.
    pub division: Division,
}

/// With what weights begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    /// The random numbers of the plan's seed.
    Random,
    /// Zeros, to be filled from a checkpoint.
    Zeros,
}

/// Which rounded copies are to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// All.
    All,
    /// Those that an update has not written along with the weights: of norms, which are no matrices,
    /// and of a head that is the copy of another stage's table.
    NotUpdated,
}

impl Layout {
    /// Number of buckets.
    pub fn len(&self) -> usize {
        usize::from(self.has_embedding()) + self.layers.len() + usize::from(self.has_head())
    }

    /// Whether this is the first stage.
    pub fn has_embedding(&self) -> bool {
        self.layers.start == 0
    }

    /// Whether this is the last stage.
    pub fn has_head(&self) -> bool {
        self.layers.end == self.all_layers
    }

    /// Where the bucket of block `layer` stands. The embedding's is 0, the head's the last.
    pub fn block(&self, layer: usize) -> usize {
        usize::from(self.has_embedding()) + layer - self.layers.start
    }

    /// The buckets in the order in which forward needs their weights; the embedding's again for a
    /// head that is `tied` to it.
    pub fn forward_uses(&self, tied: bool) -> Vec<usize> {
        let mut uses = Vec::new();
        uses.extend(self.has_embedding().then_some(0));
        uses.extend(self.layers.clone().map(|layer| self.block(layer)));
        if self.has_head() {
            uses.extend((tied && self.has_embedding()).then_some(0));
            uses.push(self.head());
        }
        uses
    }

    /// Where the head's bucket stands.
    pub fn head(&self) -> usize {
        self.len() - 1
    }
}

impl State {
    /// The state of a stage at the beginning.
    pub fn new(
        kernels: &dyn Kernels,
        plan: &Plan,
        layout: &Layout,
        division: Division,
        fill: Fill,
    ) -> Result<Self, Error> {
        let dims = &plan.dims;
        let shapes = Bucket::shapes(dims, layout.layers.clone(), TiedHead::Shared);
        let shared = if layout.has_embedding() { TiedHead::Shared } else { TiedHead::Apart };
        let weight = |name: &str, shape: Vec<usize>| {
            let range = division.weights(shape.iter().product());
            let held = held_shape(&shape, &range);
            match fill {
                Fill::Random => initial(kernels, dims, plan.seed, name, range, &held),
                Fill::Zeros => kernels.zeros(DType::F32, &held),
            }
        };
        let moments = || -> Result<Vec<Bucket<Tensor>>, Error> {
            let zeros = |shape: &Bucket<Vec<usize>>| {
                shape.clone().try_map(|_, shape| {
                    let range = division.updated(shape.iter().product());
                    kernels.zeros(DType::F32, &held_shape(&shape, &range))
                })
            };
            Ok(shapes.iter().map(zeros).collect::<Result<_, _>>()?)
        };
        let weights = Bucket::shapes(dims, layout.layers.clone(), shared)
            .into_iter()
            .map(|bucket| bucket.try_map(weight))
            .collect::<Result<Vec<_>, _>>()?;
        let precision = plan.precision;
        let is_rounded = precision.activations() != DType::F32 && division.has_whole_weights();
        let zeros = |bucket: &Bucket<Tensor>| {
            bucket.as_ref().try_map(|name, weight| {
                kernels.zeros(entering_dtype(precision, name), &weight.shape())
            })
        };
        let rounded = is_rounded.then(|| weights.iter().map(zeros).collect());
        let mut state = Self {
            weights,
            rounded: rounded.transpose()?,
            precision,
            m: moments()?,
            v: moments()?,
            shapes,
            table_shape: [dims.vocab, dims.width],
            division,
        };
        if fill == Fill::Random {
            state.round(kernels, Rounding::All)?;
        }
        Ok(state)
    }

    /// The whole weights of bucket `b` as passes read them.
    ///
    /// # Panics
    /// In debug builds if this rank holds slices (a bug of the caller, who asks the library then).
    pub fn entering(&self, b: usize) -> &Bucket<Tensor> {
        debug_assert!(self.division.has_whole_weights(), "weights are held whole");
        &self.rounded.as_ref().unwrap_or(&self.weights)[b]
    }

    /// The type in which the weight called `name` enters passes.
    pub fn entering_dtype(&self, name: &str) -> DType {
        entering_dtype(self.precision, name)
    }

    /// Makes the copies that passes read anew, after the weights have changed.
    pub fn round(&mut self, kernels: &dyn Kernels, which: Rounding) -> Result<(), OpError> {
        let Some(rounded) = &mut self.rounded else { return Ok(()) };
        for ((to, from), shapes) in rounded.iter_mut().zip(&self.weights).zip(&self.shapes) {
            let has_moments = |name: &str| match shapes {
                Bucket::Head { lm_head: None, .. } => name != "lm_head",
                _ => true,
            };
            to.as_mut().zip(from.as_ref()).try_map(|name, (to, from)| match to.dtype() {
                DType::F32 => elementwise::copy(kernels, to.view_mut(), from.view()),
                _ if which == Rounding::NotUpdated && has_moments(name) => Ok(()),
                _ => elementwise::round(kernels, to.view_mut(), from.view()),
            })?;
        }
        Ok(())
    }
}

/// The shape of a tensor of which elements `range` are held: its own if that is all.
pub(super) fn held_shape(shape: &[usize], range: &Range<usize>) -> Vec<usize> {
    let whole = range.len() == shape.iter().product::<usize>();
    if whole { shape.to_vec() } else { vec![range.len()] }
}

/// Elements `wanted` of a tensor of which `held` are there.
pub(super) fn slice<'a>(view: View<'a>, held: &Range<usize>, wanted: &Range<usize>) -> View<'a> {
    let from = wanted.start - held.start;
    view.reshape(&[held.len()]).rows(from..from + wanted.len())
}

/// Elements `wanted` of a tensor of which `held` are there, to write.
pub(super) fn slice_mut<'a>(
    view: ViewMut<'a>,
    held: &Range<usize>,
    wanted: &Range<usize>,
) -> ViewMut<'a> {
    let from = wanted.start - held.start;
    view.reshape(&[held.len()]).rows(from..from + wanted.len())
}
