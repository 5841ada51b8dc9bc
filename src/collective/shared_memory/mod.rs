//! Collectives among the ranks of one host.
//!
//! A buffer goes in steps of one chunk per part, small enough to stay in cache. In a step a rank
//! copies its terms of the others' chunks to where they can read them, sums its own chunk of the
//! step before in tree order, and copies out the others' sums of the step before that; then all
//! meet. So there is one meeting per step, and buffers alternate between two.
//!
//! Of a buffer of M bytes an all-reduce reads and writes M bytes of each rank's memory once, which
//! is the least possible; the rest is traffic between caches: M (1 - 1/n) copied in, as much read
//! for the sums, M/n written, M (1 - 1/n) copied out.

mod meeting;
mod region;

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use super::call::Call;
use super::wire::World;
use super::{Error, sum};
use meeting::Meetings;
use region::{Creator, Layout, Region};

pub(super) use region::Address;

/// The ranks of one host, with the memory that they share.
#[derive(Debug)]
pub(super) struct Host {
    rank: usize,
    size: usize,
    region: Region,
    meetings: Meetings,
    clock: Mutex<Clock>,
}

/// A host's first rank before all have joined.
#[derive(Debug)]
pub(super) struct Founder(#[expect(dead_code, reason = "held until all have joined")] Creator);

/// Which buffers are whose turn; the same at every rank.
#[derive(Debug, Default)]
struct Clock {
    /// Meetings so far.
    step: u64,
    /// Calls so far.
    call: u64,
    /// Why there is no further call.
    failed: Option<Error>,
}

/// `blocks[b][r]`: bytes of the buffer that rank r owns, for every block b.
pub(super) type Blocks = [Vec<Range<usize>>];

impl Host {
    /// Makes the shared memory for `ranks`, named by their ranks in the link, as the first of them.
    pub fn found(
        world: Arc<World>,
        ranks: Vec<usize>,
    ) -> std::io::Result<(Self, Address, Founder)> {
        let (region, address, creator) = Region::create(Layout::new(ranks.len(), STEP))?;
        Ok((Self::new(world, ranks, 0, region), address, Founder(creator)))
    }

    /// Joins as number `rank` the memory that the first rank has made.
    pub fn join(
        world: Arc<World>,
        ranks: Vec<usize>,
        rank: usize,
        address: Address,
    ) -> std::io::Result<Self> {
        let region = Region::open(address, Layout::new(ranks.len(), STEP))?;
        Ok(Self::new(world, ranks, rank, region))
    }

    fn new(world: Arc<World>, ranks: Vec<usize>, rank: usize, region: Region) -> Self {
        let size = ranks.len();
        let meetings = Meetings::new(world, ranks, rank, &region);
        Self { rank, size, region, meetings, clock: Mutex::default() }
    }

    /// Every rank's own bytes of f32 become their sums over the ranks; the rest is undefined.
    pub fn reduce_scatter(
        &self,
        call: &Call,
        data: &mut [u8],
        blocks: &Blocks,
    ) -> Result<(), Error> {
        let mut turn = self.turn(call, 0)?;
        let steps = self.steps(blocks);
        for i in 0..=steps.len() {
            if let Some(step) = steps.get(i) {
                turn.put_terms(data, step);
            }
            if i > 0 {
                turn.sum(data, &steps[i - 1], Keep::Here);
            }
            if i < steps.len() {
                turn.meet()?;
            }
        }
        Ok(())
    }

    /// Every byte of f32 becomes its sum over the ranks.
    pub fn all_reduce(&self, call: &Call, data: &mut [u8], blocks: &Blocks) -> Result<(), Error> {
        let mut turn = self.turn(call, 0)?;
        let steps = self.steps(blocks);
        for i in 0..steps.len() + 2 {
            if let Some(step) = steps.get(i) {
                turn.put_terms(data, step);
            }
            if let Some(step) = i.checked_sub(1).and_then(|i| steps.get(i)) {
                turn.sum(data, step, Keep::ForAll);
            }
            if i >= 2 {
                turn.take_sums(data, &steps[i - 2]);
            }
            if i < steps.len() + 1 {
                turn.meet()?;
            }
        }
        Ok(())
    }

    /// Every rank's own bytes to all. `depth`: as in `Wire`.
    pub fn all_gather(
        &self,
        call: &Call,
        depth: u32,
        data: &mut [u8],
        blocks: &Blocks,
    ) -> Result<(), Error> {
        let mut turn = self.turn(call, depth)?;
        let steps = self.steps(blocks);
        for i in 0..=steps.len() {
            if let Some(step) = steps.get(i) {
                turn.put(0, &data[step.of(self.rank)]);
            }
            if i > 0 {
                for rank in (0..self.size).filter(|r| *r != self.rank) {
                    turn.take(rank, &mut data[steps[i - 1].of(rank)]);
                }
            }
            if i < steps.len() {
                turn.meet()?;
            }
        }
        Ok(())
    }

    /// `data` of rank `root` to all.
    pub fn broadcast(
        &self,
        call: &Call,
        depth: u32,
        root: usize,
        data: &mut [u8],
    ) -> Result<(), Error> {
        let mut turn = self.turn(call, depth)?;
        let room = self.size * self.region.layout().chunk;
        let steps = data.len().div_ceil(room).max(1);
        let (len, at) = (data.len(), |i: usize| i * room);
        let step = |i| at(i).min(len)..at(i + 1).min(len);
        for i in 0..=steps {
            if self.rank == root {
                turn.put(0, &data[step(i)]);
            } else if i > 0 {
                turn.take(root, &mut data[step(i - 1)]);
            }
            if i < steps {
                turn.meet()?;
            }
        }
        Ok(())
    }

    /// Returns when all ranks have come.
    pub fn barrier(&self, call: &Call, depth: u32) -> Result<(), Error> {
        self.turn(call, depth)?.meet()
    }

    /// Leaves word for the others that this rank gave up.
    pub fn give_up(&self, call: &Call, error: &Error) {
        self.meetings.give_up(&self.region, call, error);
    }

    fn turn<'a>(&'a self, call: &'a Call, depth: u32) -> Result<Turn<'a>, Error> {
        // A panic while it is held leaves buffers that others may read: no further call then.
        let gone = |_| Error::Lost { rank: self.meetings.number() };
        let mut clock = self.clock.lock().map_err(gone)?;
        if let Some(error) = &clock.failed {
            return Err(error.clone());
        }
        clock.call += 1;
        self.meetings.announce(&self.region, call, clock.call, 1);
        Ok(Turn { host: self, call, depth, first: true, clock })
    }

    /// The steps of a buffer in `blocks`; at least one, so that ranks always meet.
    fn steps(&self, blocks: &Blocks) -> Vec<Step> {
        let chunk = self.region.layout().chunk;
        let mut steps = Vec::new();
        for ranges in blocks {
            let longest = ranges.iter().map(Range::len).max().unwrap_or(0);
            for at in (0..longest).step_by(chunk) {
                let clip =
                    |r: &Range<usize>| (r.start + at).min(r.end)..(r.start + at + chunk).min(r.end);
                steps.push(Step(ranges.iter().map(clip).collect()));
            }
        }
        if steps.is_empty() {
            steps.push(Step(vec![0..0; self.size]));
        }
        steps
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.meetings.leave(&self.region);
    }
}

/// Bytes of the buffer by their owners in one step: at most a chunk each.
struct Step(Vec<Range<usize>>);

impl Step {
    fn of(&self, rank: usize) -> Range<usize> {
        self.0[rank].clone()
    }
}

/// Where a sum is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Keep {
    Here,
    ForAll,
}

