//! The outer weights of a fragment and their optimizer.

use rayon::prelude::*;
use serde::Deserialize;
use serde::Serialize;

use super::Error;
use super::Optimizer;
use super::Settings;
use super::reduce;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;

/// What all clusters hold alike of a fragment: outer weights and momentum, flat.
///
/// A pseudo-gradient is old minus new, `outer - local`: a gradient, in that subtracting it moves
/// the outer weights toward the local ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Outer {
    /// Outer steps taken: the number of the round that comes next.
    pub(super) round: u64,
    pub(super) weights: Vec<f32>,
    /// None without momentum.
    pub(super) momentum: Vec<f32>,
    /// The last aggregate; none before the first, or where nobody wants to compare.
    pub(super) last: Vec<f32>,
}

/// What an outer step did.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// Norm of the aggregate.
    pub aggregate_norm: f64,
    /// Cosine between this aggregate and the one before, if both are there and not zero.
    pub aggregate_lag1: Option<f64>,
    /// Norm of the step before any bound.
    pub step_norm: f64,
    /// What the step was multiplied with to keep its bound.
    pub step_scale: f32,
}

impl Moved {
    /// Not at all.
    pub const NONE: Self =
        Self { aggregate_norm: 0.0, aggregate_lag1: None, step_norm: 0.0, step_scale: 1.0 };
}

impl Outer {
    /// The outer weights at the beginning: those that every cluster starts from.
    pub fn new(weights: Vec<f32>) -> Self {
        Self { round: 0, weights, momentum: Vec::new(), last: Vec::new() }
    }

    /// Outer steps taken: the number of the round that comes next.
    pub fn round(&self) -> u64 {
        self.round
    }

    /// The outer weights.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// The momentum; empty where there is none yet.
    pub fn momentum(&self) -> &[f32] {
        &self.momentum
    }

    /// `delta = outer - local`, each element rounded once: subtracting it moves toward `local`.
    pub fn pseudo_gradient(&self, local: &[f32], delta: &mut [f32]) {
        let pairs = self.weights.par_iter().zip(local);
        delta.par_iter_mut().zip(pairs).for_each(|(d, (w, l))| *d = w - l);
    }

    /// Moves the outer weights w against `aggregate` a (momentum in the form of PyTorch's SGD,
    /// which begins with b = a):
    ///
    /// ```text
    /// b = mu·b + a
    /// s = eta·(a + mu·b) with Nesterov, eta·b with heavy ball, eta·a without momentum
    /// w = w - s, or w - c·s where the norm of s is above its bound
    /// ```
    ///
    /// On an error nothing has changed.
    pub fn step(&mut self, settings: &Settings, aggregate: &[f32]) -> Result<Moved, Error> {
        assert_eq!(aggregate.len(), self.weights.len(), "elements of the aggregate");
        let squares = reduce::sum_of_squares(aggregate);
        if !squares.is_finite() {
            return Err(Error::NonFinite { what: "the aggregate", round: self.round });
        }
        let aggregate_lag1 = self.compare(aggregate, squares);
        let rule = Rule::of(settings);
        let step_norm = rule.norm(&self.momentum, aggregate);
        if !step_norm.is_finite() {
            return Err(Error::NonFinite { what: "the outer step", round: self.round });
        }
        let bound = settings.max_step_norm;
        let is_long = bound > 0.0 && step_norm > bound;
        let step_scale = if is_long { (bound / step_norm) as f32 } else { 1.0 };
        if rule.has_momentum() && self.momentum.is_empty() {
            self.momentum = vec![0.0; aggregate.len()];
        }
        rule.apply(&mut self.weights, &mut self.momentum, aggregate, step_scale);
        self.round += 1;
        match settings.correlation {
            true => aggregate.clone_into(&mut self.last),
            false => self.last = Vec::new(),
        }
        Ok(Moved { aggregate_norm: squares.sqrt(), aggregate_lag1, step_norm, step_scale })
    }

