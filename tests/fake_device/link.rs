//! Collectives between fake devices that hide what they do: trainers see device memory alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use neuroshard::collective::{Communicator, DeviceCommunicator, Error, Moment, Share};
use neuroshard::ops::{Kernels, elementwise};
use neuroshard::tensor::{DType, HostBuffer, Mem, MemMut, Shape, View, ViewMut};

/// The devices of a group of ranks.
#[derive(Debug)]
pub struct Linked {
    kernels: Arc<dyn Kernels>,
    comm: Arc<dyn Communicator>,
    /// Calls so far.
    pub calls: AtomicUsize,
}

impl Linked {
    /// Those of `comm`; collective.
    pub fn over(comm: &dyn Communicator, kernels: Arc<dyn Kernels>) -> Arc<Self> {
        let comm = comm.split(0).unwrap();
        Arc::new(Self { kernels, comm, calls: AtomicUsize::new(0) })
    }

    /// Each tensor's bytes through `work`.
    fn each(
        &self,
        shares: Vec<Share<'_>>,
        mut work: impl FnMut(&mut [u8], DType, &Share<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        for mut share in shares {
            let (dtype, len) = (share.data.dtype(), share.data.shape().len());
            assert_eq!((share.parts.ranks(), share.parts.len()), (self.comm.size(), len));
            let mut room = HostBuffer::zeroed(len * dtype.size_bytes());
            let bytes = &mut room.bytes_mut()[..len * dtype.size_bytes()];
            let shape = Shape::new(&[len]);
            let here = ViewMut::new(MemMut::Host(bytes), dtype, shape);
            let there = share.data.as_view().reshape(&[len]);
            elementwise::copy(self.kernels.as_ref(), here, there).unwrap();
            work(bytes, dtype, &share)?;
            let here = View::new(Mem::Host(bytes), dtype, shape);
            let there = share.data.reborrow().reshape(&[len]);
            elementwise::copy(self.kernels.as_ref(), there, here).unwrap();
        }
        Ok(())
    }
}

impl DeviceCommunicator for Linked {
    fn rank(&self) -> usize {
        self.comm.rank()
    }

    fn size(&self) -> usize {
        self.comm.size()
    }

    fn describe(&self) -> String {
        "fake devices".into()
    }

    fn computed(&self) -> Result<Moment, Error> {
        Ok(Moment::default())
    }

    fn reduce_scatter(&self, _: &Moment, shares: Vec<Share<'_>>) -> Result<(), Error> {
        self.each(shares, |bytes, dtype, share| {
            assert_eq!(dtype, DType::F32);
            let data: &mut [f32] = bytemuck::cast_slice_mut(bytes);
            self.comm.reduce_scatter(data, &share.parts)?;
            // What is not this rank's is undefined: nobody may use it.
            let own = share.parts.of(self.comm.rank());
            data[..own.start].fill(f32::NAN);
            data[own.end..].fill(f32::NAN);
            Ok(())
        })
    }

    fn all_gather(&self, _: &Moment, shares: Vec<Share<'_>>) -> Result<(), Error> {
        self.each(shares, |bytes, dtype, share| {
            self.comm.all_gather_bytes(bytes, &share.parts.times(dtype.size_bytes()))
        })
    }

    fn all_reduce(&self, _: &Moment, shares: Vec<Share<'_>>) -> Result<(), Error> {
        self.each(shares, |bytes, dtype, share| {
            assert_eq!(dtype, DType::F32);
            let data: &mut [f32] = bytemuck::cast_slice_mut(bytes);
            self.comm.reduce_scatter(data, &share.parts)?;
            self.comm.all_gather_parts(data, &share.parts)
        })
    }
}
