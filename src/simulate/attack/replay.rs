//! Stale replay: what was trained `rounds` rounds ago, sent as if it were new (delayed gradients in BTARD,
//! Gorbunov et al. 2022, arXiv:2106.11257). Honest until there is something old enough. The bytes are
//! made anew, for this round: replayed bytes name their own round, see [`super::Fault::OldRound`].

use std::collections::BTreeMap;
use std::collections::VecDeque;

use super::Attack;
use super::Sent;
use super::View;

#[derive(Debug)]
pub(super) struct Replay {
    rounds: usize,
    /// Own updates by cluster and fragment, the oldest first; `rounds` of them at most.
    past: BTreeMap<(usize, u32), VecDeque<Vec<f32>>>,
}

impl Replay {
    /// Sends what is `rounds` rounds old.
    pub fn new(rounds: u64) -> Self {
        Self { rounds: rounds as usize, past: BTreeMap::new() }
    }
}

impl Attack for Replay {
    fn round(&mut self, view: &View<'_>) -> Vec<Sent> {
        let mut replay = |cluster: usize, own: &[f32]| {
            let past = self.past.entry((cluster, view.fragment)).or_default();
            past.push_back(own.to_vec());
            match past.len() > self.rounds {
                true => past.pop_front().map_or(Sent::Own, Sent::Dense),
                false => Sent::Own,
            }
        };
        view.colluders.iter().map(|k| replay(k.cluster, k.update)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::Kind;
    use super::super::testing::Room;
    use super::*;

    #[test]
    fn old_updates_come_again_in_order() {
        let mut attack =
            Config { rounds: Some(3), ..Config::of(Kind::StaleReplay) }.attack().expect("valid");
        for round in 0..9u64 {
            let mut room = Room { round, ..Room::of(2, 2, 5) };
            let of = |round: u64, i: usize| vec![(10 * round + i as u64) as f32; 5];
            room.colluders = vec![of(round, 0), of(round, 1)];
            let sent = room.view(|view| attack.round(&view));
            match round.checked_sub(3) {
                None => assert_eq!(sent, vec![Sent::Own; 2]),
                Some(old) => assert_eq!(sent, [0, 1].map(|i| Sent::Dense(of(old, i)))),
            }
        }
    }
}
