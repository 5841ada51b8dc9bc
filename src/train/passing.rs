//! Forward and backward of a step's micro-batches, one after the other through all layers of the
//! stage; with several stages in the order 1F1B (Narayanan et al. 2019, arXiv:1806.03377).
//!
//! A stage computes some micro-batches forward ahead of its first backward pass, as many as there
//! are stages after it, then one forward and one backward in turn. So it never keeps more than
//! that many, and one, and micro-batches go backward in order: sums are chains as ever.

use super::Error;
use super::exchange::{Exchange, Pending};
use super::library::Library;
use super::neighbours::{Inbox, Neighbours, Parcel};
use super::state::{Layout, State};
use super::sums::{Last, Sums};
use crate::data::Batch;
use crate::model;
use crate::model::Bucket;
use crate::model::Frame;
use crate::model::Head;
use crate::model::Scratch;
use crate::model::Slot;
use crate::ops::Kernels;
use crate::ops::elementwise;
use crate::tensor::Tensor;

/// Everything that a step's forward and backward passes touch.
pub(super) struct Passing<'a> {
    pub kernels: &'a dyn Kernels,
    pub frame: &'a Frame,
    pub layout: &'a Layout,
    /// This stage, and how many there are.
    pub stage: (usize, usize),
    pub state: &'a State,
    pub slots: &'a mut [Slot],
    pub scratch: &'a mut Scratch,
    pub sums: &'a mut Sums,
    pub exchange: &'a mut Exchange,
    pub lender: &'a mut Library,
    pub neighbours: &'a mut Neighbours,
    /// The sequences of this rank's shards.
    pub batch: &'a Batch,
    /// Factor of every gradient: 1 / (tokens of the whole step).
    pub scale: f32,
    /// Micro-batches in a shard.
    pub per_shard: usize,
    /// Micro-batches.
    pub micros: usize,
    /// Losses of all tokens of the batch, where the head is here.
    pub losses: Option<&'a mut Tensor>,
}

