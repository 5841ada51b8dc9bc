//! Functions of some hundred parameters: a quadratic bowl, and logistic regression.

use std::ops::Range;

use super::Objective;
use crate::codec::Layout;
use crate::diloco;
use crate::diloco::Cluster;
use crate::diloco::Fragment;
use crate::rng::fill_normal;
use crate::simulate::Error;
use crate::simulate::attack::Training;
use crate::simulate::network::Dice;
use crate::simulate::network::Use;
use crate::simulate::scenario::Scenario;
use crate::simulate::scenario::Toy;
use crate::simulate::scenario::ToyKind;
use crate::train;

/// The toy of a scenario.
///
/// Quadratic, with optimum `c`, cluster i's optimum `c_i = c + spread·n_i`, curvatures `a_j` falling
/// geometrically from 1 to 1 / condition: cluster i follows `a_j (w_j - c_ij)` plus noise, and the
/// loss is `mean_j a_j (w_j - c_j)^2 / 2`. Logistic, with hidden weights `c` and `c_i`: a step takes
/// 8 random examples x, labelled by the sign of `<c_i, x>`, and the loss is that of 64 examples
/// labelled by c.
#[derive(Debug)]
pub struct Quick {
    toy: Toy,
    seed: u64,
    optimum: Vec<f32>,
    curvatures: Vec<f32>,
}

/// A cluster's state of the toy.
#[derive(Clone, Debug)]
pub struct Walker {
    weights: Vec<f32>,
    tensors: Vec<Range<usize>>,
    done: u64,
    cluster: u64,
}

impl Quick {
    /// The toy of `scenario`.
    pub fn new(scenario: &Scenario) -> Self {
        let (toy, seed) = (scenario.toy.clone(), scenario.scenario.seed);
        let count = toy.parameters;
        let mut optimum = vec![0.0; count];
        fill_normal(Dice { seed, exchange: 0 }.at(Use::Toy, 0), 1.0, &mut optimum);
        let fall =
            |j: usize| libm::pow(toy.condition, -(j as f64) / (count.max(2) - 1) as f64) as f32;
        Self { curvatures: (0..count).map(fall).collect(), optimum, seed, toy }
    }

    /// The optimum, or the hidden weights, of a cluster; turned around where targets are false.
    fn target(&self, cluster: u64, training: Training) -> Vec<f32> {
        let mut target = vec![0.0; self.optimum.len()];
        let first = Dice { seed: self.seed, exchange: 1 }.at(Use::Toy, cluster << 32);
        fill_normal(first, self.toy.spread, &mut target);
        let sign = if training == Training::FlippedTargets { -1.0 } else { 1.0 };
        target.iter_mut().zip(&self.optimum).for_each(|(t, c)| *t = sign * (c + *t));
        target
    }

    /// One step of plain gradient descent; its loss before it.
    fn step(&self, walker: &mut Walker, target: &[f32], noise: &mut [f32]) -> f64 {
        let dice = Dice { seed: self.seed, exchange: walker.done };
        let lr = self.toy.lr as f32;
        match self.toy.kind {
            ToyKind::Quadratic => {
                if self.toy.noise > 0.0 {
                    fill_normal(dice.at(Use::Noise, walker.cluster << 32), self.toy.noise, noise);
                }
                let loss = self.bowl(&walker.weights, target);
                let terms = self.curvatures.iter().zip(target).zip(&*noise);
                for (w, ((a, c), n)) in walker.weights.iter_mut().zip(terms) {
                    *w -= lr * (a * (*w - c) + n);
                }
                loss
            }
            ToyKind::Logistic => {
                let mut gradient = vec![0.0f32; target.len()];
                let mut loss = 0.0;
                for example in 0..EXAMPLES {
                    let first = walker.cluster << 40 | example << 32;
                    fill_normal(dice.at(Use::Noise, first), 1.0, noise);
                    let (l, slope) = logistic(&walker.weights, target, noise);
                    loss += l / EXAMPLES as f64;
                    let slope = (slope / EXAMPLES as f64) as f32;
                    gradient.iter_mut().zip(&*noise).for_each(|(g, x)| *g += slope * x);
                }
                walker.weights.iter_mut().zip(&gradient).for_each(|(w, g)| *w -= lr * g);
                loss
            }
        }
    }

    fn bowl(&self, weights: &[f32], target: &[f32]) -> f64 {
        let term = |((w, c), a): ((&f32, &f32), &f32)| {
            let distance = f64::from(*w) - f64::from(*c);
            0.5 * f64::from(*a) * distance * distance
        };
        let sum: f64 = weights.iter().zip(target).zip(&self.curvatures).map(term).sum();
        sum / weights.len() as f64
    }

