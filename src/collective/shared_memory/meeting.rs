//! Where the ranks of a host meet: a barrier that notices who is dead, gone, silent or out of step.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, futex, sched_getaffinity};

use super::region::{CALL_WORDS, CORE_WORDS, Region};
use crate::collective::Error;
use crate::collective::call::Call;
use crate::collective::frame::Verdict;
use crate::collective::wire::World;

/// One rank's view of the meetings.
#[derive(Debug)]
pub(super) struct Meetings {
    world: Arc<World>,
    /// Ranks in the link, for errors.
    ranks: Vec<usize>,
    rank: usize,
    /// How a rank waits before it sleeps; known once all have told their cores.
    waiting: OnceLock<Waiting>,
}

/// What a waiting rank does with its core for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// Mostly keep it: every rank has one.
    Spin,
    /// Leave it to the other ranks.
    Yield,
}

impl Meetings {
    /// Of `ranks`, of which this rank is number `rank`.
    pub fn new(world: Arc<World>, ranks: Vec<usize>, rank: usize, region: &Region) -> Self {
        let slot = region.slot(rank);
        slot.pid.store(std::process::id(), Ordering::Relaxed);
        slot.start.store(start_of(std::process::id()).unwrap_or(0), Ordering::Release);
        // Unknown cores count as none: the rank then yields, which is never wrong.
        if let Ok(cores) = sched_getaffinity(None) {
            let known =
                (0..CpuSet::MAX_CPU.min(64 * CORE_WORDS)).filter(|core| cores.is_set(*core));
            known.for_each(|c| _ = slot.cores[c / 64].fetch_or(1 << (c % 64), Ordering::Release));
        }
        Self { world, ranks, rank, waiting: OnceLock::new() }
    }

    /// This rank's number in the link.
    pub fn number(&self) -> usize {
        self.ranks[self.rank]
    }

    /// Tells the others what this rank is about to do.
    pub fn announce(&self, region: &Region, call: &Call, turn: u64, contributors: usize) {
        let (slot, turn) = (region.slot(self.rank), (turn % 2) as usize);
        store(&slot.calls[turn], call);
        slot.contributors[turn].store(contributors as u64, Ordering::Relaxed);
    }

    /// Compares the calls that were announced before the last meeting, and counts contributors.
    pub fn compare(&self, region: &Region, call: &Call, turn: u64) -> Result<(), Error> {
        self.waiting.get_or_init(|| self.how_to_wait(region));
        let turn = (turn % 2) as usize;
        let slots = || (0..self.ranks.len()).map(|rank| region.slot(rank));
        let calls: Vec<Call> = slots().map(|slot| load(&slot.calls[turn])).collect();
        let count = slots().map(|slot| slot.contributors[turn].load(Ordering::Relaxed));
        // What most are in is right; of two ranks each believes itself.
        let votes = |of: &Call| (calls.iter().filter(|c| *c == of).count(), of == call);
        let right = calls.iter().max_by_key(|of| votes(of)).unwrap_or(call);
        for (rank, theirs) in self.ranks.iter().zip(&calls) {
            right.check(*rank, theirs)?;
        }
        let (want, got) = (self.ranks.len(), count.sum::<u64>() as usize);
        if want == got { Ok(()) } else { Err(Error::Contributors { want, got }) }
    }

