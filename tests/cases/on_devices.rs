//! A communicator whose sums and gathers of f32 go through the memory of devices; all else is that of
//! the host. So what must hold of communicators can be asked of devices.

use std::sync::Arc;
use std::time::Duration;

use neuroshard::collective::{
    Communicator, DeviceCommunicator, Error, Moment, Parts, Request, Share,
};
use neuroshard::ops::{Kernels, elementwise};
use neuroshard::tensor::{DType, View, ViewMut};

/// Ranks with devices.
#[derive(Debug)]
pub struct OnDevices {
    /// Their group in host memory.
    pub comm: Arc<dyn Communicator>,
    /// This rank's device.
    pub kernels: Arc<dyn Kernels>,
    /// The group's devices.
    pub devices: Arc<dyn DeviceCommunicator>,
}

type Call = fn(&dyn DeviceCommunicator, &Moment, Vec<Share<'_>>) -> Result<(), Error>;

impl OnDevices {
    fn through(&self, data: &mut [f32], parts: &Parts, call: Call) -> Result<(), Error> {
        let (k, shape) = (self.kernels.as_ref(), [data.len()]);
        let mut tensor = k.zeros(DType::F32, &shape).unwrap();
        elementwise::copy(k, tensor.view_mut(), View::of(data, &shape)).unwrap();
        let after = self.devices.computed()?;
        let share = Share { data: tensor.view_mut(), parts: parts.clone() };
        call(self.devices.as_ref(), &after, vec![share])?;
        elementwise::copy(k, ViewMut::of(data, &shape), tensor.view()).unwrap();
        Ok(())
    }
}

impl Communicator for OnDevices {
    fn rank(&self) -> usize {
        self.comm.rank()
    }

    fn size(&self) -> usize {
        self.comm.size()
    }

    fn describe(&self) -> String {
        self.devices.describe()
    }

    fn barrier(&self) -> Result<(), Error> {
        self.comm.barrier()
    }

    fn broadcast(&self, root: usize, bytes: &mut [u8]) -> Result<(), Error> {
        self.comm.broadcast(root, bytes)
    }

    fn all_gather(&self, mine: &[u8], all: &mut [u8]) -> Result<(), Error> {
        self.comm.all_gather(mine, all)
    }

    fn reduce_scatter(&self, data: &mut [f32], parts: &Parts) -> Result<(), Error> {
        self.through(data, parts, |devices, after, shares| devices.reduce_scatter(after, shares))
    }

    fn all_gather_parts(&self, data: &mut [f32], parts: &Parts) -> Result<(), Error> {
        self.through(data, parts, |devices, after, shares| devices.all_gather(after, shares))
    }

    fn all_gather_bytes(&self, data: &mut [u8], parts: &Parts) -> Result<(), Error> {
        self.comm.all_gather_bytes(data, parts)
    }

    fn all_reduce(&self, data: &mut [f32]) -> Result<(), Error> {
        let parts = Parts::even(data.len(), self.size(), 16);
        self.through(data, &parts, |devices, after, shares| devices.all_reduce(after, shares))
    }

    fn send(&self, to: usize, tag: u32, bytes: Vec<u8>) -> Request {
        self.comm.send(to, tag, bytes)
    }

    fn receive(&self, from: usize, tag: u32, len: usize) -> Request {
        self.comm.receive(from, tag, len)
    }

    fn split(&self, color: usize) -> Result<Arc<dyn Communicator>, Error> {
        self.comm.split(color)
    }

    fn split_apart(&self, color: usize) -> Result<Arc<dyn Communicator>, Error> {
        self.comm.split_apart(color)
    }

    fn patience(&self) -> Duration {
        self.comm.patience()
    }

    fn set_patience(&self, patience: Duration) {
        self.comm.set_patience(patience);
    }

    fn abort(&self, code: i32) -> ! {
        self.comm.abort(code)
    }
}
