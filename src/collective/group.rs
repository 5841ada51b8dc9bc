//! Ranks over a link, those of one host through shared memory.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::call::{Call, Operation};
use super::layers::{Layers, Tags};
use super::wire::World;
use super::{Communicator, Error, Link, Parts, Request};

/// All ranks of `link` as one group; collective. `hosts[r]` tells on which host rank r runs: equal
/// numbers are one host. Errors name ranks by their numbers in `link`, in split groups too.
pub fn group(link: Arc<dyn Link>, hosts: Vec<u64>) -> Result<Arc<dyn Communicator>, Error> {
    let size = link.size();
    if hosts.len() != size {
        let what = format!("{} host names for {size} ranks", hosts.len());
        return Err(Error::Group { what });
    }
    let rank = link.rank();
    let world = Arc::new(World::new(link, hosts));
    let context = world.next_context.fetch_add(1, Ordering::Relaxed);
    Ok(Arc::new(Group::form(world, (0..size).collect(), rank, context)?))
}

/// Some ranks of a job.
#[derive(Debug)]
struct Group {
    world: Arc<World>,
    /// Their ranks in the link.
    members: Vec<usize>,
    /// This rank's index in `members`.
    rank: usize,
    /// Number of the group: no two groups with a rank in common have the same.
    context: u64,
    layers: Layers,
    state: Mutex<State>,
}

/// What changes from call to call; held during one, so that calls from two threads queue up.
#[derive(Debug)]
struct State {
    /// Number of the next call.
    sequence: u64,
    /// Why the group cannot be used any more.
    broken: Option<Error>,
}

impl Group {
    fn form(
        world: Arc<World>,
        members: Vec<usize>,
        rank: usize,
        context: u64,
    ) -> Result<Self, Error> {
        if context >= 1 << CONTEXT_BITS {
            let what = format!("more than {} groups in one job", 1 << CONTEXT_BITS);
            return Err(Error::Group { what });
        }
        let whole = tag(context, COLLECTIVES);
        let tags = Tags { whole, across: whole + 1 };
        let layers = Layers::form(&world, &members, rank, tags, context)?;
        let state = Mutex::new(State { sequence: FIRST_CALL, broken: None });
        Ok(Self { world, members, rank, context, layers, state })
    }

    /// Makes one call; a failure ends the group and is told to the others.
    fn make<T>(
        &self,
        mut call: Call,
        body: impl FnOnce(&Call) -> Result<T, Error>,
    ) -> Result<T, Error> {
        // A panic while it is held is a bug here; the sequence number stays right.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = &state.broken {
            return Err(error.clone());
        }
        call.sequence = state.sequence;
        state.sequence += 1;
        body(&call).inspect_err(|error| {
            self.layers.give_up(&call, error);
            state.broken = Some(error.clone());
        })
    }

    /// The bytes of every rank's part of `len` elements of `width` bytes.
    fn ranges(&self, parts: &Parts, len: usize, width: usize) -> Result<Vec<Range<usize>>, Error> {
        let size = self.members.len();
        if parts.ranks() == size && parts.len() == len {
            let bytes = |r| parts.of(r).start * width..parts.of(r).end * width;
            return Ok((0..size).map(bytes).collect());
        }
        let what = format!(
            "{} parts of {} elements do not divide {len} elements among {size} ranks",
            parts.ranks(),
            parts.len()
        );
        Err(Error::Group { what })
    }

    /// The peer's rank in the link and the tag there.
    fn address(&self, peer: usize, tag_here: u32) -> Result<(usize, u32), Error> {
        let size = self.members.len();
        let Some(rank) = self.members.get(peer) else {
            return Err(Error::Group { what: format!("there is no rank {peer} among {size}") });
        };
        if tag_here >= MAX_TAG {
            let what = format!("tag {tag_here} of a message is not below {MAX_TAG}");
            return Err(Error::Group { what });
        }
        Ok((*rank, tag(self.context, tag_here)))
    }

    /// [`Communicator::split`] into groups that share `world`.
    fn split_into(&self, color: usize, world: Arc<World>) -> Result<Arc<dyn Communicator>, Error> {
        // The new number must be new to every member: the highest that any of them proposes.
        let proposal = self.world.next_context.fetch_add(1, Ordering::Relaxed);
        let mine = [color as u64, proposal];
        let mut all = vec![[0u64; 2]; self.members.len()];
        self.all_gather(bytemuck::cast_slice(&mine), bytemuck::cast_slice_mut(&mut all))?;
        let context = all.iter().map(|[_, proposed]| *proposed).max().unwrap_or(proposal);
        self.world.next_context.fetch_max(context + 1, Ordering::Relaxed);
        let same = |r: &usize| all[*r][0] == color as u64;
        let (below, here) = (0..self.rank, 0..self.members.len());
        let members = here.filter(same).map(|r| self.members[r]).collect();
        let group = Self::form(world, members, below.filter(same).count(), context)?;
        Ok(Arc::new(group))
    }
}

