//! Hoarding, then a burst: zeros for `rounds - 1` rounds while the attacker gathers what an honest
//! residual would gather, then all of it at once, backwards.
//!
//! ```text
//! x = -strength * sum over the last rounds of own
//! ```
//!
//! It tests rules that trust a peer by its past, and limits on a residual.

use std::collections::BTreeMap;

use super::Attack;
use super::Sent;
use super::View;
use super::moments;

#[derive(Debug)]
pub(super) struct Burst {
    rounds: u64,
    strength: f64,
    /// By cluster and fragment: rounds gathered, and their sum.
    hoards: BTreeMap<(usize, u32), (u64, Vec<f64>)>,
}

impl Burst {
    /// A burst of `strength` times the sum every `rounds` rounds.
    pub fn new(rounds: u64, strength: f64) -> Self {
        Self { rounds, strength, hoards: BTreeMap::new() }
    }
}

impl Attack for Burst {
    fn round(&mut self, view: &View<'_>) -> Vec<Sent> {
        let mut of = |cluster: usize, own: &[f32]| {
            let empty = || (0, vec![0.0; own.len()]);
            let hoard = self.hoards.entry((cluster, view.fragment)).or_insert_with(empty);
            hoard.0 += 1;
            hoard.1.iter_mut().zip(own).for_each(|(sum, &u)| *sum += f64::from(u));
            if hoard.0 < self.rounds {
                return Sent::Dense(vec![0.0; own.len()]);
            }
            let sent = hoard.1.iter().map(|sum| moments::narrow(-self.strength * sum)).collect();
            *hoard = empty();
            Sent::Dense(sent)
        };
        view.colluders.iter().map(|k| of(k.cluster, k.update)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::Kind;
    use super::super::Strength;
    use super::super::testing::Room;
    use super::*;

    #[test]
    fn what_was_withheld_comes_at_once() {
        let strength = Some(Strength::Given(2.0));
        let config = Config { rounds: Some(3), strength, ..Config::of(Kind::Burst) };
        let mut attack = config.attack().expect("valid");
        for round in 0..7u64 {
            let mut room = Room { round, ..Room::of(2, 1, 4) };
            room.colluders = vec![vec![(round + 1) as f32; 4]];
            let sent = room.view(|view| attack.round(&view));
            let expected = match round {
                2 => -2.0 * (1.0 + 2.0 + 3.0),
                5 => -2.0 * (4.0 + 5.0 + 6.0),
                _ => 0.0,
            };
            assert_eq!(sent, [Sent::Dense(vec![expected; 4])], "{round}");
        }
    }
}
