//! What stages hand on: activations to the next one, their gradients back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Error;
use crate::collective::Communicator;
use crate::collective::Request;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::elementwise;
use crate::shard::Mesh;
use crate::tensor::Mem;
use crate::tensor::MemMut;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parcel {
    /// The residual stream, to the next stage.
    Stream = 1,
    /// Its gradient, to the stage before.
    Gradient = 2,
    /// A tied head's gradient, from the last stage to the first.
    HeadGradient = 3,
    /// The embedding table, from the first stage to the last.
    Table = 4,
    /// Losses, from the last stage to the others.
    Losses = 5,
}

/// This rank's counterparts in the other stages.
#[derive(Debug)]
pub(super) struct Neighbours {
    mesh: Mesh,
    patience: Duration,
    sent: VecDeque<Request>,
    /// Time spent waiting for others.
    pub waited: Duration,
}

/// Tensors of one shape that come from one rank; the next ones are on their way while one is used.
#[derive(Debug)]
pub(super) struct Inbox {
    from: usize,
    parcel: Parcel,
    bytes: usize,
    started: VecDeque<Request>,
    left: usize,
}

impl Neighbours {
    /// Those of `mesh`. A rank may stay silent for `patience`.
    pub fn new(mesh: Mesh, patience: Duration) -> Self {
        Self { mesh, patience, sent: VecDeque::new(), waited: Duration::ZERO }
    }

    /// How long a rank may stay silent from now on.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Starts to send elements to the counterpart in `stage`, as the bytes that they are.
    pub fn send(
        &mut self,
        kernels: &dyn Kernels,
        (stage, parcel): (usize, Parcel),
        elements: View<'_>,
    ) -> Result<(), Error> {
        while let Some(mut request) = self.sent.pop_front() {
            match request.poll() {
                Some(ended) => drop(ended?),
                None => {
                    self.sent.push_front(request);
                    break;
                }
            }
        }
        let bytes = bytes_of(kernels, elements)?;
        let to = self.mesh.counterpart(stage);
        self.sent.push_back(self.mesh.world().send(to, parcel as u32, bytes));
        Ok(())
    }

    /// Prepares to receive `count` pieces of `bytes` bytes from the counterpart in `stage`.
    pub fn expect(&self, stage: usize, parcel: Parcel, bytes: usize, count: usize) -> Inbox {
        let from = self.mesh.counterpart(stage);
        let mut inbox = Inbox { from, parcel, bytes, started: VecDeque::new(), left: count };
        inbox.start(self.mesh.world().as_ref());
        inbox
    }

    /// The next piece, into `out`.
    pub fn receive(
        &mut self,
        kernels: &dyn Kernels,
        inbox: &mut Inbox,
        out: ViewMut<'_>,
    ) -> Result<(), Error> {
        let bytes = self.receive_bytes(inbox)?;
        let (dtype, shape) = (out.dtype(), out.shape());
        Ok(elementwise::copy(kernels, out, View::new(Mem::Host(&bytes), dtype, shape))?)
    }

    /// The next piece as bytes on the host.
    pub fn receive_bytes(&mut self, inbox: &mut Inbox) -> Result<Vec<u8>, Error> {
        inbox.start(self.mesh.world().as_ref());
        let Some(request) = inbox.started.pop_front() else {
            unreachable!("no more than expected are received")
        };
        let started = Instant::now();
        let bytes = request.wait(self.patience);
        self.waited += started.elapsed();
        inbox.start(self.mesh.world().as_ref());
        Ok(bytes?)
    }

    /// Waits until everything sent has left.
    pub fn flush(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        while let Some(request) = self.sent.pop_front() {
            request.wait(self.patience)?;
        }
        self.waited += started.elapsed();
        Ok(())
    }
}

impl Inbox {
    /// Keeps as many receives under way as help.
    fn start(&mut self, world: &dyn Communicator) {
        while self.left > 0 && self.started.len() < AHEAD {
            self.started.push_back(world.receive(self.from, self.parcel as u32, self.bytes));
            self.left -= 1;
        }
    }
}

/// A copy of the bytes of `view` on the host.
fn bytes_of(kernels: &dyn Kernels, view: View<'_>) -> Result<Vec<u8>, OpError> {
    if let Some(bytes) = view.host_bytes() {
        return Ok(bytes.to_vec());
    }
    let mut bytes = vec![0; view.size_bytes()];
    let to = ViewMut::new(MemMut::Host(&mut bytes), view.dtype(), view.shape());
    elementwise::copy(kernels, to, view)?;
    Ok(bytes)
}

/// One that is waited for, and one behind it.
const AHEAD: usize = 2;