impl Communicator for Group {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.members.len()
    }

    fn describe(&self) -> String {
        self.layers.describe(&self.world.link.describe())
    }

    fn barrier(&self) -> Result<(), Error> {
        self.make(Call::new(Operation::Barrier, 0), |call| self.layers.barrier(call))
    }

    fn broadcast(&self, root: usize, bytes: &mut [u8]) -> Result<(), Error> {
        let size = self.members.len();
        if root >= size {
            return Err(Error::Group { what: format!("there is no rank {root} among {size}") });
        }
        let call = Call::new(Operation::Broadcast, bytes.len());
        let call = Call { root: root as u32, ..call };
        self.make(call, |call| self.layers.broadcast(call, root, bytes))
    }

    fn all_gather(&self, mine: &[u8], all: &mut [u8]) -> Result<(), Error> {
        let (size, len) = (self.members.len(), mine.len());
        if all.len() != size * len {
            let what = format!("{len} bytes of each of {size} ranks do not fill {}", all.len());
            return Err(Error::Group { what });
        }
        let ranges: Vec<_> = (0..size).map(|r| r * len..(r + 1) * len).collect();
        all[ranges[self.rank].clone()].copy_from_slice(mine);
        let call = Call::new(Operation::AllGather, all.len());
        self.make(call, |call| self.layers.all_gather(call, all, &ranges))
    }

    fn reduce_scatter(&self, data: &mut [f32], parts: &Parts) -> Result<(), Error> {
        let ranges = self.ranges(parts, data.len(), size_of::<f32>())?;
        let call = Call::new(Operation::ReduceScatter, data.len()).shaped(ranges.iter().cloned());
        let bytes = bytemuck::cast_slice_mut(data);
        self.make(call, |call| self.layers.reduce_scatter(call, bytes, &ranges))
    }

    fn all_gather_bytes(&self, data: &mut [u8], parts: &Parts) -> Result<(), Error> {
        let ranges = self.ranges(parts, data.len(), 1)?;
        let call = Call::new(Operation::AllGatherParts, data.len()).shaped(ranges.iter().cloned());
        self.make(call, |call| self.layers.all_gather(call, data, &ranges))
    }

    fn all_reduce(&self, data: &mut [f32]) -> Result<(), Error> {
        let parts = Parts::even(data.len(), self.members.len(), LINE);
        let ranges = self.ranges(&parts, data.len(), size_of::<f32>())?;
        let call = Call::new(Operation::AllReduce, data.len());
        let bytes = bytemuck::cast_slice_mut(data);
        self.make(call, |call| self.layers.all_reduce(call, bytes, &ranges))
    }

    fn send(&self, to: usize, tag: u32, bytes: Vec<u8>) -> Request {
        match self.address(to, tag) {
            Ok((rank, tag)) => self.world.link.send(rank, tag, bytes),
            Err(error) => Request::ended(to, Err(error)),
        }
    }

    fn receive(&self, from: usize, tag: u32, len: usize) -> Request {
        match self.address(from, tag) {
            Ok((rank, tag)) => self.world.link.receive(rank, tag, len),
            Err(error) => Request::ended(from, Err(error)),
        }
    }

    fn split(&self, color: usize) -> Result<Arc<dyn Communicator>, Error> {
        self.split_into(color, self.world.clone())
    }

    fn split_apart(&self, color: usize) -> Result<Arc<dyn Communicator>, Error> {
        self.split_into(color, Arc::new(self.world.apart()))
    }

    fn patience(&self) -> Duration {
        self.world.patience()
    }

    fn set_patience(&self, patience: Duration) {
        self.world.set_patience(patience);
    }

    fn abort(&self, code: i32) -> ! {
        self.world.link.abort(code)
    }
}

/// The tag of the link for tag `tag` of a group: no two groups of a rank share one.
fn tag(context: u64, tag: u32) -> u32 {
    (context as u32) << TAG_BITS | tag
}

/// Bits of a link's 24-bit tag that tell groups apart.
const CONTEXT_BITS: u32 = 12;
const TAG_BITS: u32 = 24 - CONTEXT_BITS;

/// Tags of [`Communicator::send`] are below it; those above are the collectives'.
const MAX_TAG: u32 = (1 << TAG_BITS) - 8;
const COLLECTIVES: u32 = MAX_TAG;

/// The number of a group's first call after its forming.
const FIRST_CALL: u64 = 2;

/// f32 of a cache line: no two ranks sum in one.
const LINE: usize = 16;
