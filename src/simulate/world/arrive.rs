//! Who comes, comes back, and leaves.

use std::sync::Arc;

use super::Slot;
use super::World;
use super::peer::Phase;
use crate::crypto::PeerId;
use crate::diloco::Assignment;
use crate::diloco::Cluster;
use crate::diloco::Inner;
use crate::diloco::Moved;
use crate::diloco::Setup;
use crate::simulate::Error;
use crate::simulate::objective::Objective;

impl<O: Objective> World<'_, O> {
    /// Before an exchange: clusters join, recover and leave. Who comes takes the outer state that the
    /// others have.
    pub(super) fn arrive(&mut self, slot: &Slot) -> Result<(), Error> {
        for number in 0..self.peers.len() {
            let peer = &mut self.peers[number];
            if peer.like.leave_round.is_some_and(|leave| leave <= slot.number) {
                (peer.phase, peer.cluster) = (Phase::Gone, None);
                continue;
            }
            let comes = match peer.phase {
                Phase::Away => peer.like.join_round <= slot.number,
                Phase::Down { until } => until <= self.opened,
                Phase::Here | Phase::Gone => false,
            };
            if comes {
                self.enter(number, slot)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, number: usize, slot: &Slot) -> Result<(), Error> {
        let mut cluster = match self.peers[number].cluster.take() {
            Some(cluster) => cluster,
            None => self.cluster(number)?,
        };
        if self.outers.is_empty() {
            self.outers = (0..cluster.fragments()).map(|p| cluster.outer(p).clone()).collect();
        }
        for (fragment, outer) in self.outers.iter().enumerate() {
            if outer.round() > cluster.outer(fragment).round() {
                cluster.adopt(fragment, Arc::clone(outer), Moved::NONE)?;
            }
        }
        cluster.skip(slot.from.saturating_sub(cluster.done()));
        let peer = &mut self.peers[number];
        (peer.phase, peer.cluster, peer.busy) = (Phase::Here, Some(cluster), None);
        (peer.free_at, peer.merge_at) = (self.opened, self.opened);
        peer.watch.start(self.opened);
        Ok(())
    }

    fn cluster(&self, number: usize) -> Result<Cluster<O::Inner>, Error> {
        let peers = self.peers.len() as u64;
        Ok(Cluster::new(Setup {
            trainer: self.objective.inner(number)?,
            settings: self.settings.clone(),
            codec: self.codec.clone(),
            job: self.job,
            peer: PeerId::numbered(number as u64),
            assignment: Assignment::new(number as u64, peers),
        })?)
    }

    /// Bytes of the outer state: what a cluster that comes back must fetch.
    pub(super) fn state_bytes(&self) -> u64 {
        let weights: usize = self.fragments.iter().map(|part| part.layout.elements()).sum();
        let copies = if self.settings.momentum > 0.0 { 2 } else { 1 };
        self.net.scaled(4 * copies * weights as u64)
    }
}

/// What a crash destroys, beside the work under way.
pub(super) fn destroy<I: Inner>(
    cluster: &mut Cluster<I>,
    loses: crate::simulate::scenario::Loses,
) -> Result<(), Error> {
    use crate::simulate::scenario::Loses;
    if loses != Loses::Work {
        cluster.forget_residuals();
    }
    if loses == Loses::All {
        cluster.inner_mut().forget_moments()?;
    }
    Ok(())
}
