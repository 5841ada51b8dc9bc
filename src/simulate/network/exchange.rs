//! One exchange: every update to every cluster, until the round closes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BinaryHeap;

use super::Nanos;
use super::Net;
use super::flows::Flows;
use super::loss::Dice;
use super::loss::Use;
use super::loss::send;
use crate::simulate::scenario::Topology;

/// An update that is ready to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sending {
    /// Whose.
    pub cluster: usize,
    /// When it is ready.
    pub ready: Nanos,
    /// Its length.
    pub bytes: u64,
}

/// When the round closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closing {
    /// Not before.
    pub opened: Nanos,
    /// From then on with those updates that are there, if they are enough; none: with all.
    pub deadline: Option<Nanos>,
    /// How many updates are enough.
    pub enough: usize,
    /// How many clusters must have an update, its sender included, for it to be there.
    pub reach: usize,
}

/// How the round closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// When.
    pub at: Nanos,
    /// Clusters whose updates count, ascending.
    pub counted: Vec<usize>,
    /// By cluster: when it has all of them, not before the closing. None for those that take no part.
    pub complete: Vec<Option<Nanos>>,
    /// By cluster: bytes sent, repetitions included.
    pub up_bytes: Vec<u64>,
    /// By cluster: bytes received.
    pub down_bytes: Vec<u64>,
}

/// Sends the updates of `sending` to all of `members` (ascending), which are those of them that
/// take part.
pub fn exchange(
    net: &Net,
    members: &[usize],
    sending: &[Sending],
    closing: &Closing,
    dice: Dice,
) -> Closed {
    let mut running = Running::new(net, members, sending, closing, dice);
    while let Some(event) = running.next() {
        running.happen(event);
        if running.is_over() {
            break;
        }
    }
    running.finish()
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A transfer has left its sender and crossed the network.
    Arrival { transfer: usize },
    /// An update is ready where it was made.
    Ready { update: usize },
    /// The deadline has come.
    Deadline,
}

#[derive(Clone, Copy, Debug)]
struct Transfer {
    update: usize,
    to: usize,
    /// From the last bit's departure to the arrival of the whole.
    tail: Nanos,
}

struct Running<'a> {
    net: &'a Net,
    members: &'a [usize],
    sending: &'a [Sending],
    closing: &'a Closing,
    dice: Dice,
    now: Nanos,
    flows: Flows,
    transfers: Vec<Transfer>,
    events: BinaryHeap<Reverse<(Nanos, Event)>>,
    /// By update: who has it, and since when.
    holders: Vec<BTreeMap<usize, Nanos>>,
    closed: Option<(Nanos, Vec<usize>)>,
    up_bits: Vec<u64>,
    down_bits: Vec<u64>,
}

impl<'a> Running<'a> {
    fn new(
        net: &'a Net,
        members: &'a [usize],
        sending: &'a [Sending],
        closing: &'a Closing,
        dice: Dice,
    ) -> Self {
        let store = (net.topology == Topology::Store).then_some(None);
        let nodes = net.links.iter().map(|link| Some([link.up, link.down])).chain(store);
        let mut events = BinaryHeap::new();
        for (update, sent) in sending.iter().enumerate() {
            events.push(Reverse((sent.ready.max(closing.opened), Event::Ready { update })));
        }
        events
            .extend(closing.deadline.map(|at| Reverse((at.max(closing.opened), Event::Deadline))));
        let nobody = || vec![0; net.links.len() + 1];
        let mut running = Self {
            net,
            members,
            sending,
            closing,
            dice,
            now: closing.opened,
            flows: Flows::new(nodes, closing.opened),
            transfers: Vec::new(),
            events,
            holders: vec![BTreeMap::new(); sending.len()],
            closed: None,
            up_bits: nobody(),
            down_bits: nobody(),
        };
        running.close_if_due();
        running
    }

