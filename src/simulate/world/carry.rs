//! The network carries the updates of an exchange, until it closes.

use super::Entry;
use super::Slot;
use super::World;
use crate::simulate::network::Closed;
use crate::simulate::network::Closing;
use crate::simulate::network::Sending;
use crate::simulate::network::exchange;
use crate::simulate::network::from_s;
use crate::simulate::objective::Objective;

impl<O: Objective> World<'_, O> {
    /// Sends every update to every member.
    pub(super) fn carry(&self, slot: &Slot, entries: &[Entry]) -> Closed {
        let members: Vec<usize> =
            entries.iter().filter(|entry| entry.is_member()).map(|entry| entry.peer).collect();
        let sending = entries.iter().filter_map(|entry| {
            let bytes = entry.bytes.as_ref()?.len() as u64;
            Some(Sending { cluster: entry.peer, ready: entry.ready, bytes })
        });
        let sending: Vec<_> = sending.collect();
        let round = &self.scenario.round;
        let enough = (round.quorum * members.len() as f64).ceil() as usize;
        let deadline = (round.deadline_s > 0.0).then(|| self.opened + from_s(round.deadline_s));
        let closing = Closing { opened: self.opened, deadline, enough, reach: enough };
        let mut closed = exchange(&self.net, &members, &sending, &closing, slot.dice);
        if sending.is_empty() {
            // What there was to wait for.
            let last = entries.iter().filter(|entry| entry.is_member() || entry.ready > closed.at);
            closed.at = last.map(|entry| entry.ready).fold(closed.at, u64::max);
        }
        closed
    }
}