impl Passing<'_> {
    /// All passes; afterwards the sums are done.
    pub fn depth_first(&mut self) -> Result<(), Error> {
        let (stage, stages) = self.stage;
        let ahead = (stages - 1 - stage).min(self.micros);
        let [mut streams, mut gradients] = self.inboxes();
        let mut pending: Vec<Option<Pending>> = (0..self.layout.len()).map(|_| None).collect();
        for micro in 0..ahead {
            self.forward(micro, streams.as_mut(), &mut pending)?;
        }
        for micro in 0..self.micros {
            if ahead + micro < self.micros {
                self.forward(ahead + micro, streams.as_mut(), &mut pending)?;
            }
            self.backward(micro, gradients.as_mut(), &mut pending)?;
        }
        for (b, pending) in pending.into_iter().enumerate() {
            let Some(pending) = pending else { unreachable!("every bucket has been summed") };
            self.sums.done[b] = Some(self.exchange.wait(pending)?);
        }
        self.neighbours.flush()
    }

    /// What comes from the stage before and from the next one; none where there is none.
    pub fn inboxes(&self) -> [Option<Inbox>; 2] {
        let (stage, stages) = self.stage;
        let bytes = self.slots[0].streams[0].size_bytes();
        let from = |stage, parcel| self.neighbours.expect(stage, parcel, bytes, self.micros);
        [
            stage.checked_sub(1).map(|before| from(before, Parcel::Stream)),
            (stage + 1 < stages).then(|| from(stage + 1, Parcel::Gradient)),
        ]
    }

    fn forward(
        &mut self,
        micro: usize,
        inbox: Option<&mut Inbox>,
        pending: &mut [Option<Pending>],
    ) -> Result<(), Error> {
        let s = micro % self.slots.len();
        let table = self.layout.has_embedding().then(|| self.state.entering(0).embedding());
        self.begin(micro, s, table, inbox)?;
        let (layout, state) = (self.layout, self.state);
        let blocks: Vec<_> = layout
            .layers
            .clone()
            .map(|layer| state.entering(layout.block(layer)).block())
            .collect();
        let head = layout.has_head().then(|| state.entering(layout.head()).head(table));
        let slot = &mut self.slots[s];
        let pass = self.frame.pass(self.kernels, slot)?;
        let final_norm = head.map(|head| head.final_norm);
        pass.forward(layout.layers.clone(), &blocks, final_norm, slot, self.scratch)?;
        match head {
            None => self.hand_on(s),
            Some(head) => {
                self.head(micro, s, head)?;
                self.close(layout.head(), micro, |b, sum| pending[b] = Some(sum))
            }
        }
    }

    fn backward(
        &mut self,
        micro: usize,
        inbox: Option<&mut Inbox>,
        pending: &mut [Option<Pending>],
    ) -> Result<(), Error> {
        let (layout, s) = (self.layout, micro % self.slots.len());
        self.receive_gradient(s, inbox)?;
        for layer in layout.layers.clone().rev() {
            let b = layout.block(layer);
            self.block_backward(s, layer, self.state.entering(b))?;
            self.close(b, micro, |b, sum| pending[b] = Some(sum))?;
        }
        if !layout.has_embedding() {
            return self.hand_back(s);
        }
        self.embed_backward(s)?;
        self.close(0, micro, |b, sum| pending[b] = Some(sum))
    }

    /// Tokens into slot `s`, and the residual stream before the stage's first block.
    pub fn begin(
        &mut self,
        micro: usize,
        s: usize,
        table: Option<&Tensor>,
        inbox: Option<&mut Inbox>,
    ) -> Result<(), Error> {
        let slot = &mut self.slots[s];
        let rows = micro * slot.rows()..(micro + 1) * slot.rows();
        let (tokens, targets) = (&self.batch.inputs[rows.clone()], &self.batch.targets[rows]);
        let pass = self.frame.pass(self.kernels, slot)?;
        pass.load(model::Batch { tokens, targets }, slot)?;
        match (table, inbox) {
            (Some(table), _) => Ok(pass.embed(table, slot)?),
            (None, Some(inbox)) => {
                self.neighbours.receive(self.kernels, inbox, slot.streams[0].view_mut())
            }
            (None, None) => unreachable!("a stage begins with the embedding or follows another"),
        }
    }

    /// Losses and gradients of the head.
    pub fn head(&mut self, micro: usize, s: usize, weights: Head<&Tensor>) -> Result<(), Error> {
        let b = self.layout.head();
        let (bucket, start) = self.sums.open(self.kernels, b)?;
        let Bucket::Head { final_norm, lm_head: Some(lm_head) } = bucket else {
            unreachable!("a head's gradient is kept apart")
        };
        let slot = &mut self.slots[s];
        let pass = self.frame.pass(self.kernels, slot)?;
        let grads = Head { final_norm, lm_head };
        pass.head(weights, self.scale, slot, self.scratch, (grads, start))?;
        let Some(losses) = self.losses.as_mut() else { unreachable!("the head is here") };
        let rows = micro * slot.rows()..(micro + 1) * slot.rows();
        Ok(elementwise::copy(self.kernels, losses.view_mut().rows(rows), slot.losses.view())?)
    }

    /// Gradients of a block.
    pub fn block_backward(
        &mut self,
        s: usize,
        layer: usize,
        weights: &Bucket<Tensor>,
    ) -> Result<(), Error> {
        let (bucket, start) = self.sums.open(self.kernels, self.layout.block(layer))?;
        let grads = (bucket.block_mut(), start);
        let slot = &mut self.slots[s];
        let pass = self.frame.pass(self.kernels, slot)?;
        Ok(pass.backward(layer, weights.block(), slot, self.scratch, grads)?)
    }

    /// Gradient of the embedding.
    pub fn embed_backward(&mut self, s: usize) -> Result<(), Error> {
        let Bucket::Embedding(dtable) = self.sums.open(self.kernels, 0)?.0 else {
            unreachable!("the first bucket is the embedding's")
        };
        let pass = self.frame.pass(self.kernels, &self.slots[s])?;
        Ok(pass.embed_backward(&self.slots[s], dtable)?)
    }

    /// After a shard's last micro-batch, ends the chain of bucket `b`; after the last shard, sends
    /// its sum to the other ranks, and `then` takes what is pending.
    pub fn close(
        &mut self,
        b: usize,
        micro: usize,
        then: impl FnOnce(usize, Pending),
    ) -> Result<(), Error> {
        if !(micro + 1).is_multiple_of(self.per_shard) {
            return Ok(());
        }
        let last = if micro + 1 == self.micros { Last::Shard } else { Last::No };
        if let Some(sum) = self.sums.close(self.kernels, b, last)? {
            then(b, self.exchange.reduce(sum));
        }
        Ok(())
    }

    /// The stream after the stage's last block to the next stage.
    pub fn hand_on(&mut self, s: usize) -> Result<(), Error> {
        let slot = &self.slots[s];
        let stream = slot.streams[slot.stream_index(self.layout.layers.end)].view();
        self.neighbours.send(self.kernels, (self.stage.0 + 1, Parcel::Stream), stream)
    }

    /// The gradient of the stream before the stage's first block to the stage before.
    pub fn hand_back(&mut self, s: usize) -> Result<(), Error> {
        let Some(gradient) = self.slots[s].streams.last() else { return Ok(()) };
        let to = (self.stage.0 - 1, Parcel::Gradient);
        self.neighbours.send(self.kernels, to, gradient.view())
    }

    /// The gradient of the stream after the stage's last block, where the next stage has it.
    pub fn receive_gradient(&mut self, s: usize, inbox: Option<&mut Inbox>) -> Result<(), Error> {
        match (inbox, self.slots[s].streams.last_mut()) {
            (Some(inbox), Some(last)) => {
                self.neighbours.receive(self.kernels, inbox, last.view_mut())
            }
            _ => Ok(()),
        }
    }
}
