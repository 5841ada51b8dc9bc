//! Buckets between the data ranks of a stage, beside computation.

use std::time::{Duration, Instant};

use super::Error;
use crate::collective;
use crate::collective::Communicator;
use crate::collective::Lane;
use crate::collective::Ticket;
use crate::model::Bucket;
use crate::shard::Division;
use crate::shard::Mesh;
use crate::shard::Zero;
use crate::shard::parts_of;
use crate::tensor::Tensor;

/// A lane to the other data ranks of the stage; none where there are none.
#[derive(Debug)]
pub(super) struct Exchange {
    lane: Option<Lane>,
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
    pub fn new(mesh: &Mesh, division: Division) -> Result<Self, Error> {
        let lane = match mesh.data().size() {
            1 => None,
            // All of them: a group of the same ranks, for the lane alone.
            _ => Some(Lane::new(mesh.data().split(0)?)?),
        };
        Ok(Self { lane, division, waited: Duration::ZERO })
    }

    /// Starts to sum a bucket of gradients over the data ranks: afterwards the elements that this
    /// rank updates are the sum.
    pub fn reduce(&self, bucket: Bucket<Tensor>) -> Pending {
        let everything = self.division.zero == Zero::Nothing;
        self.submit(bucket, move |comm, data| {
            let parts = parts_of(data.len(), comm.size());
            comm.reduce_scatter(data, &parts)?;
            if everything { comm.all_gather_parts(data, &parts) } else { Ok(()) }
        })
    }

    /// Starts to complete a bucket of whole tensors of which every data rank has filled in what
    /// it owns.
    pub fn gather(&self, bucket: Bucket<Tensor>) -> Pending {
        self.submit(bucket, |comm, data| {
            comm.all_gather_parts(data, &parts_of(data.len(), comm.size()))
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
        each: impl Fn(&dyn Communicator, &mut [f32]) -> Result<(), collective::Error> + Send + 'static,
    ) -> Pending {
        let Some(lane) = &self.lane else { return Pending::Ready(Box::new(bucket)) };
        Pending::Away(lane.submit(move |comm| {
            bucket.as_mut().try_map(|_, tensor| each(comm, tensor.host_mut::<f32>()))?;
            Ok(bucket)
        }))
    }
}
