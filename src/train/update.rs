//! From finished gradients to new weights.

use std::convert::Infallible;

use super::Error;
use super::exchange::Pending;
use super::neighbours::Parcel;
use super::state::{Rounding, slice, slice_mut};
use super::step::Trainer;
use crate::model::Bucket;
use crate::ops::Kernels;
use crate::ops::elementwise;
use crate::ops::norm;
use crate::optim;
use crate::shard::Zero;
use crate::tensor::DType;
use crate::tensor::Tensor;
use crate::tensor::View;

impl Trainer {
    /// Adds a tied head's gradient to the embedding's, wherever they are.
    pub(super) fn tie_heads(&mut self, kernels: &dyn Kernels) -> Result<(), Error> {
        let (dims, division) = (&self.plan.dims, self.state.division);
        if !dims.tied {
            return Ok(());
        }
        let len = dims.vocab * dims.width;
        let (held, range) = (division.gradient(len), division.updated(len));
        let (last, stages) = (self.layout.head(), self.mesh.stages());
        let mut from_afar = None;
        if self.layout.has_head() && stages > 1 {
            let head = slice(tied_gradient(&self.sums.done[last]), &held, &range);
            self.neighbours.send(kernels, (0, Parcel::HeadGradient), head)?;
        } else if self.layout.has_embedding() && stages > 1 {
            let mut received = kernels.zeros(DType::F32, &[range.len()])?;
            let bytes = received.size_bytes();
            let mut inbox = self.neighbours.expect(stages - 1, Parcel::HeadGradient, bytes, 1);
            self.neighbours.receive(kernels, &mut inbox, received.view_mut())?;
            from_afar = Some(received);
        }
        if self.layout.has_embedding() {
            let (first, rest) = self.sums.done.split_at_mut(1);
            let Some(Bucket::Embedding(table)) = &mut first[0] else {
                unreachable!("the first bucket is the embedding's")
            };
            let head = match &from_afar {
                Some(received) => received.view(),
                None => slice(tied_gradient(&rest[last - 1]), &held, &range),
            };
            if !range.is_empty() {
                elementwise::add(kernels, slice_mut(table.view_mut(), &held, &range), head)?;
            }
        }
        Ok(())
    }

    /// Sums of squares of every block of gradient that this rank owns, in canonical order.
    pub(super) fn block_sums(&self, kernels: &dyn Kernels) -> Result<Vec<f32>, Error> {
        let division = self.state.division;
        let mut owned = Vec::new();
        for (grads, shapes) in self.sums.done.iter().zip(&self.state.shapes) {
            let Some(grads) = grads else { unreachable!("every bucket has been summed") };
            for (_, (shape, grad)) in shapes.as_ref().zip(grads.as_ref()).into_named() {
                let len = shape.iter().product();
                let held = division.gradient(len);
                owned.push(slice(grad.view(), &held, &division.owned(len)));
            }
        }
        let mut sums = vec![0.0; self.tally.blocks(self.mesh.world().rank())];
        norm::block_sums_of(kernels, &mut sums, &owned)?;
        Ok(sums)
    }

    /// Moves all weights by one step, and completes them where ranks hold them whole.
    pub(super) fn update(
        &mut self,
        kernels: &dyn Kernels,
        step: &optim::Update,
    ) -> Result<(), Error> {
        let (zero, stages) = (self.state.division.zero, self.mesh.stages());
        let complete = matches!(zero, Zero::Moments | Zero::Gradients);
        let mut pending = Vec::new();
        let mut weights = std::mem::take(&mut self.state.weights);
        // Buckets that go to other ranks leave one by one, all others move in one call, and are
        // rounded in it.
        let mut rounded = self.state.rounded.take();
        if !complete {
            self.update_buckets(kernels, step, 0, (&mut weights, rounded.as_deref_mut()))?;
        }
        self.state.rounded = rounded;
        for (b, mut bucket) in weights.into_iter().enumerate() {
            if complete {
                self.update_buckets(kernels, step, b, (std::slice::from_mut(&mut bucket), None))?;
            }
            if self.plan.dims.tied && stages > 1 {
                self.pass_table_on(kernels, &mut bucket)?;
            }
            let gather = |bucket| self.exchange.gather(bucket);
            pending.push(if complete { gather(bucket) } else { Pending::Ready(Box::new(bucket)) });
        }
        for pending in pending {
            self.state.weights.push(self.exchange.wait(pending)?);
        }
        let which = if complete { Rounding::All } else { Rounding::NotUpdated };
        self.state.round(kernels, which)?;
        self.neighbours.flush()
    }