/// One call under way.
struct Turn<'a> {
    host: &'a Host,
    call: &'a Call,
    depth: u32,
    first: bool,
    clock: MutexGuard<'a, Clock>,
}

// Why the buffers may be read and written, for all blocks below. A rank writes only buffers of its
// own, `terms(self, step)` and `sums(self, step - 1)`, and reads others' `terms(_, step - 1)` and
// `sums(_, step - 2)`. Between two steps all ranks meet, and no rank writes before it has met after
// the last read: what is written in step s under one parity is read until the end of step s + 1
// (terms) or s + 1 after the sum's own step (sums), and written again in s + 2 or later. All ranks
// take the same steps, as the first meeting of a call has compared the calls; a rank that leaves a
// call early, by an error or a panic, makes no further call: its buffers stay as they are.
impl Turn<'_> {
    /// Copies what the others will sum.
    fn put_terms(&self, data: &[u8], step: &Step) {
        let Host { rank: me, size, .. } = *self.host;
        for rank in (0..size).filter(|rank| *rank != me) {
            self.put(rank, &data[step.of(rank)]);
        }
    }

    /// Copies `bytes` to chunk `chunk` of this rank's terms; they may reach over several chunks.
    fn put(&self, chunk: usize, bytes: &[u8]) {
        let region = &self.host.region;
        let (size, len) = (self.host.size, region.layout().chunk);
        assert!(chunk * len + bytes.len() <= size * len, "more than the buffer holds");
        let terms = region.terms(self.host.rank, self.clock.step);
        // SAFETY: within the buffer by the line above; nobody reads it now, see the top.
        unsafe { terms.add(chunk * len).copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
    }

    /// Copies what rank `rank` put in the step before at the start of its terms.
    fn take(&self, rank: usize, bytes: &mut [u8]) {
        let region = &self.host.region;
        let (size, len) = (self.host.size, region.layout().chunk);
        assert!(bytes.len() <= size * len, "more than the buffer holds");
        let terms = region.terms(rank, self.clock.step.wrapping_sub(1));
        // SAFETY: within the buffer by the line above; nobody writes it now, see the top.
        unsafe { terms.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
    }

    /// Sums this rank's chunk of the step before, in place and perhaps for the others too.
    fn sum(&self, data: &mut [u8], step: &Step, keep: Keep) {
        let Host { rank: me, size, ref region, .. } = *self.host;
        let chunk = region.layout().chunk;
        let own: &mut [f32] = bytemuck::cast_slice_mut(&mut data[step.of(me)]);
        assert!(own.len() * 4 <= chunk, "more than the buffer holds");
        let before = self.clock.step.wrapping_sub(1);
        let term = |rank: usize, start: usize, len: usize| -> &[f32] {
            let terms = region.terms(rank, before);
            // SAFETY: chunk `me` of the terms lies in the buffer and is aligned (chunks are
            // multiples of 64 bytes, the region starts a page); `start + len` is at most the
            // chunk's length; nobody writes it now, see the top.
            unsafe {
                std::slice::from_raw_parts(terms.add(me * chunk).cast::<f32>().add(start), len)
            }
        };
        let mut block = [0.0; BLOCK];
        for start in (0..own.len()).step_by(BLOCK) {
            let end = own.len().min(start + BLOCK);
            let (own, block) = (&mut own[start..end], &mut block[..end - start]);
            let of = |rank| if rank == me { &*own } else { term(rank, start, end - start) };
            if size <= FEW {
                let terms: [&[f32]; FEW] = std::array::from_fn(|r| of(r.min(size - 1)));
                sum::tree(block, &terms[..size]);
            } else {
                sum::tree(block, &(0..size).map(of).collect::<Vec<_>>());
            }
            own.copy_from_slice(block);
            if keep == Keep::ForAll {
                let sums = region.sums(me, before).cast::<f32>();
                // SAFETY: `end` is within the chunk; nobody reads it now, see the top.
                unsafe { sums.add(start).copy_from_nonoverlapping(block.as_ptr(), block.len()) };
            }
        }
    }

    /// Copies out the others' sums of the step before the last.
    fn take_sums(&self, data: &mut [u8], step: &Step) {
        let Host { rank: me, size, ref region, .. } = *self.host;
        for rank in (0..size).filter(|rank| *rank != me) {
            let bytes = &mut data[step.of(rank)];
            assert!(bytes.len() <= region.layout().chunk, "more than the buffer holds");
            let sums = region.sums(rank, self.clock.step.wrapping_sub(2));
            // SAFETY: within the buffer by the line above; nobody writes it now, see the top.
            unsafe { sums.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        }
    }

    /// Meets the others; the first time in a call, all compare what they are in.
    fn meet(&mut self) -> Result<(), Error> {
        let Host { ref meetings, ref region, .. } = *self.host;
        let mut met = meetings.meet(region, self.call, self.depth);
        if std::mem::take(&mut self.first) {
            met = met.and_then(|()| meetings.compare(region, self.call, self.clock.call));
        }
        self.clock.step += 1;
        self.clock.failed = met.clone().err();
        met
    }
}

/// Bytes of its buffer that a rank moves between two meetings: seven times as much, of every rank of
/// a few, fits the last cache. What is best differs from machine to machine, and not by much.
const STEP: usize = 512 << 10;

/// f32 summed at a time: 8 KiB, in the first cache.
const BLOCK: usize = 2048;

/// Ranks whose terms need no list on the heap.
const FEW: usize = 8;

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;
    use crate::collective::call::Operation;
    use crate::collective::channels;

    #[test]
    fn a_sum_that_lacks_somebody_is_refused() {
        let link = channels(2).remove(0);
        let world = Arc::new(World::new(link, vec![0; 2]));
        let (first, address, _held) = Host::found(world.clone(), vec![0, 1]).unwrap();
        let second = Host::join(world, vec![0, 1], 1, address).unwrap();
        let call = Call::new(Operation::AllReduce, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut turn = second.turn(&call, 0).unwrap();
                let counts = &second.region.slot(1).contributors;
                counts.iter().for_each(|count| count.store(0, Ordering::Relaxed));
                assert!(matches!(turn.meet(), Err(Error::Contributors { want: 2, got: 1 })));
            });
            let refused = first.all_reduce(&call, &mut [], &[vec![0..0; 2]]);
            assert!(matches!(refused, Err(Error::Contributors { want: 2, got: 1 })), "{refused:?}");
        });
        assert!(first.barrier(&call, 0).is_err(), "a host that failed goes on");
    }
}
