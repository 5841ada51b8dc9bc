//! Transfers that share uplinks and downlinks max-min fairly (Bertsekas and Gallager, Data Networks,
//! section 6.5.2: fill all alike until a link is full, fix its flows, go on with the others).

use super::Nanos;

/// Transfers under way.
#[derive(Debug)]
pub struct Flows {
    /// Bits per second of every link: the uplinks of all nodes, then their downlinks. None: as
    /// fast as can be.
    capacities: Vec<Option<u64>>,
    active: Vec<Flow>,
    now: Nanos,
}

#[derive(Debug)]
struct Flow {
    number: usize,
    links: [usize; 2],
    /// In bits times nanoseconds per second, so that progress is exact.
    left: u128,
    /// Bits per second.
    rate: u64,
}

impl Flows {
    /// No transfers, between nodes with these bandwidths up and down.
    pub fn new(bandwidths: impl Iterator<Item = Option<[u64; 2]>>, now: Nanos) -> Self {
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for bandwidth in bandwidths {
            up.push(bandwidth.map(|[up, _]| up));
            down.push(bandwidth.map(|[_, down]| down));
        }
        up.append(&mut down);
        Self { capacities: up, active: Vec::new(), now }
    }

    /// Begins transfer `number` of `bits` from node to node, now.
    pub fn begin(&mut self, number: usize, [from, to]: [usize; 2], bits: u64) {
        let links = [from, self.capacities.len() / 2 + to];
        self.active.push(Flow { number, links, left: u128::from(bits) * SECOND, rate: 0 });
        self.share();
    }

    /// Ends the transfers that `ends` chooses by number.
    pub fn cancel(&mut self, ends: impl Fn(usize) -> bool) {
        self.active.retain(|flow| !ends(flow.number));
        self.share();
    }

    /// When the next transfer ends, if no other begins before.
    pub fn next_end(&self) -> Option<Nanos> {
        let left = |flow: &Flow| flow.left.div_ceil(u128::from(flow.rate));
        let soonest = self.active.iter().map(left).min()?;
        Some(self.now.saturating_add(soonest.min(u128::from(Nanos::MAX)) as Nanos))
    }

    /// Lets time pass; the transfers that end by then, by number, which must not be before
    /// [`Self::next_end`] would have been due.
    pub fn advance(&mut self, to: Nanos) -> Vec<usize> {
        let passed = u128::from(to - self.now);
        self.now = to;
        let mut ended = Vec::new();
        self.active.retain_mut(|flow| {
            flow.left = flow.left.saturating_sub(u128::from(flow.rate) * passed);
            if flow.left == 0 {
                ended.push(flow.number);
            }
            flow.left > 0
        });
        if !ended.is_empty() {
            self.share();
        }
        ended
    }

    /// Finds all rates anew.
    fn share(&mut self) {
        let mut links: Vec<_> = self.capacities.iter().map(|&capacity| (capacity, 0)).collect();
        for flow in &mut self.active {
            flow.rate = 0;
            flow.links.iter().for_each(|&link| links[link].1 += 1);
        }
        let mut open = self.active.len();
        while open > 0 {
            let shares = links.iter().enumerate().filter(|(_, (_, users))| *users > 0);
            let shares = shares.filter_map(|(i, (capacity, users))| {
                capacity.map(|capacity| (capacity / users, i))
            });
            // With no limited link left, the rest is as fast as can be.
            let (share, full) = shares.min().unwrap_or((UNLIMITED, usize::MAX));
            let share = share.max(1);
            for flow in self.active.iter_mut().filter(|flow| flow.rate == 0) {
                if full != usize::MAX && !flow.links.contains(&full) {
                    continue;
                }
                flow.rate = share;
                open -= 1;
                for &link in &flow.links {
                    let (capacity, users) = &mut links[link];
                    *capacity = capacity.map(|capacity| capacity.saturating_sub(share));
                    *users -= 1;
                }
            }
        }
    }
}

/// Nanoseconds in a second.
const SECOND: u128 = 1_000_000_000;
/// Bits per second of what nothing limits.
const UNLIMITED: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn flows(bandwidths: &[[u64; 2]]) -> Flows {
        Flows::new(bandwidths.iter().map(|b| Some(*b)), 0)
    }

    fn rates(flows: &Flows) -> Vec<u64> {
        flows.active.iter().map(|flow| flow.rate).collect()
    }

    #[test]
    fn what_one_cannot_use_the_others_get() {
        // Node 0 sends to 1, 2 and 3; 3 receives slowly.
        let mut all = flows(&[[900, 900], [900, 900], [900, 900], [100, 100]]);
        (1..4).for_each(|to| all.begin(to, [0, to], 1 << 20));
        assert_eq!(rates(&all), [400, 400, 100]);
        // 2 sends to 1 too: its downlink has room for 500 more.
        all.begin(4, [2, 1], 1 << 20);
        assert_eq!(rates(&all), [400, 400, 100, 500]);
        all.cancel(|number| number == 2);
        assert_eq!(rates(&all), [450, 100, 450]);
    }

    #[test]
    fn no_link_carries_more_than_it_can_and_none_is_left_idle() {
        let bandwidths = [[70, 900], [300, 20], [1000, 1000], [5, 5], [333, 77]];
        let mut all = flows(&bandwidths);
        for from in 0..5 {
            (0..5)
                .filter(|to| *to != from)
                .for_each(|to| all.begin(from * 5 + to, [from, to], 999));
        }
        let mut used = [0; 10];
        for flow in &all.active {
            flow.links.iter().for_each(|&link| used[link] += flow.rate);
        }
        for (used, capacity) in used.iter().zip(&all.capacities) {
            assert!(*used <= capacity.unwrap());
        }
        // Every transfer has a full link on its way, but for what whole bits leave over.
        for flow in &all.active {
            let full = |&link: &usize| used[link] + 5 >= all.capacities[link].unwrap();
            assert!(flow.links.iter().any(full), "{flow:?}");
        }
    }

    #[test]
    fn bits_arrive_to_the_nanosecond() {
        let mut all = flows(&[[1_000_000_000, 1], [1, 1_000_000_000]]);
        all.begin(0, [0, 1], 1000);
        assert_eq!(all.next_end(), Some(1000));
        assert!(all.advance(400).is_empty());
        all.begin(1, [0, 1], 300);
        assert_eq!(all.next_end(), Some(1000));
        assert_eq!(all.advance(1000), [1]);
        assert_eq!(all.next_end(), Some(1300));
        assert_eq!(all.advance(1300), [0]);
        assert_eq!(all.next_end(), None);
    }

    #[test]
    fn what_nothing_limits_takes_no_time_to_speak_of() {
        let mut all = Flows::new([None, Some([8, 8])].into_iter(), 0);
        all.begin(0, [0, 0], 1 << 40);
        assert_eq!(all.next_end(), Some(954));
        all.begin(1, [0, 1], 8);
        assert_eq!(rates(&all)[1], 8);
    }
}
