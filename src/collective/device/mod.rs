//! Collectives on tensors in the memory of devices, in the order of the fixed tree.
//!
//! A [`DeviceLink`] (NCCL) carries bytes from device to device, nothing more; [`device_group`] makes
//! sums of it, adding with the backend's own kernel in the order of docs/ARITHMETIC.md, section 15.
//! All of it runs on a second stream, beside what computes. Before a device starts to send, the ranks
//! compare the call in host memory: so a rank that is late, gone or out of step is named by those
//! who wait for it there, and no device spins for it.

mod choose;
#[cfg(test)]
pub(crate) mod fake;
mod group;
#[cfg(test)]
mod tests;
mod tree;

pub use choose::{DeviceRanks, DeviceWish, device_ranks};
pub use group::device_group;

use std::fmt::Debug;

use super::{Error, Parts};
use crate::backend::cuda::door::Address;
use crate::backend::cuda::door::Door;
use crate::backend::cuda::door::Mark;
use crate::tensor::ViewMut;

/// One rank's handle on its group's collectives in device memory. Every rank calls the same methods
/// in the same order with the same extents. A call returns when its result is there.
pub trait DeviceCommunicator: Debug + Send + Sync {
    /// This rank, from 0.
    fn rank(&self) -> usize;
    /// Number of ranks, a power of two.
    fn size(&self) -> usize;
    /// What carries the bytes, for logs: `NCCL 2.30.3`.
    fn describe(&self) -> String;
    /// The end of what the device was asked to compute so far. Whoever computes asks, and hands it
    /// to whoever exchanges, perhaps another thread.
    fn computed(&self) -> Result<Moment, Error>;
    /// In place, from `after` on: `share.parts.of(rank)` of each tensor of f32 becomes its sum over all ranks,
    /// in tree order. The other elements are undefined after it.
    fn reduce_scatter(&self, after: &Moment, shares: Vec<Share<'_>>) -> Result<(), Error>;
    /// In place, from `after` on: `share.parts.of(r)` of every rank r to all, elements of any type.
    fn all_gather(&self, after: &Moment, shares: Vec<Share<'_>>) -> Result<(), Error>;
    /// In place, from `after` on: every element becomes its sum over all ranks, in tree order.
    fn all_reduce(&self, after: &Moment, shares: Vec<Share<'_>>) -> Result<(), Error>;
}

/// A tensor, and which rank has which of its elements.
#[derive(Debug)]
pub struct Share<'a> {
    /// In the memory of this rank's device.
    pub data: ViewMut<'a>,
    /// Of its elements.
    pub parts: Parts,
}

/// A point in what a device was asked for; by default, of a device that does everything at once.
#[derive(Clone, Debug, Default)]
pub struct Moment(Mark);

/// Carries bytes between the devices of the ranks of a group.
pub trait DeviceLink: Debug + Send + Sync {
    /// This rank, from 0.
    fn rank(&self) -> usize;
    /// Number of ranks.
    fn size(&self) -> usize;
    /// What it is, for logs.
    fn describe(&self) -> String;
    /// Starts, in order with what `stream` is asked for, to send all of `turn.give` to a rank and to
    /// receive all of `turn.take` from it, both at the same time. Sends meet receives in their order; neither is
    /// empty, and each meets one of its own length.
    fn exchange(&self, stream: &dyn Door, turn: &Turn<'_>) -> Result<(), Error>;
    /// Tells of a failure since the last call that nobody has been told of.
    fn check(&self) -> Result<(), Error>;
    /// Ends everything under way as failed: the stream becomes free, the link is of no use any more.
    fn give_up(&self);
}

/// What one rank exchanges with another.
#[derive(Clone, Copy, Debug)]
pub struct Turn<'a> {
    /// The other.
    pub peer: usize,
    /// Sent to it.
    pub give: &'a [Span],
    /// Received from it.
    pub take: &'a [Span],
}

/// A range of device memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where it starts.
    pub at: Address,
    /// How long it is.
    pub bytes: usize,
}
