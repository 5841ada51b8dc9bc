//! The outer weights and their optimizer.

use rayon::prelude::*;

use super::Config;

/// What all clusters hold alike: outer weights and momentum, flat.
#[derive(Clone, Debug, PartialEq)]
pub struct Outer {
    weights: Vec<f32>,
    momentum: Vec<f32>,
}

impl Outer {
    /// The outer weights at the beginning: those that every cluster starts from.
    pub fn new(weights: Vec<f32>) -> Self {
        Self { momentum: vec![0.0; weights.len()], weights }
    }

    /// The outer weights.
    pub fn weights(&self) -> &[f32] {
        &self.weights
    }

    /// `delta = outer - local`, each element rounded once: subtracting it moves toward `local`.
    pub fn pseudo_gradient(&self, local: &[f32], delta: &mut [f32]) {
        let pairs = self.weights.par_iter().zip(local);
        delta.par_iter_mut().zip(pairs).for_each(|(d, (w, l))| *d = w - l);
    }

    /// Moves the outer weights against `aggregate` (PyTorch's form of momentum):
    /// `b = mu * b + a`, `w = w - eta * (a + mu * b)`, or `w - eta * b` without look-ahead.
    pub fn step(&mut self, config: &Config, aggregate: &[f32]) {
        let (mu, eta) = (config.momentum as f32, config.lr as f32);
        let moved = self.weights.par_iter_mut().zip(&mut self.momentum).zip(aggregate);
        match config.nesterov {
            true => moved.for_each(|((w, b), a)| {
                *b = mu * *b + a;
                *w -= eta * (a + mu * *b);
            }),
            false => moved.for_each(|((w, b), a)| {
                *b = mu * *b + a;
                *w -= eta * *b;
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_moves_toward_where_the_peers_went() {
        let mut outer = Outer::new(vec![1.0, -2.0]);
        let local = [2.0, -3.0];
        let mut delta = [f32::NAN; 2];
        outer.pseudo_gradient(&local, &mut delta);
        assert_eq!(delta, [-1.0, 1.0]);
        let plain = Config { lr: 1.0, momentum: 0.0, nesterov: false, ..Config::default() };
        outer.step(&plain, &delta);
        assert_eq!(outer.weights(), local);
    }
}