    /// Moves the weights of `buckets`, the first of which is bucket `first`, in one call. The new
    /// weights go to `rounded` too, but for those that passes read in f32.
    fn update_buckets(
        &mut self,
        kernels: &dyn Kernels,
        step: &optim::Update,
        first: usize,
        (buckets, rounded): (&mut [Bucket<Tensor>], Option<&mut [Bucket<Tensor>]>),
    ) -> Result<(), Error> {
        let state = &mut self.state;
        let division = state.division;
        let moments = state.m.iter_mut().zip(&mut state.v);
        let all = self.sums.done.iter().zip(moments).zip(&state.shapes).skip(first);
        let mut moved = Vec::new();
        let mut rounded = rounded.into_iter().flatten();
        for (bucket, ((grads, (m, v)), shapes)) in buckets.iter_mut().zip(all) {
            let copies = match rounded.next() {
                Some(copies) => copies.as_mut().try_map(|_, copy| some_bf16(copy)),
                None => bucket.as_ref().try_map(|_, _| Ok::<_, Infallible>(None)),
            };
            let Ok(copies) = copies;
            let Some(grads) = grads else { unreachable!("every bucket has been summed") };
            let moments = m.as_mut().zip(v.as_mut());
            let weights = bucket.as_mut().zip(copies);
            let tensors = weights.zip(moments).zip(grads.as_ref()).zip(shapes.as_ref());
            for (name, ((((weight, copy), (m, v)), grad), shape)) in tensors.into_named() {
                let len = shape.iter().product();
                let range = division.updated(len);
                if range.is_empty() {
                    continue;
                }
                let (flat, held) = ([range.len()], division.weights(len));
                let copy = copy.map(|copy| slice_mut(copy.view_mut(), &held, &range));
                moved.push(step.of(
                    &name,
                    slice_mut(weight.view_mut(), &held, &range),
                    (m.view_mut().reshape(&flat), v.view_mut().reshape(&flat)),
                    slice(grad.view(), &division.gradient(len), &range),
                    copy,
                ));
            }
        }
        Ok(step.apply(kernels, &mut moved)?)
    }

    /// The new elements of the embedding table from the first stage to the copy in the last.
    fn pass_table_on(
        &mut self,
        kernels: &dyn Kernels,
        bucket: &mut Bucket<Tensor>,
    ) -> Result<(), Error> {
        let (division, stages) = (self.state.division, self.mesh.stages());
        let held = |tensor: &Tensor| {
            let len = self.plan.dims.vocab * self.plan.dims.width;
            debug_assert_eq!(tensor.shape().len(), division.weights(len).len());
            (division.weights(len), division.updated(len))
        };
        match bucket {
            Bucket::Embedding(table) => {
                let (held, range) = held(table);
                let view = slice(table.view(), &held, &range);
                self.neighbours.send(kernels, (stages - 1, Parcel::Table), view)
            }
            Bucket::Head { lm_head: Some(copy), .. } => {
                let (held, range) = held(copy);
                let view = slice_mut(copy.view_mut(), &held, &range);
                let bytes = view.as_view().size_bytes();
                let mut inbox = self.neighbours.expect(0, Parcel::Table, bytes, 1);
                self.neighbours.receive(kernels, &mut inbox, view)
            }
            _ => Ok(()),
        }
    }
}

/// A rounded copy, where it is one.
fn some_bf16(copy: &mut Tensor) -> Result<Option<&mut Tensor>, Infallible> {
    Ok((copy.dtype() == DType::Bf16).then_some(copy))
}

/// The head's own gradient.
fn tied_gradient(head: &Option<Bucket<Tensor>>) -> View<'_> {
    match head {
        Some(Bucket::Head { lm_head: Some(gradient), .. }) => gradient.view(),
        _ => unreachable!("a head's gradient is kept apart"),
    }
}
