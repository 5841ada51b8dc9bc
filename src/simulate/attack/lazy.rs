//! Presence without work: zeros, the last aggregate, somebody else's update, or nothing.

use super::Attack;
use super::Sent;
use super::View;
use crate::rng::Address;
use crate::rng::Purpose;

/// Zeros, well formed.
#[derive(Debug)]
pub(super) struct Zero;

impl Attack for Zero {
    fn round(&mut self, view: &View<'_>) -> Vec<Sent> {
        vec![Sent::Dense(vec![0.0; view.layout.elements()]); view.colluders.len()]
    }
}

/// The last aggregate sent back (Lin et al. 2019, arXiv:1911.12560, the delta weights attack); zeros in
/// the first round.
#[derive(Debug)]
pub(super) struct FreeRider;

impl Attack for FreeRider {
    fn round(&mut self, view: &View<'_>) -> Vec<Sent> {
        let zeros = || vec![0.0; view.layout.elements()];
        let update = view.previous.map_or_else(zeros, <[f32]>::to_vec);
        vec![Sent::Dense(update); view.colluders.len()]
    }
}

/// The update of an honest cluster: colluder `i` copies honest update `i mod n`.
#[derive(Debug)]
pub(super) struct Copy;

impl Attack for Copy {
    fn round(&mut self, view: &View<'_>) -> Vec<Sent> {
        let copied = |i: usize| match view.honest.len() {
            0 => Sent::Nothing,
            n => Sent::Dense(view.honest[i % n].update.to_vec()),
        };
        (0..view.colluders.len()).map(copied).collect()
    }
}

/// Nothing, with a probability; else honest work.
#[derive(Debug)]
pub(super) struct Omission {
    /// Of sending nothing, for each attacker and round alone.
    pub probability: f64,
}

impl Attack for Omission {
    fn round(&mut self, view: &View<'_>) -> Vec<Sent> {
        let of = |cluster: usize| {
            let purpose = Purpose::Attack;
            let index = cluster as u64;
            let draw = Address { seed: view.seed, purpose, step: view.round, index }.uniform_f64();
            if draw < self.probability { Sent::Nothing } else { Sent::Own }
        };
        view.colluders.iter().map(|k| of(k.cluster)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::Kind;
    use super::super::testing::Room;
    use super::*;

    #[test]
    fn the_lazy_send_what_others_made_or_nothing() {
        let room = Room::of(3, 5, 10);
        assert_eq!(room.dense(&Config::of(Kind::Zero)), vec![vec![0.0; 10]; 5]);
        assert_eq!(room.dense(&Config::of(Kind::FreeRider)), vec![vec![0.0; 10]; 5]);
        let copies = room.dense(&Config::of(Kind::Copy));
        assert_eq!(copies, [0, 1, 2, 0, 1].map(|i| room.honest[i].clone()));
        let last = [0.5f32; 10];
        let sent = room.view(|view| FreeRider.round(&View { previous: Some(&last), ..view }));
        assert_eq!(sent, vec![Sent::Dense(last.to_vec()); 5]);
    }

    #[test]
    fn omissions_are_as_frequent_as_they_are_likely() {
        for (probability, expected) in [(0.0, 0.0), (0.3, 0.3), (1.0, 1.0)] {
            let (mut missing, rounds) = (0, 400);
            for round in 0..rounds {
                let room = Room { round, ..Room::of(1, 5, 1) };
                let sent = room.view(|view| Omission { probability }.round(&view));
                missing += sent.iter().filter(|s| **s == Sent::Nothing).count();
            }
            let share = missing as f64 / (5 * rounds) as f64;
            // Five deviations of 2,000 draws.
            assert!((share - expected).abs() <= 0.052, "{probability}: {share}");
        }
    }
}