    fn loss(&self, weights: &[f32]) -> f64 {
        if self.toy.kind == ToyKind::Quadratic {
            return self.bowl(weights, &self.optimum);
        }
        let mut example = vec![0.0; weights.len()];
        let losses = (0..HELD_OUT).map(|i| {
            let dice = Dice { seed: self.seed, exchange: 2 };
            fill_normal(dice.at(Use::Toy, i << 32), 1.0, &mut example);
            logistic(weights, &self.optimum, &example).0
        });
        losses.sum::<f64>() / HELD_OUT as f64
    }
}

/// Loss of an example labelled by the sign of `<hidden, x>`, and its derivative by `<w, x>`.
fn logistic(weights: &[f32], hidden: &[f32], x: &[f32]) -> (f64, f64) {
    let product =
        |a: &[f32]| a.iter().zip(x).map(|(a, x)| f64::from(*a) * f64::from(*x)).sum::<f64>();
    let label = if product(hidden) >= 0.0 { 1.0 } else { -1.0 };
    let margin = label * product(weights);
    // log(1 + e^-m), without overflow on either side.
    let loss = (-margin).max(0.0) + libm::log1p(libm::exp(-margin.abs()));
    (loss, -label / (1.0 + libm::exp(margin)))
}

impl Objective for Quick {
    type Inner = Walker;

    fn inner(&self, cluster: usize) -> Result<Walker, Error> {
        let (count, parts) = (self.toy.parameters, self.toy.tensors);
        let tensors = (0..parts).map(|i| i * count / parts..(i + 1) * count / parts).collect();
        Ok(Walker { weights: vec![0.0; count], tensors, done: 0, cluster: cluster as u64 })
    }

    fn train(
        &self,
        cluster: &mut Cluster<Walker>,
        steps: u64,
        training: Training,
    ) -> Result<f64, Error> {
        let walker = cluster.inner_mut();
        let target = self.target(walker.cluster, training);
        let (mut noise, mut sum) = (vec![0.0; target.len()], 0.0);
        for _ in 0..steps {
            let before = walker.weights.clone();
            let loss = self.step(walker, &target, &mut noise);
            let step = walker.done + 1;
            if !loss.is_finite() || walker.weights.iter().any(|w| !w.is_finite()) {
                walker.weights = before;
                return Err(train::Error::NonFinite { step, place: "the toy".into() }.into());
            }
            walker.done = step;
            sum += loss;
        }
        Ok(sum / steps.max(1) as f64)
    }

    fn evaluate(&self, cluster: &mut Cluster<Walker>) -> Result<Option<f64>, Error> {
        let mut weights = vec![0.0; self.optimum.len()];
        let all = cluster.inner_mut().tensors.clone();
        for part in 0..cluster.fragments() {
            let mut rest = cluster.outer(part).weights();
            for &tensor in &cluster.fragment(part).tensors {
                let (mine, others) = rest.split_at(all[tensor].len());
                weights[all[tensor].clone()].copy_from_slice(mine);
                rest = others;
            }
        }
        Ok(Some(self.loss(&weights)))
    }
}

impl diloco::Inner for Walker {
    fn fragments(&self, count: usize) -> Vec<Fragment> {
        let mut all = vec![Vec::new(); count];
        (0..self.tensors.len()).for_each(|tensor| all[tensor % count].push(tensor));
        let fragment = |(index, tensors): (usize, Vec<usize>)| {
            let named = tensors.iter().map(|&i| (format!("toy.{i}"), self.tensors[i].len()));
            Fragment { index, layout: Layout::new(named), tensors }
        };
        all.into_iter().enumerate().map(fragment).collect()
    }

    fn done(&self) -> u64 {
        self.done
    }

    fn skip(&mut self, steps: u64) {
        self.done += steps;
    }

    fn read_tensors(&self, tensors: &[usize], out: &mut [f32]) -> Result<(), train::Error> {
        let mut rest = out;
        for &tensor in tensors {
            let (mine, others) = rest.split_at_mut(self.tensors[tensor].len());
            mine.copy_from_slice(&self.weights[self.tensors[tensor].clone()]);
            rest = others;
        }
        Ok(())
    }

    fn write_tensors(&mut self, tensors: &[usize], values: &[f32]) -> Result<(), train::Error> {
        let mut rest = values;
        for &tensor in tensors {
            let (mine, others) = rest.split_at(self.tensors[tensor].len());
            self.weights[self.tensors[tensor].clone()].copy_from_slice(mine);
            rest = others;
        }
        Ok(())
    }

    fn forget_moments(&mut self) -> Result<(), train::Error> {
        Ok(())
    }
}

/// Examples of a step of logistic regression.
const EXAMPLES: u64 = 8;
/// Examples that its loss is measured on.
const HELD_OUT: u64 = 64;
