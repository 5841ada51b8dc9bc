//! Buckets between the data ranks of a stage, beside computation.
//!
//! Where the ranks' devices exchange among themselves, a bucket stays in their memory, and the lane
//! only begins and awaits. Else tensors of a device pass through host memory: the lane copies them
//! there and back, in order with what computes on the device.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Error;
use crate::collective;
use crate::collective::Communicator;
use crate::collective::DeviceCommunicator;
use crate::collective::Lane;
use crate::collective::Moment;
use crate::collective::Share;
use crate::collective::Ticket;
use crate::model::Bucket;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::elementwise;
use crate::shard::Division;
use crate::shard::Mesh;
use crate::shard::Zero;
use crate::shard::parts_of;
use crate::tensor::HostBuffer;
use crate::tensor::Mem;
use crate::tensor::MemMut;
use crate::tensor::Shape;
use crate::tensor::Tensor;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// A lane to the other data ranks of the stage; none where there are none.
#[derive(Debug)]
pub(super) struct Exchange {
    kernels: Arc<dyn Kernels>,
    lane: Option<Lane>,
    /// The ranks' devices, where they exchange among themselves.
    devices: Option<Arc<dyn DeviceCommunicator>>,
    /// Where the lane copies a device's tensors to.
    room: Arc<Mutex<HostBuffer>>,
    division: Division,
    /// Time spent waiting for others.
    pub waited: Duration,
}

/// A bucket that may be on its way.
#[derive(Debug)]
pub(super) enum Pending {
    /// It is here.
    Ready(Box<Bucket<Tensor>>),
    /// It is on the lane.
    Away(Ticket<Bucket<Tensor>>),
}

impl Exchange {
    /// Collective over the data ranks of the stage.
    pub fn new(kernels: Arc<dyn Kernels>, mesh: &Mesh, division: Division) -> Result<Self, Error> {
        let lane = match mesh.data().size() {
            1 => None,
            // All of them: a group of the same ranks, for the lane alone.
            _ => Some(Lane::new(mesh.data().split(0)?)?),
        };
        let room = Arc::new(Mutex::new(HostBuffer::zeroed(0)));
        let devices = mesh.devices().cloned();
        Ok(Self { kernels, lane, devices, room, division, waited: Duration::ZERO })
    }

    /// Starts to sum a bucket of gradients over the data ranks: afterwards the elements that this
    /// rank updates are the sum.
    pub fn reduce(&self, bucket: Bucket<Tensor>) -> Pending {
        let everything = self.division.zero == Zero::Nothing;
        if let Some(devices) = &self.devices {
            return self.submit_to(
                devices,
                bucket,
                move |devices, after, shares| match everything {
                    true => devices.all_reduce(after, shares),
                    false => devices.reduce_scatter(after, shares),
                },
            );
        }
        self.submit(bucket, move |comm, tensor| {
            let len = tensor.len();
            let parts = parts_of(len, comm.size());
            let back = if everything { 0..len } else { parts.of(comm.rank()) };
            tensor.on_host(0..len, back, |bytes| {
                let data = bytemuck::cast_slice_mut(bytes);
                comm.reduce_scatter(data, &parts)?;
                if everything { comm.all_gather_parts(data, &parts) } else { Ok(()) }
            })
        })
    }

    /// Starts to complete a bucket of whole tensors of which every data rank has filled in what
    /// it owns.
    pub fn gather(&self, bucket: Bucket<Tensor>) -> Pending {
        if let Some(devices) = &self.devices {
            return self.submit_to(devices, bucket, |devices, after, shares| {
                devices.all_gather(after, shares)
            });
        }
        self.submit(bucket, |comm, tensor| {
            let (len, width) = (tensor.len(), tensor.tensor.dtype().size_bytes());
            let parts = parts_of(len, comm.size());
            tensor.on_host(parts.of(comm.rank()), 0..len, |bytes| {
                comm.all_gather_bytes(bytes, &parts.times(width))
            })
        })
    }

