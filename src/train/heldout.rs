//! Forward only: the losses of held-out sequences, and a closer look at a batch that went wrong.

use super::Error;
use super::neighbours::Parcel;
use super::step::Trainer;
use crate::data::Batch;
use crate::model;
use crate::model::Extent;
use crate::model::Passes;
use crate::model::Scratch;
use crate::model::Slot;
use crate::ops;
use crate::ops::Kernels;
use crate::ops::elementwise;
use crate::tensor::Tensor;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Sees every tensor of a forward pass, in order, with the operation that made it.
pub(super) type Inspector<'a> = &'a mut (dyn FnMut(String, &Tensor) -> Result<(), Error> + Send);

impl Trainer {
    /// The loss of every token of one sequence per data rank, in nats; collective over the data
    /// ranks where weights are divided, and over a data rank's stages, each of which gets it.
    pub fn losses(&mut self, batch: &Batch) -> Result<Vec<f32>, Error> {
        let kernels = self.kernels.clone();
        ops::together(kernels.as_ref(), || self.forward_only(kernels.as_ref(), batch, None))
    }

    /// [`Self::losses`]; with `inspect` layer by layer.
    pub(super) fn forward_only(
        &mut self,
        kernels: &dyn Kernels,
        batch: &Batch,
        inspect: Option<Inspector<'_>>,
    ) -> Result<Vec<f32>, Error> {
        let (mut slot, mut scratch) = match self.heldout.take() {
            Some(kept) => kept,
            None => {
                let (layers, seq_len) = (self.layout.layers.clone(), self.plan.train.seq_len);
                let (passes, precision) = (Passes::Forward, self.plan.precision);
                let extent = Extent { sequences: 1, seq_len, layers, passes, precision };
                let dims = &self.plan.dims;
                (Slot::new(kernels, dims, &extent)?, Scratch::new(kernels, dims, &extent)?)
            }
        };
        let losses = self.forward_in(kernels, batch, inspect, &mut slot, &mut scratch);
        self.heldout = Some((slot, scratch));
        losses
    }

    fn forward_in(
        &mut self,
        kernels: &dyn Kernels,
        batch: &Batch,
        mut inspect: Option<Inspector<'_>>,
        slot: &mut Slot,
        scratch: &mut Scratch,
    ) -> Result<Vec<f32>, Error> {
        let (stage, stages) = (self.mesh.stage(), self.mesh.stages());
        let (layout, state, exchange) = (&self.layout, &self.state, &mut self.exchange);
        let (lender, neighbours) = (&mut self.lender, &mut self.neighbours);
        let pass = self.frame.pass(kernels, slot)?;
        pass.load(model::Batch { tokens: &batch.inputs, targets: &batch.targets }, slot)?;
        lender.announce(layout.forward_uses(self.plan.dims.tied));
        if layout.has_embedding() {
            lender.with(kernels, (state, 0), exchange, |table| {
                Ok(pass.embed(table.embedding(), slot)?)
            })?;
        } else {
            let stream = &mut slot.streams[0];
            let mut inbox = neighbours.expect(stage - 1, Parcel::Stream, stream.size_bytes(), 1);
            neighbours.receive(kernels, &mut inbox, stream.view_mut())?;
        }
        if let Some(inspect) = &mut inspect {
            inspect("embedding".into(), &slot.streams[0])?;
        }
        for layer in layout.layers.clone() {
            lender.with(kernels, (state, layout.block(layer)), exchange, |weights| {
                let weights = [weights.block()];
                Ok(pass.forward(layer..layer + 1, &weights, None, slot, scratch)?)
            })?;
            if let Some(inspect) = &mut inspect {
                inspect_block(layer, slot, scratch, inspect)?;
            }
        }
        if !layout.has_head() {
            let stream = slot.streams[slot.stream_index(layout.layers.end)].view();
            neighbours.send(kernels, (stage + 1, Parcel::Stream), stream)?;
            let bytes = slot.losses.size_bytes();
            let mut inbox = neighbours.expect(stages - 1, Parcel::Losses, bytes, 1);
            let losses = neighbours.receive_bytes(&mut inbox)?;
            neighbours.flush()?;
            return Ok(losses.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect());
        }
        let mut head =
            |table: Option<&Tensor>, exchange: &mut _, lender: &mut super::library::Library| {
                lender.with(kernels, (state, layout.head()), exchange, |weights| {
                    let head = weights.head(table);
                    pass.final_norm(head.final_norm, slot, scratch)?;
                    Ok(pass.losses(head.lm_head, slot, scratch)?)
                })
            };
        if layout.has_embedding() && self.plan.dims.tied {
            if state.division.has_whole_weights() {
                head(Some(state.entering(0).embedding()), exchange, lender)?;
            } else {
                let table = lender.borrow(kernels, state, exchange, 0)?;
                head(Some(table.embedding()), exchange, lender)?;
                lender.give_back(table);
            }
        } else {
            head(None, exchange, lender)?;
        }
        if let (Some(inspect), Some(scratch)) = (&mut inspect, &scratch.head) {
            inspect("rmsnorm after the last layer (final_norm)".into(), &scratch.final_norm)?;
            inspect("cross_entropy (lm_head and loss)".into(), &slot.losses)?;
        }
        let (mut losses, shape) = (vec![0.0f32; slot.rows()], [slot.rows()]);
        elementwise::copy(kernels, ViewMut::of(&mut losses, &shape), slot.losses.view())?;
        for other in 0..stages - 1 {
            neighbours.send(kernels, (other, Parcel::Losses), View::of(&losses, &shape))?;
        }
        neighbours.flush()?;
        Ok(losses)
    }
}

/// Shows what block `layer` has just computed.
fn inspect_block(
    layer: usize,
    slot: &Slot,
    scratch: &Scratch,
    inspect: &mut Inspector<'_>,
) -> Result<(), Error> {
    let place = |op: &str, weight: &str| format!("{op} of layer {layer} ({weight})");
    let (block, mid) = (&scratch.blocks[0], &scratch.mids[0]);
    inspect(place("rmsnorm", "attn_norm"), &block.attn_norm)?;
    inspect(place("matmul and rope", "qkv"), &block.qkv)?;
    inspect(place("attention", "heads"), &block.heads)?;
    inspect(place("matmul and residual add", "attn_out"), mid)?;
    inspect(place("rmsnorm", "ffn_norm"), &block.ffn_norm)?;
    inspect(place("matmul", "ffn_in"), &block.ffn_in)?;
    inspect(place("swiglu", "swiglu"), &block.swiglu)?;
    let out = &slot.streams[slot.stream_index(layer + 1)];
    inspect(place("matmul and residual add", "ffn_out"), out)
}
