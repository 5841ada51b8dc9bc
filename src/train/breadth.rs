//! Forward and backward of a step's micro-batches layer by layer: every layer for all of them.
//!
//! So one bucket's gradient is finished before the next one begins (memory of one tree for all
//! blocks; ZeRO-2), and one bucket's weights serve all micro-batches (each is gathered twice in a
//! step; ZeRO-3). The price is what forward keeps, for all micro-batches of the rank at once. The
//! order of every sum is that of `depth_first`.

use super::Error;
use super::exchange::Pending;
use super::passing::Passing;
use crate::model::Bucket;
use crate::tensor::Tensor;

/// A sum on its way.
type Away = Option<(usize, Pending)>;

impl Passing<'_> {
    /// All passes; afterwards the sums are done.
    pub fn breadth_first(&mut self) -> Result<(), Error> {
        let layout = self.layout;
        let [mut streams, mut gradients] = self.inboxes();
        self.lender.announce(self.uses());
        let mut away = None;
        if layout.has_embedding() {
            self.with_weights(0, |this, table| {
                (0..this.micros)
                    .try_for_each(|micro| this.begin(micro, micro, Some(table.embedding()), None))
            })?;
        } else {
            for micro in 0..self.micros {
                self.begin(micro, micro, None, streams.as_mut())?;
            }
        }
        for layer in layout.layers.clone() {
            self.with_weights(layout.block(layer), |this, weights| {
                this.layer_forward(layer, weights)
            })?;
        }
        if layout.has_head() {
            self.heads(&mut away)?;
        }
        for layer in layout.layers.clone().rev() {
            self.with_weights(layout.block(layer), |this, weights| {
                for micro in 0..this.micros {
                    if layer + 1 == layout.layers.end {
                        this.receive_gradient(micro, gradients.as_mut())?;
                    }
                    this.block_backward(micro, layer, weights)?;
                    this.close_and_keep(layout.block(layer), micro, &mut away)?;
                    if layer == layout.layers.start && !layout.has_embedding() {
                        this.hand_back(micro)?;
                    }
                }
                Ok(())
            })?;
        }
        if layout.has_embedding() {
            for micro in 0..self.micros {
                self.embed_backward(micro)?;
                self.close_and_keep(0, micro, &mut away)?;
            }
        }
        self.keep(&mut away)?;
        self.neighbours.flush()
    }

    /// The buckets in the order in which [`Self::breadth_first`] borrows them.
    fn uses(&self) -> Vec<usize> {
        let layout = self.layout;
        let mut uses = layout.forward_uses(self.frame.dims().tied);
        uses.extend(layout.layers.clone().rev().map(|layer| layout.block(layer)));
        uses
    }

    /// Whether the head is the embedding table, and that is here.
    fn tied_here(&self) -> bool {
        self.layout.has_embedding() && self.frame.dims().tied
    }

    fn layer_forward(&mut self, layer: usize, weights: &Bucket<Tensor>) -> Result<(), Error> {
        let layout = self.layout;
        for micro in 0..self.micros {
            let slot = &mut self.slots[micro];
            let pass = self.frame.pass(self.kernels, slot)?;
            pass.forward(layer..layer + 1, &[weights.block()], None, slot, self.scratch)?;
            if layer + 1 == layout.layers.end && !layout.has_head() {
                self.hand_on(micro)?;
            }
        }
        Ok(())
    }

    fn heads(&mut self, away: &mut Away) -> Result<(), Error> {
        let b = self.layout.head();
        if self.tied_here() {
            self.with_weights(0, |this, table| {
                let table = Some(table.embedding());
                this.with_weights(b, |this, weights| this.all_heads(weights, table, away))
            })
        } else {
            self.with_weights(b, |this, weights| this.all_heads(weights, None, away))
        }
    }

    fn all_heads(
        &mut self,
        weights: &Bucket<Tensor>,
        table: Option<&Tensor>,
        away: &mut Away,
    ) -> Result<(), Error> {
        let head = weights.head(table);
        for micro in 0..self.micros {
            let slot = &self.slots[micro];
            let pass = self.frame.pass(self.kernels, slot)?;
            pass.final_norm(head.final_norm, slot, self.scratch)?;
            self.head(micro, micro, head)?;
            self.close_and_keep(self.layout.head(), micro, away)?;
        }
        Ok(())
    }

    /// Runs `work` with the whole weights of bucket `b`.
    fn with_weights(
        &mut self,
        b: usize,
        work: impl FnOnce(&mut Self, &Bucket<Tensor>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let state = self.state;
        if state.division.has_whole_weights() {
            return work(self, state.entering(b));
        }
        let whole = self.lender.borrow(self.kernels, state, self.exchange, b)?;
        work(self, &whole)?;
        self.lender.give_back(whole);
        Ok(())
    }

    /// [`Self::close`]; the sum goes on its way, after the one before it has come back.
    fn close_and_keep(&mut self, b: usize, micro: usize, away: &mut Away) -> Result<(), Error> {
        let mut sum = None;
        self.close(b, micro, |b, pending| sum = Some((b, pending)))?;
        if let Some((b, pending)) = sum {
            self.keep(away)?;
            *away = Some((b, pending));
            // Alone there is nothing to wait for, and no second buffer.
            if self.state.division.ranks == 1 {
                self.keep(away)?;
            }
        }
        Ok(())
    }

    /// Keeps this rank's slices of a sum that has been on its way.
    fn keep(&mut self, away: &mut Away) -> Result<(), Error> {
        let Some((b, pending)) = away.take() else { return Ok(()) };
        let sum = self.exchange.wait(pending)?;
        self.sums.keep_slices(self.kernels, (b, &self.state.division), sum)
    }
}