    /// Returns when all have come here. `depth`: as in `Wire`, others that they may wait for.
    pub fn meet(&self, region: &Region, call: &Call, depth: u32) -> Result<(), Error> {
        let shared = region.shared();
        let meeting = shared.meeting.load(Ordering::Acquire);
        region.slot(self.rank).meetings.fetch_add(1, Ordering::Relaxed);
        // Everything written before is seen by whoever sees the meeting held: AcqRel here, and
        // SeqCst below.
        if shared.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.ranks.len() as u32 {
            shared.arrived.store(0, Ordering::Relaxed);
            // In one order with the sleepers' count: either they see the new number, or are seen.
            shared.meeting.store(meeting.wrapping_add(1), Ordering::SeqCst);
            if shared.sleepers.load(Ordering::SeqCst) > 0 {
                // Waking fails only for a bad address.
                let _ = futex::wake(&shared.meeting, futex::Flags::empty(), u32::MAX >> 1);
            }
            return Ok(());
        }
        let (looks, yield_every) = match self.waiting.get() {
            Some(Waiting::Spin) => (SPINS, YIELD_EVERY),
            _ => (YIELDS, 1),
        };
        for look in 1..=looks {
            if shared.meeting.load(Ordering::Acquire) != meeting {
                return Ok(());
            }
            if look % yield_every == 0 {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
        self.sleep(region, call, meeting, self.world.patience_at(depth))
    }

    /// Known when all have told their cores.
    fn how_to_wait(&self, region: &Region) -> Waiting {
        let slots = || (0..self.ranks.len()).map(|rank| region.slot(rank));
        let any = |word: usize| {
            slots().fold(0, |all, slot| all | slot.cores[word].load(Ordering::Acquire))
        };
        let cores = (0..CORE_WORDS).map(|word| any(word).count_ones() as usize).sum::<usize>();
        if cores >= self.ranks.len() { Waiting::Spin } else { Waiting::Yield }
    }

    fn sleep(
        &self,
        region: &Region,
        call: &Call,
        meeting: u32,
        patience: Duration,
    ) -> Result<(), Error> {
        let shared = region.shared();
        let start = Instant::now();
        loop {
            let slice = futex::Timespec {
                tv_sec: 0,
                tv_nsec: SLICE.min(patience.saturating_sub(start.elapsed())).as_nanos() as _,
            };
            shared.sleepers.fetch_add(1, Ordering::SeqCst);
            // Woken, timed out, interrupted or too late: what counts is the number.
            let flags = futex::Flags::empty();
            let _ = futex::wait(&shared.meeting, flags, meeting, Some(&slice));
            shared.sleepers.fetch_sub(1, Ordering::SeqCst);
            if shared.meeting.load(Ordering::SeqCst) != meeting {
                return Ok(());
            }
            self.anybody_missing(region, call, meeting)?;
            if start.elapsed() >= patience {
                let waited = start.elapsed();
                let ranks = self.awaited(region).iter().map(|r| self.ranks[*r]).collect();
                return Err(Error::Silent { ranks, waited });
            }
        }
    }

    /// An error if somebody gave up, or cannot come any more.
    fn anybody_missing(&self, region: &Region, call: &Call, meeting: u32) -> Result<(), Error> {
        for (rank, number) in self.ranks.iter().enumerate() {
            if let Some(verdict) = verdict(region, rank) {
                return Err(verdict.error(*number, &load(&region.slot(rank).failed), call));
            }
        }
        for rank in self.awaited(region) {
            let slot = region.slot(rank);
            let pid = slot.pid.load(Ordering::Relaxed);
            let start = slot.start.load(Ordering::Relaxed);
            let left = slot.left.load(Ordering::Acquire) != 0;
            let dead = pid != std::process::id() && start != 0 && start_of(pid) != Some(start);
            // It may have come, and then ended, since the meeting was looked at.
            let held = region.shared().meeting.load(Ordering::SeqCst) != meeting;
            if (left || dead) && !held {
                return Err(Error::Lost { rank: self.ranks[rank] });
            }
        }
        Ok(())
    }

    /// Those who have not come. If all have, one of them has stopped just before it said so: then
    /// all others.
    fn awaited(&self, region: &Region) -> Vec<usize> {
        let come = |rank: usize| region.slot(rank).meetings.load(Ordering::Acquire);
        let others = || (0..self.ranks.len()).filter(|rank| *rank != self.rank);
        let absent: Vec<usize> = others().filter(|rank| come(*rank) < come(self.rank)).collect();
        if absent.is_empty() { others().collect() } else { absent }
    }

    /// Leaves word that this rank gave up.
    pub fn give_up(&self, region: &Region, call: &Call, error: &Error) {
        let verdict = Verdict::of(error);
        let slot = region.slot(self.rank);
        store(&slot.failed, call);
        slot.culprit.store(verdict.rank as u32, Ordering::Relaxed);
        let mut text = [0u8; 128];
        let len = verdict.what.len().min(text.len());
        text[..len].copy_from_slice(&verdict.what.as_bytes()[..len]);
        let words: [u64; 16] = bytemuck::cast(text);
        slot.text.iter().zip(words).for_each(|(word, x)| word.store(x, Ordering::Relaxed));
        slot.verdict.store(verdict.kind, Ordering::Release);
        wake_all(region);
    }

    /// Leaves word that this rank comes no more.
    pub fn leave(&self, region: &Region) {
        region.slot(self.rank).left.store(1, Ordering::Release);
        wake_all(region);
    }
}

fn wake_all(region: &Region) {
    let _ = futex::wake(&region.shared().meeting, futex::Flags::empty(), u32::MAX >> 1);
}

fn store(words: &[AtomicU64; CALL_WORDS], call: &Call) {
    let values: [u64; CALL_WORDS] = bytemuck::cast(*call);
    words.iter().zip(values).for_each(|(word, value)| word.store(value, Ordering::Relaxed));
}

fn load(words: &[AtomicU64; CALL_WORDS]) -> Call {
    let values: [u64; CALL_WORDS] = std::array::from_fn(|i| words[i].load(Ordering::Relaxed));
    bytemuck::cast(values)
}

fn verdict(region: &Region, rank: usize) -> Option<Verdict> {
    let slot = region.slot(rank);
    let kind = slot.verdict.load(Ordering::Acquire);
    let words: [u64; 16] =
        std::array::from_fn(|i| AtomicU64::load(&slot.text[i], Ordering::Relaxed));
    let text: [u8; 128] = bytemuck::cast(words);
    let what = String::from_utf8_lossy(&text).trim_end_matches('\0').to_owned();
    let rank = slot.culprit.load(Ordering::Relaxed) as usize;
    (kind != 0).then_some(Verdict { kind, rank, what })
}

/// When a process that is alive started, in ticks since boot: with the process id it names the
/// process for good. Not for a process that has ended and that nobody has waited for.
fn start_of(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X" | "x") {
        return None;
    }
    // proc(5): the state is field 3, the start field 22.
    fields.nth(18)?.parse().ok()
}

/// Looks at the meeting's number before a rank with a core of its own goes to sleep.
const SPINS: u32 = 2000;

/// Of so many, one leaves the core to others: where another program or thread keeps a rank from
/// its core, spinning alone made an all-reduce much slower.
const YIELD_EVERY: u32 = 64;

/// Times that a rank without one leaves its core to another before it sleeps.
const YIELDS: u32 = 4;

/// How long a sleeping rank goes without looking whether the others live.
const SLICE: Duration = Duration::from_millis(200);