    /// The bucket, when it is there.
    pub fn wait(&mut self, pending: Pending) -> Result<Bucket<Tensor>, Error> {
        match pending {
            Pending::Ready(bucket) => Ok(*bucket),
            Pending::Away(ticket) => {
                let started = Instant::now();
                let bucket = ticket.wait();
                self.waited += started.elapsed();
                Ok(bucket?)
            }
        }
    }

    fn submit(
        &self,
        mut bucket: Bucket<Tensor>,
        each: impl Fn(&dyn Communicator, Staged<'_>) -> Result<(), collective::Error> + Send + 'static,
    ) -> Pending {
        let Some(lane) = &self.lane else { return Pending::Ready(Box::new(bucket)) };
        let (kernels, room) = (self.kernels.clone(), self.room.clone());
        Pending::Away(lane.submit(move |comm| {
            // Only the lane's thread takes it; what a panic left in it is overwritten.
            let mut room = room.lock().unwrap_or_else(PoisonError::into_inner);
            bucket.as_mut().try_map(|_, tensor| {
                each(comm, Staged { kernels: kernels.as_ref(), room: &mut room, tensor })
            })?;
            Ok(bucket)
        }))
    }

    /// All tensors of the bucket at once, as the computing stream will have left them.
    fn submit_to(
        &self,
        devices: &Arc<dyn DeviceCommunicator>,
        mut bucket: Bucket<Tensor>,
        all: impl FnOnce(
            &dyn DeviceCommunicator,
            &Moment,
            Vec<Share<'_>>,
        ) -> Result<(), collective::Error>
        + Send
        + 'static,
    ) -> Pending {
        let Some(lane) = &self.lane else { return Pending::Ready(Box::new(bucket)) };
        let (devices, after) = (devices.clone(), devices.computed());
        Pending::Away(lane.submit(move |_| {
            let shares = bucket.as_mut().into_named().into_iter().map(|(_, tensor)| {
                let parts = parts_of(tensor.shape().len(), devices.size());
                Share { data: tensor.view_mut(), parts }
            });
            all(devices.as_ref(), &after?, shares.collect())?;
            Ok(bucket)
        }))
    }
}

/// A tensor on its way through host memory.
struct Staged<'a> {
    kernels: &'a dyn Kernels,
    room: &'a mut HostBuffer,
    tensor: &'a mut Tensor,
}

impl Staged<'_> {
    /// Elements of the tensor.
    fn len(&self) -> usize {
        self.tensor.shape().len()
    }

    /// Runs `work` on the tensor's bytes. Of a device's tensor, elements `out` are copied to host
    /// memory before, the others being undefined there, and elements `back` to the device after.
    fn on_host(
        self,
        out: Range<usize>,
        back: Range<usize>,
        work: impl FnOnce(&mut [u8]) -> Result<(), collective::Error>,
    ) -> Result<(), collective::Error> {
        let Self { kernels, room, tensor } = self;
        let (size_bytes, dtype, len) = (tensor.size_bytes(), tensor.dtype(), tensor.shape().len());
        if let MemMut::Host(bytes) = tensor.view_mut().into_mem() {
            return work(bytes);
        }
        if room.bytes().len() < size_bytes {
            *room = HostBuffer::zeroed(size_bytes);
        }
        let room = &mut room.bytes_mut()[..size_bytes];
        let failed = |error: OpError| collective::Error::Transport {
            what: "a copy between a device and its host".into(),
            cause: error.to_string(),
        };
        let here = MemMut::Host(&mut *room);
        let here = ViewMut::new(here, dtype, Shape::new(&[len])).rows(out.clone());
        let there = tensor.view().reshape(&[len]).rows(out);
        elementwise::copy(kernels, here, there).map_err(failed)?;
        work(room)?;
        let here = View::new(Mem::Host(room), dtype, Shape::new(&[len])).rows(back.clone());
        let there = tensor.view_mut().reshape(&[len]).rows(back);
        elementwise::copy(kernels, there, here).map_err(failed)
    }
}
