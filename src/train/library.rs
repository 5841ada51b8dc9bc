//! Whole weights of one bucket at a time, where every data rank holds slices (ZeRO-3). Where passes
//! read rounded weights, slices are rounded first, and half the bytes are exchanged.

use std::collections::VecDeque;

use super::Error;
use super::exchange::{Exchange, Pending};
use super::state::State;
use crate::model::Bucket;
use crate::ops::Kernels;
use crate::ops::elementwise;
use crate::tensor::DType;
use crate::tensor::Tensor;

/// Buffers for whole buckets: the one in use, and the next one on its way.
#[derive(Debug, Default)]
pub(super) struct Library {
    /// Buffers by the kind of bucket: embedding, block, head.
    free: [Vec<Bucket<Tensor>>; 3],
    /// The buckets to come, in order.
    order: VecDeque<usize>,
    ahead: Option<(usize, Pending)>,
}

impl Library {
    /// Announces which buckets will be borrowed, in order.
    pub fn announce(&mut self, order: impl IntoIterator<Item = usize>) {
        self.order = order.into_iter().collect();
        self.ahead = None;
    }

    /// The whole weights of the next bucket, which is `b`; the one after it is on its way
    /// meanwhile.
    pub fn borrow(
        &mut self,
        kernels: &dyn Kernels,
        state: &State,
        exchange: &mut Exchange,
        b: usize,
    ) -> Result<Bucket<Tensor>, Error> {
        let announced = self.order.pop_front();
        debug_assert_eq!(announced, Some(b), "buckets are borrowed as announced");
        let pending = match self.ahead.take() {
            Some((ahead, pending)) if ahead == b => pending,
            _ => self.start(kernels, state, exchange, b)?,
        };
        let bucket = exchange.wait(pending)?;
        if let Some(&next) = self.order.front() {
            self.ahead = Some((next, self.start(kernels, state, exchange, next)?));
        }
        Ok(bucket)
    }

    /// Runs `work` with the whole weights of the next bucket, which is `b`.
    pub fn with<R>(
        &mut self,
        kernels: &dyn Kernels,
        (state, b): (&State, usize),
        exchange: &mut Exchange,
        work: impl FnOnce(&Bucket<Tensor>) -> Result<R, Error>,
    ) -> Result<R, Error> {
        if state.division.has_whole_weights() {
            return work(state.entering(b));
        }
        let whole = self.borrow(kernels, state, exchange, b)?;
        let result = work(&whole)?;
        self.give_back(whole);
        Ok(result)
    }

    /// Takes a buffer back.
    pub fn give_back(&mut self, bucket: Bucket<Tensor>) {
        self.free[kind(&bucket)].push(bucket);
    }

    fn start(
        &mut self,
        kernels: &dyn Kernels,
        state: &State,
        exchange: &Exchange,
        b: usize,
    ) -> Result<Pending, Error> {
        let slices = &state.weights[b];
        let mut whole = match self.free[kind(slices)].pop() {
            Some(bucket) => bucket,
            None => whole_like(kernels, state, b)?,
        };
        let division = state.division;
        whole.as_mut().zip(slices.as_ref()).try_map(|_, (whole, slice)| {
            let (len, dtype) = (whole.shape().len(), whole.dtype());
            let range = division.weights(len);
            let to = whole.view_mut().reshape(&[len]).rows(range.clone());
            let from = slice.view().reshape(&[range.len()]);
            match dtype {
                DType::F32 => elementwise::copy(kernels, to, from),
                _ => elementwise::round(kernels, to, from),
            }
        })?;
        Ok(exchange.gather(whole))
    }
}

/// Zeros for the whole of bucket `b`.
fn whole_like(kernels: &dyn Kernels, state: &State, b: usize) -> Result<Bucket<Tensor>, Error> {
    let zeros = |name: &str, shape: &[usize]| kernels.zeros(state.entering_dtype(name), shape);
    let whole = state.shapes[b].clone().try_map(|name, shape| zeros(name, &shape))?;
    // The copy of a tied head has the shape of the table, which is no weight of this stage.
    Ok(match (whole, &state.weights[b]) {
        (Bucket::Head { final_norm, lm_head: None }, Bucket::Head { lm_head: Some(_), .. }) => {
            let head = zeros("lm_head", &state.table_shape)?;
            Bucket::Head { final_norm, lm_head: Some(head) }
        }
        (whole, _) => whole,
    })
}

fn kind<T>(bucket: &Bucket<T>) -> usize {
    match bucket {
        Bucket::Embedding(_) => 0,
        Bucket::Block { .. } => 1,
        Bucket::Head { .. } => 2,
    }
}
