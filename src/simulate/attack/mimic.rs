//! Mimic (Karimireddy, He and Jaggi 2022, arXiv:2006.09365, section 3.2 and appendix): all attackers send
//! what one honest cluster sends, and so give it the weight of many. No update looks wrong.
//!
//! Its target is the one whose data differ most. In the first `rounds` rounds a vector z follows the
//! top direction of the honest spread, one power step a round:
//!
//! ```text
//! mu <- t/(t+1) mu + 1/(t+1) mean(u)
//! v   = sum_i (u_i - mu) <u_i - mu, z>
//! z  <- t/(t+1) z + 1/(t+1) v/|v|, normalized
//! ```
//!
//! and each cluster's score adds up `<u_i - mu, z>`. Target: the largest magnitude of a score of those
//! present; after the warm-up scores stay.

use std::collections::BTreeMap;

use super::Attack;
use super::Sent;
use super::View;
use super::moments;
use super::noise;
use crate::rng;

#[derive(Debug)]
pub(super) struct Mimic {
    warm_up: u64,
    /// By fragment of the model.
    spreads: BTreeMap<u32, Spread>,
}

/// What is known of the honest spread of a fragment.
#[derive(Debug, Default)]
struct Spread {
    rounds: u64,
    mean: Vec<f64>,
    top: Vec<f64>,
    /// By cluster.
    scores: BTreeMap<usize, f64>,
}

impl Mimic {
    /// Learns its target in the first `warm_up` rounds.
    pub fn new(warm_up: u64) -> Self {
        Self { warm_up, spreads: BTreeMap::new() }
    }
}

impl Attack for Mimic {
    fn round(&mut self, view: &View<'_>) -> Vec<Sent> {
        let spread = self.spreads.entry(view.fragment).or_default();
        if spread.rounds < self.warm_up {
            spread.learn(view);
        }
        let score = |cluster| spread.scores.get(&cluster).map_or(0.0, |s: &f64| s.abs());
        let farther = |a, b| if score(b) > score(a) { b } else { a };
        let target = view.honest.iter().map(|k| k.cluster).reduce(farther);
        let target = view.honest.iter().find(|k| Some(k.cluster) == target);
        let sent = target.map_or(Sent::Own, |k| Sent::Dense(k.update.to_vec()));
        vec![sent; view.colluders.len()]
    }
}

impl Spread {
    fn learn(&mut self, view: &View<'_>) {
        if view.honest.is_empty() {
            return;
        }
        let elements = view.layout.elements();
        if self.top.is_empty() {
            let mut start = vec![0.0f32; elements];
            rng::fill_normal(noise::stream(view, view.round, 0), 1.0, &mut start);
            self.top = start.into_iter().map(f64::from).collect();
            self.mean = vec![0.0; elements];
        }
        let updates: Vec<&[f32]> = view.honest.iter().map(|k| k.update).collect();
        let t = self.rounds as f64;
        let (old, new) = (t / (t + 1.0), 1.0 / (t + 1.0));
        let mean = moments::mean(&updates);
        self.mean.iter_mut().zip(mean).for_each(|(mu, m)| *mu = old * *mu + new * m);
        let away = |u: &[f32], i: usize| f64::from(u[i]) - self.mean[i];
        let products: Vec<f64> =
            updates.iter().map(|u| moments::sum(elements, |i| away(u, i) * self.top[i])).collect();
        let mut step = vec![0.0f64; elements];
        for (u, product) in updates.iter().zip(&products) {
            step.iter_mut().enumerate().for_each(|(i, v)| *v += away(u, i) * product);
        }
        normalize(&mut step);
        // The first step replaces the random start, as t = 0 says.
        self.top.iter_mut().zip(&step).for_each(|(z, v)| *z = old * *z + new * v);
        normalize(&mut self.top);
        for (known, u) in view.honest.iter().zip(&updates) {
            let score = moments::sum(elements, |i| (f64::from(u[i]) - self.mean[i]) * self.top[i]);
            *self.scores.entry(known.cluster).or_default() += score;
        }
        self.rounds += 1;
    }
}

fn normalize(vector: &mut [f64]) {
    let norm = moments::sum(vector.len(), |i| vector[i] * vector[i]).sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|x| *x /= norm);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::Kind;
    use super::super::testing::Room;
    use super::*;

    /// Honest updates with one that differs: cluster `odd` points elsewhere.
    fn room(odd: usize, round: u64) -> Room {
        let mut room = Room { round, ..Room::of(6, 2, 3000) };
        for (i, u) in room.honest.iter_mut().enumerate() {
            let wave = |k: usize| ((k * (i + 3) + round as usize) % 11) as f32 * 0.05;
            let other = |k: usize| if i == odd { ((k % 7) as f32) - 3.0 } else { 0.0 };
            u.iter_mut().enumerate().for_each(|(k, x)| *x = 1.0 + wave(k) + other(k));
        }
        room
    }

    #[test]
    fn the_cluster_that_differs_most_is_copied_and_kept() {
        for odd in [0, 3, 5] {
            let mut attack =
                Config { rounds: Some(4), ..Config::of(Kind::Mimic) }.attack().expect("valid");
            for round in 0..4 {
                room(odd, round).view(|view| attack.round(&view));
            }
            // Now another cluster stands out; the target stays.
            let later = room((odd + 1) % 6, 4);
            let sent = later.view(|view| attack.round(&view));
            assert_eq!(sent, vec![Sent::Dense(later.honest[odd].clone()); 2]);
        }
    }

    #[test]
    fn a_target_that_left_is_replaced() {
        let mut attack = Config::of(Kind::Mimic).attack().expect("valid");
        room(5, 0).view(|view| attack.round(&view));
        let mut fewer = room(5, 1);
        fewer.honest.truncate(5);
        let sent = fewer.view(|view| attack.round(&view));
        assert!(matches!(&sent[0], Sent::Dense(x) if fewer.honest.contains(x)));
        fewer.honest.clear();
        assert_eq!(fewer.view(|view| attack.round(&view)), vec![Sent::Own; 2]);
    }
}