    /// What happens next: an event, or the departure of a transfer's last bit, which makes one.
    fn next(&mut self) -> Option<Event> {
        loop {
            let due = self.events.peek().map(|Reverse((at, _))| *at);
            match (self.flows.next_end(), due) {
                (Some(end), due) if due.is_none_or(|due| end <= due) => {
                    for transfer in self.flows.advance(end) {
                        let at = end + self.transfers[transfer].tail;
                        self.events.push(Reverse((at, Event::Arrival { transfer })));
                    }
                    self.now = end;
                }
                (_, Some(_)) => {
                    let Reverse((at, event)) = self.events.pop()?;
                    // None of the transfers ends by then.
                    self.flows.advance(at);
                    self.now = at;
                    return Some(event);
                }
                (_, None) => return None,
            }
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Ready { update } => self.hold(update, self.sending[update].cluster),
            Event::Arrival { transfer } => {
                let Transfer { update, to, .. } = self.transfers[transfer];
                if !self.is_out(update) {
                    self.hold(update, to);
                }
            }
            Event::Deadline => {}
        }
        self.close_if_due();
    }

    /// From now on `node` has an update whole, and passes it on to whom it must.
    fn hold(&mut self, update: usize, node: usize) {
        self.holders[update].insert(node, self.now);
        let origin = self.sending[update].cluster;
        let store = self.net.links.len();
        let others = self.members.iter().copied().filter(|member| *member != origin);
        let to: Vec<usize> = match self.net.topology {
            Topology::Direct if node == origin => others.collect(),
            Topology::Direct => Vec::new(),
            Topology::Store if node == origin => vec![store],
            Topology::Store if node == store => others.collect(),
            Topology::Store => Vec::new(),
            Topology::Tree => self.children(origin, node),
        };
        to.into_iter().for_each(|to| self.begin(update, node, to));
    }

    /// Whom `node` passes the updates of `origin` on to: positions count from the origin.
    fn children(&self, origin: usize, node: usize) -> Vec<usize> {
        let n = self.members.len();
        let place = |cluster| self.members.iter().position(|member| *member == cluster);
        let (Some(root), Some(place)) = (place(origin), place(node)) else { return Vec::new() };
        let from_root = (place + n - root) % n;
        let first = from_root * self.net.fanout + 1;
        (first..first + self.net.fanout)
            .take_while(|child| *child < n)
            .map(|child| self.members[(root + child) % n])
            .collect()
    }

    fn begin(&mut self, update: usize, from: usize, to: usize) {
        let bits = self.net.scaled(self.sending[update].bytes) * 8;
        let kept = |node: usize| self.net.links.get(node).map_or(1.0, |link| 1.0 - link.loss);
        let delay = |node: usize| self.net.links.get(node).map_or(0, |link| link.delay);
        let loss = 1.0 - kept(from) * kept(to);
        let pair = (self.sending[update].cluster << 20 | from << 10 | to) as u64;
        // 2^24 numbers for each transfer, 2^30 transfers; two more bits for the store.
        let first = self.dice.at(Use::Loss, pair << 24);
        let sent = send(bits, self.net.packet_bits, loss, first);
        let one_way = delay(from) + delay(to);
        let tail = one_way.saturating_mul(1 + 2 * sent.repeats);
        let transfer = self.transfers.len();
        self.transfers.push(Transfer { update, to, tail });
        self.up_bits[from] += sent.bits;
        self.down_bits[to] += sent.bits;
        self.flows.begin(transfer, [from, to], sent.bits.max(1));
    }

    /// Whether the round has closed without this update.
    fn is_out(&self, update: usize) -> bool {
        let cluster = self.sending[update].cluster;
        self.closed.as_ref().is_some_and(|(_, counted)| !counted.contains(&cluster))
    }

    fn close_if_due(&mut self) {
        if self.closed.is_some() {
            return;
        }
        let everybody = self.members.len();
        let has = |update: usize| {
            let store = self.net.links.len();
            self.holders[update].keys().filter(|node| **node != store).count()
        };
        let all = (0..self.sending.len()).all(|update| has(update) == everybody);
        let reach = self.closing.reach.clamp(1, everybody.max(1));
        let there: Vec<usize> = match all {
            true => (0..self.sending.len()).collect(),
            false => (0..self.sending.len()).filter(|u| has(*u) >= reach).collect(),
        };
        let is_late = self.closing.deadline.is_some_and(|deadline| self.now >= deadline);
        let enough = self.closing.enough.clamp(1, self.sending.len().max(1));
        if !(all || is_late && there.len() >= enough) {
            return;
        }
        let mut counted: Vec<_> =
            there.iter().map(|update| self.sending[*update].cluster).collect();
        counted.sort_unstable();
        self.closed = Some((self.now, counted));
        // What does not count is no longer sent; what has not left was not sent.
        let out: Vec<_> = (0..self.sending.len()).map(|update| self.is_out(update)).collect();
        let transfers = &self.transfers;
        self.flows.cancel(|transfer| out[transfers[transfer].update]);
    }

