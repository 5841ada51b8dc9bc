//! How long runs will take, before they begin.

use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use super::Point;
use super::one::Datasets;
use super::one::simulate;
use crate::ops::Kernels;
use crate::simulate::Error;
use crate::simulate::scenario::Group;
use crate::simulate::scenario::Objective;
use crate::simulate::scenario::Scenario;
use crate::train::Stop;

/// A measured speed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// Seconds of a unit of [`work`].
    unit_s: f64,
}

impl Cost {
    /// Measures the first round of one cluster of `point`, or the first steps of it where it is long.
    pub fn measure(point: &Point, kernels: &Arc<dyn Kernels>) -> Result<Self, Error> {
        let mut scenario = point.scenario.clone();
        scenario.outer.inner_steps = scenario.outer.inner_steps.min(STEPS);
        scenario.outer.fragments = 1;
        scenario.outer.overlap_steps = 0;
        scenario.train.stop_after = scenario.outer.inner_steps;
        scenario.train.steps = scenario.train.steps.max(scenario.train.stop_after);
        scenario.train.eval_sequences = scenario.train.eval_sequences.min(1);
        scenario.scenario.eval_every = 0;
        // One cluster's steps are as long as another's; where a rule needs more, its round is passed.
        scenario.clusters = vec![Group::default()];
        let dataset = Datasets::default().of(&scenario)?;
        let begun = Instant::now();
        simulate(&scenario, dataset, kernels, &Stop::never(), &mut |_| Ok(()))?;
        Ok(Self { unit_s: begun.elapsed().as_secs_f64() / work(&scenario) })
    }

    /// How long `points` take on `jobs` workers.
    pub fn of(&self, points: &[Point], jobs: usize) -> Duration {
        let work: f64 = points.iter().map(|point| work(&point.scenario)).sum();
        let seconds = work * self.unit_s / jobs.clamp(1, points.len().max(1)) as f64;
        Duration::from_secs_f64(seconds.min(1e12))
    }
}

/// FLOPs of a scenario, or what stands for them.
fn work(scenario: &Scenario) -> f64 {
    let clusters = scenario.members().count() as f64;
    let (steps, train) = (scenario.steps() as f64, &scenario.train);
    let exchanges = (steps / scenario.outer.inner_steps.max(1) as f64).max(1.0);
    if scenario.scenario.objective == Objective::Toy {
        return (clusters * steps + clusters * exchanges) * scenario.toy.parameters as f64;
    }
    let per_token = scenario.model.dims().map_or(1, |d| d.flops_per_token_strict(train.seq_len));
    let every = scenario.scenario.eval_every as f64;
    let evaluations = 2.0 + if every > 0.0 { (exchanges / every).floor() } else { 0.0 };
    // Forward only is a third.
    let held_out = evaluations * train.eval_sequences as f64 * train.seq_len as f64 / 3.0;
    let tokens = clusters * steps * scenario.tokens_per_step() as f64 + held_out;
    tokens * per_token as f64
}

/// Inner steps that are measured at most.
const STEPS: u64 = 4;
