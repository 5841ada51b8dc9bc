//! Inner steps of all clusters, for real, and when they would end.

use std::sync::Arc;
use std::time::Instant;

use super::Decision;
use super::Entry;
use super::Slot;
use super::World;
use super::arrive::destroy;
use super::pace;
use super::peer::Peer;
use super::peer::Phase;
use crate::diloco::Cluster;
use crate::diloco::Inner;
use crate::simulate::Error;
use crate::simulate::attack::Training;
use crate::simulate::network::Nanos;
use crate::simulate::network::from_s;
use crate::simulate::objective::Objective;
use crate::simulate::results::Fate;

/// When a cluster computes: until it can merge, and then until its update is due.
#[derive(Clone, Copy, Debug)]
struct Times {
    start: Nanos,
    pause: Nanos,
    merged: Nanos,
    end: Nanos,
    /// Inner steps before and after the merge.
    steps: [u64; 2],
}

impl<O: Objective> World<'_, O> {
    /// Everybody's steps of an exchange. The aggregate of the one before is applied on the way,
    /// where that has waited for steps.
    pub(super) fn compute(&mut self, slot: &Slot) -> Result<Vec<Entry>, Error> {
        let pending = self.pending.take();
        let mut entries = Vec::new();
        for number in 0..self.peers.len() {
            let entry = match self.peers[number].phase {
                Phase::Away | Phase::Gone => continue,
                Phase::Down { until } => Entry::new(number, Fate::Down, until),
                Phase::Here => self.work(number, slot, pending.as_ref())?,
            };
            entries.push(entry);
        }
        if let Some(decision) = pending {
            self.outers[decision.fragment] = decision.outer;
        }
        Ok(entries)
    }

    fn work(
        &mut self,
        number: usize,
        slot: &Slot,
        pending: Option<&Decision>,
    ) -> Result<Entry, Error> {
        let tokens = self.scenario.tokens_per_step();
        let state_bytes = self.state_bytes();
        let peer = &mut self.peers[number];
        let Some(cluster) = &mut peer.cluster else { unreachable!("who is here has a cluster") };
        if let Some(end) = peer.busy {
            merge(cluster, pending, slot.number)?;
            cluster.skip(slot.to - slot.from);
            return Ok(Entry::new(number, Fate::Counted, end));
        }
        let step = pace::step_time(peer.like, tokens, number, slot.dice);
        let before = pending.map_or(0, |_| self.settings.overlap_steps);
        let times =
            times(peer.free_at, peer.merge_at, step, [before, slot.to - slot.from - before]);
        if let Some(at) = crash(peer, &times, number, slot) {
            let recover = from_s(peer.like.faults.recover_s);
            let download = self.net.links[number].down.max(1);
            let fetch = from_s((state_bytes * 8) as f64 / download as f64);
            peer.phase = Phase::Down { until: at + recover + fetch };
            let Some(cluster) = &mut peer.cluster else { unreachable!("as above") };
            destroy(cluster, peer.like.faults.loses)?;
            return Ok(Entry::new(number, Fate::Crashed, at));
        }
        peer.watch.compute(times.start, times.pause);
        peer.watch.compute(times.merged, times.end);
        let training = match &peer.like.attack {
            Some(attack) => attack.training(slot.round),
            None => Training::Honest,
        };
        let mut entry = Entry::new(number, Fate::Counted, times.end);
        let begun = Instant::now();
        let Some(cluster) = &mut peer.cluster else { unreachable!("as above") };
        let loss = train(self.objective, cluster, times.steps, training, (pending, slot));
        self.spent.inner += begun.elapsed();
        match loss {
            Ok(loss) => {
                entry.record.loss = loss;
                self.tokens += if loss.is_some() { tokens * (slot.to - slot.from) } else { 0 };
            }
            Err(error) if error.is_divergence() => {
                entry.record.fate = Fate::Diverged;
                entry.record.why = Some(error.to_string());
                cluster.skip(slot.to.saturating_sub(cluster.done()));
                let is_behind = |decision: &&Decision| {
                    cluster.outer(decision.fragment).round() < decision.outer.round()
                };
                merge(cluster, pending.filter(is_behind), slot.number)?;
            }
            Err(error) => return Err(error),
        }
        Ok(entry)
    }
}

/// The steps of one cluster; their mean loss, if it trains at all.
fn train<O: Objective>(
    objective: &O,
    cluster: &mut Cluster<O::Inner>,
    steps: [u64; 2],
    training: Training,
    (pending, slot): (Option<&Decision>, &Slot),
) -> Result<Option<f64>, Error> {
    let (mut sum, all) = (0.0, (steps[0] + steps[1]) as f64);
    for (i, steps) in steps.into_iter().enumerate() {
        if i == 1 {
            merge(cluster, pending, slot.number)?;
        }
        match training {
            Training::None => cluster.skip(steps),
            _ if steps == 0 => {}
            _ => sum += objective.train(cluster, steps, training)? * steps as f64,
        }
    }
    Ok((training != Training::None).then_some(sum / all.max(1.0)))
}

/// Applies what the last exchange decided.
pub(super) fn merge<I: Inner>(
    cluster: &mut Cluster<I>,
    decision: Option<&Decision>,
    exchange: u64,
) -> Result<(), Error> {
    let Some(Decision { fragment, outer, moved, aggregate }) = decision else { return Ok(()) };
    let Some(aggregate) = aggregate else {
        cluster.adopt(*fragment, Arc::clone(outer), *moved)?;
        return Ok(());
    };
    cluster.apply(*fragment, aggregate)?;
    let (what, own) = ("an outer state", cluster.outer(*fragment));
    if own.hash() == outer.hash() {
        return Ok(());
    }
    // Cluster identities are numbers; the last bytes are enough to name one.
    let bytes = cluster.peer().0;
    let number = bytes[24..].iter().fold(0usize, |n, b| n << 8 | usize::from(*b));
    Err(Error::Differs { exchange, cluster: number, what })
}

fn times(free_at: Nanos, merge_at: Nanos, step: Nanos, steps: [u64; 2]) -> Times {
    let pause = free_at.saturating_add(steps[0].saturating_mul(step));
    let merged = pause.max(merge_at);
    let end = merged.saturating_add(steps[1].saturating_mul(step));
    Times { start: free_at, pause, merged, end, steps }
}

/// When a cluster crashes, if it does before its steps end.
fn crash<I>(peer: &Peer<'_, I>, times: &Times, number: usize, slot: &Slot) -> Option<Nanos> {
    let after = pace::crash_after(peer.like, number, slot.dice)?;
    let first = times.pause - times.start;
    let at = match after < first {
        true => times.start + after,
        false => times.merged.saturating_add(after - first),
    };
    (at < times.end).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_wait_for_the_merge_only_where_they_must() {
        let of = |merge_at| {
            let Times { pause, merged, end, .. } = times(100, merge_at, 10, [2, 5]);
            [pause, merged, end]
        };
        assert_eq!(of(90), [120, 120, 170]);
        assert_eq!(of(200), [120, 200, 250]);
    }
}
