//! Ranks of one cluster: what they exchange, and in which order sums run.
//!
//! A [`Link`] carries bytes between two ranks: MPI, sockets, or channels between threads. A
//! [`Communicator`] makes collectives of it. Sums follow the fixed binary tree of
//! docs/ARITHMETIC.md: rank r and rank r+1 (r even) first, then pairs of pairs, and so on up; no
//! library's own reduction is used, so the transport cannot show in a result.

mod agreed;
mod bind;
mod call;
mod channels;
mod device;
mod error;
mod frame;
mod group;
mod hosts;
mod lane;
mod launcher;
mod layers;
pub mod mpi;
pub mod nccl;
mod panics;
mod parts;
mod request;
mod shared_memory;
pub mod socket;
mod start;
mod sum;
mod threads;
mod topology;
mod tree;
mod wire;

pub use bind::{Binding, Bound, Oversubscription, Wish, bind};
pub use channels::channels;
pub use device::{DeviceCommunicator, DeviceLink, DeviceWish, Moment, Share, Span, Turn};
pub use device::{DeviceRanks, device_group, device_ranks};
pub use error::Error;
pub use group::group;
pub use hosts::Hosts;
pub(crate) use hosts::host_name;
pub use lane::{Lane, Ticket};
pub use parts::Parts;
pub use request::{Completion, Request};
pub use start::{Job, Start, is_first, start};
pub use threads::{single, threads};

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

/// One rank's handle on its group. Every rank calls the same methods in the same order with the
/// same extents; a rank that does not is named in an error, as is one that stays silent for
/// longer than the patience.
pub trait Communicator: Debug + Send + Sync {
    /// This rank, from 0.
    fn rank(&self) -> usize;
    /// Number of ranks: for sums a power of two.
    fn size(&self) -> usize;
    /// What carries the bytes, for logs: `Open MPI 4.1.4, shared memory inside a host`.
    fn describe(&self) -> String;
    /// Returns when every rank has called it.
    fn barrier(&self) -> Result<(), Error>;
    /// Copies `bytes` of rank `root` to all.
    fn broadcast(&self, root: usize, bytes: &mut [u8]) -> Result<(), Error>;
    /// `all = mine of rank 0, mine of rank 1, …`, all of the same length.
    fn all_gather(&self, mine: &[u8], all: &mut [u8]) -> Result<(), Error>;
    /// In place: `data[parts.of(rank)]` becomes its sum over all ranks, in tree order. The other
    /// elements are undefined after it.
    fn reduce_scatter(&self, data: &mut [f32], parts: &Parts) -> Result<(), Error>;
    /// In place: `data[parts.of(r)]` of every rank r to all.
    fn all_gather_parts(&self, data: &mut [f32], parts: &Parts) -> Result<(), Error> {
        self.all_gather_bytes(bytemuck::cast_slice_mut(data), &parts.times(size_of::<f32>()))
    }
    /// As [`Self::all_gather_parts`], of elements of any type; `parts` are of bytes.
    fn all_gather_bytes(&self, data: &mut [u8], parts: &Parts) -> Result<(), Error>;
    /// In place: every element becomes its sum over all ranks, in tree order.
    fn all_reduce(&self, data: &mut [f32]) -> Result<(), Error> {
        let parts = Parts::even(data.len(), self.size(), 1);
        self.reduce_scatter(data, &parts)?;
        self.all_gather_parts(data, &parts)
    }
    /// Starts to send `bytes` to rank `to`. Messages of one sender, receiver and tag arrive in
    /// the order of their starts. Tags are below 4,088.
    fn send(&self, to: usize, tag: u32, bytes: Vec<u8>) -> Request;
    /// Starts to receive exactly `len` bytes from rank `from`.
    fn receive(&self, from: usize, tag: u32, len: usize) -> Request;
    /// The ranks that give the same `color`, in the order of their ranks, as a group of their own.
    /// A rank splits its groups one after the other, not from two threads at once; the groups then
    /// may be used at the same time.
    fn split(&self, color: usize) -> Result<Arc<dyn Communicator>, Error>;
    /// As [`Self::split`], but with a patience of its own: for what follows another rhythm.
    fn split_apart(&self, color: usize) -> Result<Arc<dyn Communicator>, Error>;
    /// How long a rank may stay silent.
    fn patience(&self) -> Duration;
    /// How long a rank may stay silent from now on, in this group and those split from it.
    fn set_patience(&self, patience: Duration);
    /// Ends every rank of the job now, with this exit code.
    fn abort(&self, code: i32) -> !;
}

/// Carries bytes between the ranks of a job.
pub trait Link: Debug + Send + Sync {
    /// This rank, from 0.
    fn rank(&self) -> usize;
    /// Number of ranks.
    fn size(&self) -> usize;
    /// What it is, for logs.
    fn describe(&self) -> String;
    /// Starts to send. Messages of one sender, receiver and tag arrive in the order of their
    /// starts; tags are below 2^24.
    fn send(&self, to: usize, tag: u32, bytes: Vec<u8>) -> Request;
    /// Starts to receive exactly `len` bytes; another length is an error of both.
    fn receive(&self, from: usize, tag: u32, len: usize) -> Request;
    /// Ends every rank of the job now, as far as that is possible from here.
    fn abort(&self, code: i32) -> !;
}
