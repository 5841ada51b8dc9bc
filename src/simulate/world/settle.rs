//! What counts, what it makes, and everybody's outer step.

use std::sync::Arc;

use super::Decision;
use super::Entry;
use super::Slot;
use super::World;
use super::compute::merge;
use super::liars::received;
use crate::codec::Codes;
use crate::codec::Update;
use crate::crypto::PeerId;
use crate::diloco;
use crate::diloco::Moved;
use crate::diloco::Received;
use crate::diloco::Settled;
use crate::diloco::settle;
use crate::simulate::Error;
use crate::simulate::network::Closed;
use crate::simulate::objective::Objective;
use crate::simulate::results::Fate;

/// What an exchange came to.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// The outer step, where one was taken.
    pub moved: Option<Moved>,
    /// Why none was.
    pub skipped: Option<String>,
    /// Why training cannot go on.
    pub diverged: Option<String>,
}

impl<O: Objective> World<'_, O> {
    /// Judges every update, aggregates those that count, and moves the outer weights.
    pub(super) fn settle(
        &mut self,
        slot: &Slot,
        entries: &mut [Entry],
        closed: &Closed,
    ) -> Result<Settlement, Error> {
        for entry in entries.iter_mut().filter(|entry| entry.bytes.is_some()) {
            if !closed.counted.contains(&entry.peer) {
                entry.record.fate = Fate::Late;
            }
        }
        let there = entries.iter().filter(|entry| closed.counted.contains(&entry.peer));
        let all: Vec<Received> = there.filter_map(received).collect();
        let before = self.aggregators[slot.fragment].clone();
        let (codec, about) = (self.codec.clone(), self.about(slot));
        let with = (codec.as_ref(), &self.fragments[slot.fragment].layout);
        let settled = settle(&mut self.aggregators[slot.fragment], &about, with, &all);
        let mut settlement = Settlement::default();
        let mut outer = Arc::clone(&self.outers[slot.fragment]);
        let (mut moved, mut aggregate) = (Moved::NONE, None);
        match settled {
            Ok(settled) => {
                self.compare(slot, entries, (&before, &all, &settled))?;
                judge(entries, &settled);
                match Arc::make_mut(&mut outer).step(&self.settings, &settled.aggregate) {
                    Ok(step) => (moved, settlement.moved) = (step, Some(step)),
                    Err(error) => settlement.diverged = Some(error.to_string()),
                }
                aggregate = Some(settled.aggregate);
            }
            Err(diloco::Error::Aggregate { source, .. }) => {
                settlement.skipped = Some(source.to_string());
                self.refuse(slot, entries, &all);
            }
            Err(error) => return Err(error.into()),
        }
        if settlement.moved.is_none() {
            outer = Arc::clone(&self.outers[slot.fragment]);
            Arc::make_mut(&mut outer).pass();
            aggregate = None;
        }
        self.take_back(slot, entries, settlement.moved.is_none())?;
        self.previous[slot.fragment] = if self.liars.is_empty() { None } else { aggregate.clone() };
        let aggregate = aggregate.filter(|_| self.scenario.scenario.replicas);
        let decision = Decision { fragment: slot.fragment, outer, moved, aggregate };
        self.decide(slot, decision)?;
        Ok(settlement)
    }

    /// That every member comes to the same aggregate by itself, in its own order of arrival.
    fn compare(
        &self,
        slot: &Slot,
        entries: &[Entry],
        (before, all, expected): (&crate::aggregate::Aggregator, &[Received], &Settled),
    ) -> Result<(), Error> {
        if !self.scenario.scenario.replicas {
            return Ok(());
        }
        let with = (self.codec.as_ref(), &self.fragments[slot.fragment].layout);
        for entry in entries.iter().filter(|entry| entry.is_member()) {
            let mut order = all.to_vec();
            order.rotate_left(entry.peer % all.len().max(1));
            let mut aggregator = before.clone();
            let own = settle(&mut aggregator, &self.about(slot), with, &order)?;
            let bits = |settled: &Settled| -> Vec<u32> {
                settled.aggregate.iter().map(|x| x.to_bits()).collect()
            };
            if bits(&own) != bits(expected) {
                let (exchange, cluster) = (slot.number, entry.peer);
                return Err(Error::Differs { exchange, cluster, what: "an aggregate" });
            }
        }
        Ok(())
    }

    /// Where there is no aggregate: which updates were no updates.
    fn refuse(&self, slot: &Slot, entries: &mut [Entry], all: &[Received]) {
        let layout = &self.fragments[slot.fragment].layout;
        let (about, mut codes) = (self.about(slot), Codes::default());
        for (peer, bytes) in all {
            let checked = Update::parse(bytes, self.codec.as_ref(), layout, &about)
                .and_then(|u| (0..layout.blocks().len()).try_for_each(|i| u.block(i, &mut codes)));
            if let Err(error) = checked {
                reject(entries, *peer, &error);
            }
        }
    }

    /// What does not count is kept by its sender for its next update.
    fn take_back(&mut self, slot: &Slot, entries: &[Entry], is_skipped: bool) -> Result<(), Error> {
        for entry in entries.iter().filter(|entry| entry.is_own) {
            let counts = entry.record.fate == Fate::Counted && !is_skipped;
            if let Some(cluster) = &mut self.peers[entry.peer].cluster
                && !counts
            {
                cluster.take_back(slot.fragment)?;
            }
        }
        Ok(())
    }

    /// Everybody applies the decision, now or after some more steps.
    fn decide(&mut self, slot: &Slot, decision: Decision) -> Result<(), Error> {
        if self.overlaps(slot) {
            self.pending = Some(decision);
            return Ok(());
        }
        for peer in self.peers.iter_mut().filter(|peer| peer.is_here()) {
            if let Some(cluster) = &mut peer.cluster {
                merge(cluster, Some(&decision), slot.number)?;
            }
        }
        self.outers[decision.fragment] = decision.outer;
        Ok(())
    }
}

/// What the rule made of every update, and which were none.
fn judge(entries: &mut [Entry], settled: &Settled) {
    for (peer, why) in &settled.rejected {
        reject(entries, *peer, why);
    }
    for share in &settled.outcome.peers {
        if let Some(entry) = of(entries, share.peer) {
            entry.record.norm = Some(share.norm);
            entry.record.clip = Some(share.clip);
            entry.record.weight = share.weight;
        }
    }
}

fn reject(entries: &mut [Entry], peer: PeerId, why: &dyn std::error::Error) {
    if let Some(entry) = of(entries, peer) {
        entry.record.fate = Fate::Rejected;
        let mut words = why.to_string();
        let mut source = why.source();
        while let Some(cause) = source {
            words = format!("{words}: {cause}");
            source = cause.source();
        }
        entry.record.why = Some(words);
    }
}

fn of(entries: &mut [Entry], peer: PeerId) -> Option<&mut Entry> {
    entries.iter_mut().find(|entry| PeerId::numbered(entry.peer as u64) == peer)
}