    /// Whether everybody has everything that counts.
    fn is_over(&self) -> bool {
        let Some((_, counted)) = &self.closed else { return false };
        let whole = |update: usize| {
            self.members.iter().all(|member| self.holders[update].contains_key(member))
        };
        (0..self.sending.len())
            .all(|update| !counted.contains(&self.sending[update].cluster) || whole(update))
    }

    fn finish(self) -> Closed {
        // Only where nothing is sent and no deadline is set.
        let (at, counted) = self.closed.unwrap_or((self.now, Vec::new()));
        let mut complete = vec![None; self.net.links.len()];
        for &member in self.members {
            let held = self.holders.iter().zip(self.sending);
            let held = held.filter(|(_, sent)| counted.contains(&sent.cluster));
            let last = held.filter_map(|(holders, _)| holders.get(&member)).max();
            complete[member] = Some(last.map_or(at, |last| at.max(*last)));
        }
        let bytes = |bits: Vec<u64>| {
            let clusters = bits.into_iter().take(self.net.links.len());
            clusters.map(|bits| bits.div_ceil(8)).collect()
        };
        let (up_bytes, down_bytes) = (bytes(self.up_bits), bytes(self.down_bits));
        Closed { at, counted, complete, up_bytes, down_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::network::Link;
    use crate::simulate::scenario::Network;

    const DICE: Dice = Dice { seed: 1, exchange: 0 };
    const SECOND: Nanos = 1_000_000_000;

    /// Clusters with so many Mbit/s up and down, and a delay of 10 ms.
    fn net(topology: Topology, mbit: &[[u64; 2]]) -> Net {
        let network = Network { topology, ..Network::default() };
        let link = |[up, down]: &[u64; 2]| Link {
            up: up * 1_000_000,
            down: down * 1_000_000,
            delay: 10_000_000,
            loss: 0.0,
        };
        Net::new(&network, mbit.iter().map(link).collect())
    }

    fn all_send(n: usize, bytes: u64) -> (Vec<usize>, Vec<Sending>) {
        let sending = (0..n).map(|cluster| Sending { cluster, ready: 0, bytes });
        ((0..n).collect(), sending.collect())
    }

    const PATIENT: Closing = Closing { opened: 0, deadline: None, enough: 1, reach: 1 };

    #[test]
    fn uplinks_bound_what_goes_direct() {
        let net = net(Topology::Direct, &[[100, 1000]; 5]);
        let (members, sending) = all_send(5, 12_500_000);
        let closed = exchange(&net, &members, &sending, &PATIENT, DICE);
        // 4 copies of 100 Mbit at 100 Mbit/s, and 20 ms of way.
        assert_eq!(closed.at, 4 * SECOND + 20_000_000);
        assert_eq!(closed.counted, members);
        assert_eq!(closed.up_bytes, [50_000_000; 5]);
        assert_eq!(closed.down_bytes, [50_000_000; 5]);
        assert_eq!(closed.complete, [Some(closed.at); 5]);
    }

    #[test]
    fn a_store_takes_every_update_once() {
        let net = net(Topology::Store, &[[100, 400]; 5]);
        let (members, sending) = all_send(5, 12_500_000);
        let closed = exchange(&net, &members, &sending, &PATIENT, DICE);
        // Up 1 s and 10 ms; down 4 copies at 400 Mbit/s in 1 s and 10 ms.
        assert_eq!(closed.at, 2 * SECOND + 20_000_000);
        assert_eq!(closed.up_bytes, [12_500_000; 5]);
        assert_eq!(closed.down_bytes, [50_000_000; 5]);
    }

    #[test]
    fn a_tree_forwards_and_reaches_everybody() {
        for n in 1..12 {
            let net = net(Topology::Tree, &vec![[100, 100]; n]);
            let (members, sending) = all_send(n, 1_000_000);
            let closed = exchange(&net, &members, &sending, &PATIENT, DICE);
            assert_eq!(closed.counted.len(), n);
            assert_eq!(closed.down_bytes, vec![(n as u64 - 1) * 1_000_000; n]);
            assert_eq!(closed.up_bytes.iter().sum::<u64>(), (n * (n - 1)) as u64 * 1_000_000);
        }
        // One sender, a chain of two hops: 2 copies, then the leaf.
        let net = net(Topology::Tree, &[[8, 8]; 4]);
        let sending = [Sending { cluster: 2, ready: SECOND, bytes: 1_000_000 }];
        let closed = exchange(&net, &[0, 1, 2, 3], &sending, &PATIENT, DICE);
        assert_eq!(closed.at, SECOND + 2 * SECOND + 20_000_000 + SECOND + 20_000_000);
    }

    #[test]
    fn a_late_update_does_not_hold_the_round_up() {
        let net = net(Topology::Direct, &[[1000, 1000]; 4]);
        let (members, mut sending) = all_send(4, 1000);
        sending[3].ready = 60 * SECOND;
        let deadline = Some(10 * SECOND);
        let closing = Closing { deadline, enough: 3, reach: 3, ..PATIENT };
        let closed = exchange(&net, &members, &sending, &closing, DICE);
        assert_eq!((closed.at, &closed.counted[..]), (10 * SECOND, &[0, 1, 2][..]));
        assert_eq!(closed.up_bytes[3], 0);
        // Where all four are needed, the round waits.
        let closing = Closing { enough: 4, ..closing };
        let closed = exchange(&net, &members, &sending, &closing, DICE);
        assert!(closed.at > 60 * SECOND && closed.counted.len() == 4);
        // All there before the deadline: it closes at once.
        sending[3].ready = SECOND;
        let closed = exchange(&net, &members, &sending, &closing, DICE);
        assert!(closed.at < 2 * SECOND);
    }

    #[test]
    fn who_receives_slowly_gets_what_counts_later() {
        let net = net(Topology::Direct, &[[1000, 1000], [1000, 1000], [1000, 1000], [1000, 3]]);
        let (members, sending) = all_send(4, 1_000_000);
        let closing = Closing { deadline: Some(SECOND), enough: 3, reach: 3, ..PATIENT };
        let closed = exchange(&net, &members, &sending, &closing, DICE);
        assert_eq!((closed.at, closed.counted.len()), (SECOND, 4));
        assert_eq!(closed.complete[0], Some(SECOND));
        // 3 MB at 3 Mbit/s.
        assert_eq!(closed.complete[3], Some(8 * SECOND + 20_000_000));
    }

    #[test]
    fn nobody_sending_closes_at_once() {
        let net = net(Topology::Direct, &[[1, 1]; 2]);
        let closed = exchange(&net, &[0, 1], &[], &Closing { opened: 7, ..PATIENT }, DICE);
        assert_eq!((closed.at, closed.counted), (7, vec![]));
        assert_eq!(closed.complete, [Some(7), Some(7)]);
    }

    #[test]
    fn loss_costs_bytes_and_time_and_is_the_same_every_time() {
        let mut net = net(Topology::Direct, &[[100, 100]; 3]);
        let (members, sending) = all_send(3, 1_000_000);
        let clean = exchange(&net, &members, &sending, &PATIENT, DICE);
        net.links.iter_mut().for_each(|link| link.loss = 0.05);
        let lossy = exchange(&net, &members, &sending, &PATIENT, DICE);
        assert!(lossy.at > clean.at && lossy.up_bytes[0] > clean.up_bytes[0]);
        assert_eq!(lossy, exchange(&net, &members, &sending, &PATIENT, DICE));
        let other = Dice { exchange: 1, ..DICE };
        assert_ne!(lossy, exchange(&net, &members, &sending, &PATIENT, other));
    }
}
