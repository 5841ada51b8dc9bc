//! A link between devices as collectives: calls are compared, waits are bounded.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::tree::{self, Placed, failed};
use super::{DeviceCommunicator, DeviceLink, Moment, Share};
use crate::backend::cuda::Beside;
use crate::backend::cuda::Cuda;
use crate::collective::call::{Call, Operation};
use crate::collective::{Communicator, Error};
use crate::tensor::DType;

/// Collectives of the ranks of `comm` over `link`, whose tensors live on the device of `cuda`;
/// collective. `name` is this rank's number in errors.
pub fn device_group(
    comm: &dyn Communicator,
    cuda: &Cuda,
    link: Arc<dyn DeviceLink>,
    name: usize,
) -> Result<Arc<dyn DeviceCommunicator>, Error> {
    let size = comm.size();
    if !size.is_power_of_two() || (link.size(), link.rank()) != (size, comm.rank()) {
        let what = format!(
            "rank {} of {size} cannot sum as rank {} of {} over {}: give it a power of two of the same \
             ranks, or take parallel.device_link = \"host\"",
            comm.rank(),
            link.rank(),
            link.size(),
            link.describe()
        );
        return Err(Error::Group { what });
    }
    // For its calls alone, so that the lane that makes them may go its own way.
    let control = comm.split(0)?;
    let mut names = vec![0u64; size];
    control.all_gather(bytemuck::bytes_of(&(name as u64)), bytemuck::cast_slice_mut(&mut names))?;
    let beside = Beside::new(cuda).map_err(|fault| failed(&fault))?;
    let names = names.into_iter().map(|name| name as usize).collect();
    let state = Mutex::new(State { beside, sequence: 0, broken: None });
    Ok(Arc::new(Group { control, names, link, cuda: cuda.clone(), state }))
}

/// Some ranks' devices.
#[derive(Debug)]
struct Group {
    /// Carries what the ranks agree on, in host memory.
    control: Arc<dyn Communicator>,
    /// The ranks' numbers in errors.
    names: Vec<usize>,
    link: Arc<dyn DeviceLink>,
    cuda: Cuda,
    state: Mutex<State>,
}

/// Held during a call.
#[derive(Debug)]
struct State {
    beside: Beside,
    /// Number of the next call.
    sequence: u64,
    /// Why the group cannot be used any more.
    broken: Option<Error>,
}

impl Group {
    fn make(
        &self,
        operation: Operation,
        after: &Moment,
        shares: Vec<Share<'_>>,
        work: impl FnOnce(&mut Beside, &[Placed]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // A panic while it is held is a bug here; the sequence number stays right.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &state.broken {
            return Err(error.clone());
        }
        // Before anybody else hears of the call: the group lives on.
        let placed = shares.into_iter().map(|share| self.place(operation, &state.beside, share));
        let placed = placed.collect::<Result<Vec<_>, _>>()?;
        let sequence = state.sequence;
        state.sequence += 1;
        let outcome = self.agree(operation, sequence, &placed).and_then(|()| {
            let beside = &mut state.beside;
            beside.door().wait_for(&after.0).map_err(|fault| failed(&fault))?;
            work(beside, &placed)?;
            self.wait(beside)
        });
        outcome.inspect_err(|error| {
            self.link.give_up();
            state.broken = Some(error.clone());
        })
    }

    /// Where a tensor and its parts are, if they fit each other and the operation.
    fn place(
        &self,
        operation: Operation,
        beside: &Beside,
        share: Share<'_>,
    ) -> Result<Placed, Error> {
        let Share { data, parts } = share;
        let (dtype, len, size) = (data.dtype(), data.shape().len(), self.names.len());
        if parts.ranks() != size || parts.len() != len {
            let what = format!(
                "{} parts of {} elements do not divide {len} elements among {size} ranks",
                parts.ranks(),
                parts.len()
            );
            return Err(Error::Group { what });
        }
        if operation != Operation::AllGatherParts && dtype != DType::F32 {
            let what = format!("a sum between ranks is of f32, not of {dtype:?}");
            return Err(Error::Group { what });
        }
        let parts = parts.times(dtype.size_bytes());
        let at = beside.place(data).map_err(|error| failed(&error))?;
        Ok(Placed { at, ranges: (0..size).map(|r| parts.of(r)).collect() })
    }

    /// Returns when every rank has come to this call, and it is the same call.
    fn agree(&self, operation: Operation, sequence: u64, placed: &[Placed]) -> Result<(), Error> {
        let bytes =
            placed.iter().flat_map(|tensor| tensor.ranges.last()).map(|last| last.end).sum();
        let ranges = placed.iter().flat_map(|tensor| tensor.ranges.iter().cloned());
        let mine = Call { sequence, ..Call::new(operation, bytes).shaped(ranges) };
        let mut all = vec![mine; self.names.len()];
        self.control.all_gather(bytemuck::bytes_of(&mine), bytemuck::cast_slice_mut(&mut all))?;
        all.iter().zip(&self.names).try_for_each(|(theirs, name)| mine.check(*name, theirs))
    }

    /// Returns when the device has done what it was asked for.
    fn wait(&self, beside: &Beside) -> Result<(), Error> {
        let door = beside.door();
        let end = door.mark().map_err(|fault| failed(&fault))?;
        let (started, mut pause) = (Instant::now(), SHORTEST_PAUSE);
        loop {
            let passed = door.passed(&end).map_err(|fault| failed(&fault))?;
            self.link.check()?;
            if passed {
                return Ok(());
            }
            let (waited, patience) = (started.elapsed(), self.control.patience());
            if waited > patience {
                return Err(Error::Silent { ranks: self.partners(), waited });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// The ranks that this one exchanges with: what did not come should have come from one of them.
    fn partners(&self) -> Vec<usize> {
        let (rank, size) = (self.link.rank(), self.names.len());
        (0..size.ilog2()).map(|level| self.names[rank ^ (1 << level)]).collect()
    }
}

impl DeviceCommunicator for Group {
    fn rank(&self) -> usize {
        self.link.rank()
    }

    fn size(&self) -> usize {
        self.names.len()
    }

    fn describe(&self) -> String {
        self.link.describe()
    }

    fn computed(&self) -> Result<Moment, Error> {
        Ok(Moment(self.cuda.door().mark().map_err(|fault| failed(&fault))?))
    }

    fn reduce_scatter(&self, after: &Moment, shares: Vec<Share<'_>>) -> Result<(), Error> {
        self.make(Operation::ReduceScatter, after, shares, |beside, all| {
            tree::reduce_scatter(self.link.as_ref(), beside, all)
        })
    }

    fn all_gather(&self, after: &Moment, shares: Vec<Share<'_>>) -> Result<(), Error> {
        self.make(Operation::AllGatherParts, after, shares, |beside, all| {
            tree::all_gather(self.link.as_ref(), beside, all)
        })
    }

    fn all_reduce(&self, after: &Moment, shares: Vec<Share<'_>>) -> Result<(), Error> {
        self.make(Operation::AllReduce, after, shares, |beside, all| {
            tree::reduce_scatter(self.link.as_ref(), beside, all)?;
            tree::all_gather(self.link.as_ref(), beside, all)
        })
    }
}

/// Between two looks at the device.
const SHORTEST_PAUSE: Duration = Duration::from_micros(5);
const LONGEST_PAUSE: Duration = Duration::from_micros(200);