    /// A round that nobody takes an outer step in: only its number passes.
    pub fn pass(&mut self) {
        self.round += 1;
    }

    fn compare(&self, aggregate: &[f32], squares: f64) -> Option<f64> {
        if self.last.len() != aggregate.len() {
            return None;
        }
        let before = reduce::sum_of_squares(&self.last);
        reduce::cosine(squares, before, reduce::inner_product(aggregate, &self.last))
    }

    /// Identity of what decides the next rounds: round, weights and momentum.
    pub fn hash(&self) -> Hash {
        let mut hasher = Hasher::new(Domain::OuterState);
        hasher.update(&self.round.to_le_bytes());
        for values in [&self.weights, &self.momentum] {
            hasher.update(&(values.len() as u64).to_le_bytes());
            hasher.update_rayon(bytemuck::cast_slice(values));
        }
        hasher.finish()
    }
}

/// Identity of the outer states of all fragments, in order.
pub fn outer_hash<'a>(parts: impl Iterator<Item = &'a Outer>) -> Hash {
    let mut hasher = Hasher::new(Domain::OuterState);
    parts.for_each(|outer| {
        hasher.update(outer.hash().as_bytes());
    });
    hasher.finish()
}

/// One element's step.
#[derive(Clone, Copy)]
struct Rule {
    optimizer: Optimizer,
    mu: f32,
    eta: f32,
}

impl Rule {
    fn of(settings: &Settings) -> Self {
        let (mu, eta) = (settings.momentum as f32, settings.lr as f32);
        Self { optimizer: settings.optimizer, mu, eta }
    }

    fn has_momentum(&self) -> bool {
        self.optimizer != Optimizer::Sgd
    }

    /// The new momentum, and the step.
    fn step(&self, momentum: f32, aggregate: f32) -> (f32, f32) {
        let Self { mu, eta, .. } = *self;
        let b = mu * momentum + aggregate;
        match self.optimizer {
            Optimizer::Nesterov => (b, eta * (aggregate + mu * b)),
            Optimizer::HeavyBall => (b, eta * b),
            Optimizer::Sgd => (0.0, eta * aggregate),
        }
    }

    /// Norm of the step of all elements. A momentum that is empty is zero.
    fn norm(&self, momentum: &[f32], aggregate: &[f32]) -> f64 {
        let block = |first: usize, aggregate: &[f32]| {
            let mut room = [0.0f32; reduce::BLOCK];
            let steps = &mut room[..aggregate.len()];
            for (i, (step, &a)) in steps.iter_mut().zip(aggregate).enumerate() {
                let b = momentum.get(first + i).copied().unwrap_or(0.0);
                *step = self.step(b, a).1;
            }
            reduce::block_product(steps, steps)
        };
        let blocks = aggregate.par_chunks(reduce::BLOCK).enumerate();
        reduce::chain(blocks.map(|(i, a)| block(i * reduce::BLOCK, a)).collect()).sqrt()
    }

