//! The ranks of a job as a mesh of stages and data ranks.

use std::ops::Range;
use std::sync::Arc;

use crate::collective::Communicator;
use crate::collective::DeviceCommunicator;
use crate::collective::Error;

/// This rank's place. World rank = `stage * data_size + data_rank`, so that the data ranks of a
/// stage, which exchange most, are neighbours and mostly share a host.
#[derive(Clone, Debug)]
pub struct Mesh {
    world: Arc<dyn Communicator>,
    data: Arc<dyn Communicator>,
    stages: usize,
    shards: usize,
    devices: Option<Arc<dyn DeviceCommunicator>>,
}

impl Mesh {
    /// The mesh of all ranks of `world`; collective. Refuses sizes that do not fit, on every rank
    /// alike.
    pub fn new(world: Arc<dyn Communicator>, stages: usize, shards: usize) -> Result<Self, Error> {
        let ranks = world.size();
        let data_size = fit(ranks, stages, shards).map_err(|what| Error::Group { what })?;
        let data =
            if stages == 1 { world.clone() } else { world.split(world.rank() / data_size)? };
        Ok(Self { world, data, stages, shards, devices: None })
    }

    /// A mesh of one rank, for `shards` shards.
    pub fn single(shards: usize) -> Self {
        let world = crate::collective::single();
        Self { data: world.clone(), world, stages: 1, shards, devices: None }
    }

    /// All ranks.
    pub fn world(&self) -> &Arc<dyn Communicator> {
        &self.world
    }

    /// The ranks of this stage; their order is that of the shards.
    pub fn data(&self) -> &Arc<dyn Communicator> {
        &self.data
    }

    /// The same ranks, of which those of [`Self::data`] exchange tensors in the memory of their
    /// devices by `devices`, if there are any.
    pub fn with_devices(self, devices: Option<Arc<dyn DeviceCommunicator>>) -> Self {
        Self { devices, ..self }
    }

    /// Collectives of [`Self::data`] in device memory; none where tensors go through host memory.
    pub fn devices(&self) -> Option<&Arc<dyn DeviceCommunicator>> {
        self.devices.as_ref()
    }

    /// Stages.
    pub fn stages(&self) -> usize {
        self.stages
    }

    /// This rank's stage, from 0.
    pub fn stage(&self) -> usize {
        self.world.rank() / self.data.size()
    }

    /// World rank of this rank's counterpart in stage `stage`.
    pub fn counterpart(&self, stage: usize) -> usize {
        stage * self.data.size() + self.data.rank()
    }

    /// Shards S of the batch.
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The shards that this rank computes.
    pub fn local_shards(&self) -> Range<usize> {
        let each = self.shards / self.data.size();
        self.data.rank() * each..(self.data.rank() + 1) * each
    }

    /// Whether this is the job's first rank, which speaks for it.
    pub fn is_speaker(&self) -> bool {
        self.world.rank() == 0
    }
}

/// Data ranks of each stage if `ranks` ranks train in `stages` stages a batch of `shards` shards;
/// why they cannot, if they cannot.
pub fn fit(ranks: usize, stages: usize, shards: usize) -> Result<usize, String> {
    if stages == 0 || ranks == 0 || !ranks.is_multiple_of(stages) {
        return Err(format!(
            "{ranks} ranks cannot form {stages} stages (parallel.stages); \
             start a multiple of {stages} ranks"
        ));
    }
    let data_size = ranks / stages;
    if shards.is_multiple_of(data_size) {
        return Ok(data_size);
    }
    let fitting = 1 << (usize::BITS - 1 - data_size.min(shards).leading_zeros());
    Err(format!(
        "{data_size} ranks{} do not divide the {shards} shards of the batch \
         (parallel.shards); start {} ranks, or begin a new run with other shards",
        if stages > 1 { " in each stage" } else { "" },
        fitting * stages,
    ))
}
