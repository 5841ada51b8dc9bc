//! A cluster in virtual time.

use crate::diloco::Cluster;
use crate::simulate::network::Link;
use crate::simulate::network::Nanos;
use crate::simulate::network::Net;
use crate::simulate::network::from_ms;
use crate::simulate::scenario::Group;
use crate::simulate::scenario::Network;
use crate::simulate::scenario::Scenario;

/// A cluster of the scenario.
#[derive(Debug)]
pub struct Peer<'a, I> {
    /// Its group.
    pub group: usize,
    /// What it is like.
    pub like: &'a Group,
    /// Where it is.
    pub phase: Phase,
    /// None where it has not joined, or has left.
    pub cluster: Option<Cluster<I>>,
    /// When it can compute on.
    pub free_at: Nanos,
    /// When it has all of the aggregate that is to be applied.
    pub merge_at: Nanos,
    /// Where its steps went past the closing of an exchange: when they end.
    pub busy: Option<Nanos>,
    /// How its time went.
    pub watch: Watch,
}

/// Where a cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It has not joined.
    Away,
    /// It takes part.
    Here,
    /// It has crashed.
    Down {
        /// When it will be back.
        until: Nanos,
    },
    /// It has left.
    Gone,
}

/// Computing time and all time of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Up to where time has been counted.
    mark: Nanos,
    /// Computing that has not been counted yet.
    computing: Vec<[Nanos; 2]>,
}

impl Watch {
    /// Counts from `at` on.
    pub fn start(&mut self, at: Nanos) {
        (self.mark, self.computing) = (at, Vec::new());
    }

    /// It computes from when to when.
    pub fn compute(&mut self, from: Nanos, to: Nanos) {
        self.computing.push([from, to]);
    }

    /// What it has computed was for nothing.
    pub fn forget(&mut self) {
        self.computing.clear();
    }

    /// Counts up to `at`: nanoseconds of computing, and of all.
    pub fn count(&mut self, at: Nanos) -> [u128; 2] {
        let at = at.max(self.mark);
        let mut computed = 0;
        for [from, to] in &mut self.computing {
            computed += u128::from((*to).min(at).saturating_sub(*from));
            *from = (*from).max(at.min(*to));
        }
        self.computing.retain(|[from, to]| from < to);
        let all = u128::from(at - self.mark);
        self.mark = at;
        [computed, all]
    }
}

impl<I> Peer<'_, I> {
    /// Whether it is honest.
    pub fn is_honest(&self) -> bool {
        self.like.attack.is_none()
    }

    /// Whether it takes part.
    pub fn is_here(&self) -> bool {
        self.phase == Phase::Here
    }
}

/// The clusters of a scenario before its beginning.
pub fn peers<I>(scenario: &Scenario) -> Vec<Peer<'_, I>> {
    let mut all = Vec::new();
    for member in scenario.members() {
        all.push(Peer {
            group: member.group,
            like: member.like,
            phase: Phase::Away,
            cluster: None,
            free_at: 0,
            merge_at: 0,
            busy: None,
            watch: Watch::default(),
        });
    }
    all
}

/// The network of a scenario's clusters.
pub fn net(scenario: &Scenario) -> Net {
    let links = scenario.members().map(|member| link(&scenario.network, member.like));
    Net::new(&scenario.network, links.collect())
}

fn link(network: &Network, group: &Group) -> Link {
    let bits = |mbit: f64| (mbit * 1e6).round() as u64;
    Link {
        up: bits(group.up_mbit.unwrap_or(network.up_mbit)),
        down: bits(group.down_mbit.unwrap_or(network.down_mbit)),
        delay: from_ms(group.delay_ms.unwrap_or(network.delay_ms)),
        loss: group.loss.unwrap_or(network.loss),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn computing_is_counted_once_and_only_within_the_time() {
        let mut watch = Watch::default();
        watch.start(100);
        watch.compute(100, 150);
        watch.compute(160, 250);
        assert_eq!(watch.count(200), [50 + 40, 100]);
        assert_eq!(watch.count(220), [20, 20]);
        assert_eq!(watch.count(400), [30, 180]);
        assert_eq!(watch.count(390), [0, 0]);
        watch.compute(400, 500);
        watch.forget();
        assert_eq!(watch.count(500), [0, 100]);
    }
}