    /// Takes the step, `scale` times.
    fn apply(&self, weights: &mut [f32], momentum: &mut [f32], aggregate: &[f32], scale: f32) {
        let moved = weights.par_iter_mut().zip(aggregate);
        // A scale of 1 changes no bit.
        if self.has_momentum() {
            moved.zip(momentum).for_each(|((w, &a), b)| {
                let (next, step) = self.step(*b, a);
                (*b, *w) = (next, *w - scale * step);
            });
        } else {
            moved.for_each(|(w, &a)| *w -= scale * self.step(0.0, a).1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(optimizer: Optimizer, lr: f64, momentum: f64) -> Settings {
        Settings {
            inner_steps: 50,
            optimizer,
            lr,
            momentum,
            max_step_norm: 0.0,
            residual_decay: 0.95,
            fragments: 1,
            overlap_steps: 0,
            blend: 0.0,
            correlation: true,
        }
    }

    #[test]
    fn a_step_moves_toward_where_the_peers_went() {
        let mut outer = Outer::new(vec![1.0, -2.0]);
        let local = [2.0, -3.0];
        let mut delta = [f32::NAN; 2];
        outer.pseudo_gradient(&local, &mut delta);
        assert_eq!(delta, [-1.0, 1.0]);
        let plain = settings(Optimizer::Sgd, 1.0, 0.0);
        outer.step(&plain, &delta).expect("finite");
        assert_eq!(outer.weights(), local);
        assert_eq!(outer.round(), 1);
        for optimizer in [Optimizer::Nesterov, Optimizer::HeavyBall, Optimizer::Sgd] {
            let mu = if optimizer == Optimizer::Sgd { 0.0 } else { 0.9 };
            let mut outer = Outer::new(vec![1.0, -2.0]);
            for _ in 0..3 {
                let before = outer.clone();
                outer.step(&settings(optimizer, 0.1, mu), &delta).expect("finite");
                let toward = |i: usize| (outer.weights[i] - before.weights[i]) * (local[i] - 1.5);
                assert!(toward(0) > 0.0 && toward(1) > 0.0, "{optimizer:?}");
            }
        }
    }

    #[test]
    fn three_steps_are_those_of_the_formula_in_f64() {
        let aggregates = [[0.5f32, -1.25, 3.0], [0.25, 0.75, -2.0], [1.0, -0.5, 0.125]];
        for (optimizer, mu) in [
            (Optimizer::Nesterov, 0.9),
            (Optimizer::HeavyBall, 0.9),
            (Optimizer::Nesterov, 0.0),
            (Optimizer::Sgd, 0.0),
        ] {
            let (eta, mut outer) = (0.7, Outer::new(vec![1.0, 2.0, -3.0]));
            let (mut w, mut b) = ([1.0f64, 2.0, -3.0], [0.0f64; 3]);
            for a in &aggregates {
                outer.step(&settings(optimizer, eta, mu), a).expect("finite");
                for i in 0..3 {
                    let a = f64::from(a[i]);
                    b[i] = mu * b[i] + a;
                    let step = match optimizer {
                        Optimizer::Nesterov => a + mu * b[i],
                        Optimizer::HeavyBall => b[i],
                        Optimizer::Sgd => a,
                    };
                    w[i] -= eta * step;
                }
            }
            for (got, want) in outer.weights.iter().zip(w) {
                assert!((f64::from(*got) - want).abs() < 2e-6, "{optimizer:?} {got} {want}");
            }
        }
    }

    #[test]
    fn a_step_past_its_bound_keeps_its_direction() {
        let bounded = Settings { max_step_norm: 2.5, ..settings(Optimizer::Sgd, 1.0, 0.0) };
        let mut outer = Outer::new(vec![0.0, 0.0]);
        let moved = outer.step(&bounded, &[3.0, -4.0]).expect("finite");
        assert_eq!((moved.step_norm, moved.step_scale), (5.0, 0.5));
        assert_eq!(outer.weights(), [-1.5, 2.0]);
        let moved = outer.step(&bounded, &[1.5, -2.0]).expect("finite");
        assert_eq!((moved.step_norm, moved.step_scale), (2.5, 1.0));
        assert!(moved.aggregate_lag1.is_some_and(|c| (c - 1.0).abs() < 1e-15));
    }

    #[test]
    fn an_aggregate_that_is_not_finite_changes_nothing() {
        let fresh = Outer::new(vec![1.0, 2.0]);
        let with = settings(Optimizer::Nesterov, 0.7, 0.9);
        let mut moved = fresh.clone();
        moved.step(&with, &[1.0, 1.0]).expect("finite");
        for before in [fresh, moved] {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
                let mut outer = before.clone();
                assert!(outer.step(&with, &[0.0, bad]).is_err(), "{bad}");
                assert_eq!(outer, before);
                assert_eq!(outer.hash(), before.hash());
            }
        }
    }
}
