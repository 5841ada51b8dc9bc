//! The synchronous control: all clusters as one data-parallel job.
//!
//! Every inner step takes the batches that the clusters of the scenario would take in it, in the
//! same order, and waits for the slowest cluster and for a ring all-reduce of f32 gradients over the
//! slowest link: 2 (n - 1) passings of a part of 1/n each.

use std::time::Instant;

use super::Error;
use super::network::Dice;
use super::network::Nanos;
use super::network::from_s;
use super::network::to_s;
use super::objective::NeuroLlm;
use super::results::Record;
use super::scenario::Scenario;
use super::world;
use super::world::Ending;
use super::world::Outcome;
use super::world::Spent;
use crate::train::Stop;
use crate::train::Trainer;

/// Trains `job`, the whole of `scenario`'s clusters; `each` is told after every `inner_steps`.
pub fn control(
    scenario: &Scenario,
    job: &NeuroLlm,
    stop: &Stop,
    each: &mut dyn FnMut(&Record) -> Result<(), Error>,
) -> Result<Outcome, Error> {
    let begun = Instant::now();
    let mut run = Running { scenario, job, trainer: job.trainer()?, spent: Spent::default() };
    let first_loss = run.evaluate()?;
    let (steps, every) = (scenario.steps(), scenario.outer.inner_steps.max(1));
    let net = world::net(scenario);
    let exchange = all_reduce(&net, 4 * job.plan().dims.parameters());
    let (mut now, mut computed, mut ending) = (0, 0, Ending::Finished);
    let (mut bytes, mut losses) = (0, Vec::new());
    for step in 0..steps {
        if stop.asked() {
            return Err(Error::Stopped);
        }
        let dice = Dice { seed: scenario.scenario.seed, exchange: step };
        let slowest = world::slowest_step(scenario, dice);
        computed += slowest;
        now += slowest + exchange.time;
        bytes += exchange.bytes;
        match run.step(step) {
            Ok(loss) => losses.push(loss),
            Err(error) if error.is_divergence() => {
                ending = Ending::Diverged { exchange: step / every, why: error.to_string() };
            }
            Err(error) => return Err(error),
        }
        let is_over = ending != Ending::Finished || step + 1 == steps;
        if (step + 1).is_multiple_of(every) || is_over {
            let mut record = run.record(step, &losses, to_s(now), bytes);
            let number = step / every + 1;
            let often = scenario.scenario.eval_every;
            if is_over || often > 0 && number.is_multiple_of(often) {
                record.eval_loss = run.evaluate()?;
            }
            record.utilization = computed as f64 / now.max(1) as f64;
            each(&record)?;
            (bytes, losses) = (0, Vec::new());
        }
        if ending != Ending::Finished {
            break;
        }
    }
    run.spent.all = begun.elapsed();
    let utilization = computed as f64 / now.max(1) as f64;
    let outer_hash = run.trainer.state_hash()?;
    Ok(Outcome { ending, first_loss, utilization, outer_hash, spent: run.spent })
}

struct Running<'a> {
    scenario: &'a Scenario,
    job: &'a NeuroLlm,
    trainer: Trainer,
    spent: Spent,
}

impl Running<'_> {
    fn step(&mut self, step: u64) -> Result<f64, Error> {
        let begun = Instant::now();
        let batch = self.job.loader().batch(step)?;
        let outcome = self.trainer.step(&batch, 0);
        self.spent.inner += begun.elapsed();
        Ok(outcome?.loss)
    }

    fn evaluate(&mut self) -> Result<Option<f64>, Error> {
        let begun = Instant::now();
        let loss = self.job.loss(&mut self.trainer);
        self.spent.evaluations += begun.elapsed();
        loss
    }

    fn record(&self, step: u64, losses: &[f64], time_s: f64, bytes: u64) -> Record {
        let clusters = self.scenario.members().count();
        let mean = losses.iter().sum::<f64>() / losses.len().max(1) as f64;
        let exchange = step / self.scenario.outer.inner_steps.max(1);
        Record {
            exchange,
            round: exchange,
            step: step + 1,
            time_s,
            tokens: (step + 1) * self.scenario.tokens_per_step() * clusters as u64,
            bytes_up: bytes,
            bytes_down: bytes,
            train_loss: (!losses.is_empty()).then_some(mean),
            members: clusters,
            counted: clusters,
            ..Record::default()
        }
    }
}

/// What an all-reduce costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Exchange {
    time: Nanos,
    /// Sent by all together.
    bytes: u64,
}

fn all_reduce(net: &super::network::Net, bytes: u64) -> Exchange {
    let n = net.links.len() as u64;
    if n < 2 {
        return Exchange { time: 0, bytes: 0 };
    }
    let part = net.scaled(bytes).div_ceil(n);
    let slowest = net.links.iter().map(|link| link.up.min(link.down)).min().unwrap_or(1).max(1);
    let lost = net.links.iter().map(|link| link.loss).fold(0.0, f64::max);
    let delay = net.links.iter().map(|link| link.delay).max().unwrap_or(0);
    // A packet passes two connections, and is sent until it is through.
    let again = 1.0 / ((1.0 - lost) * (1.0 - lost));
    let passing = from_s(part as f64 * 8.0 * again / slowest as f64) + 2 * delay;
    let passings = 2 * (n - 1);
    let sent = (part * n) as f64 * again;
    Exchange { time: passings * passing, bytes: passings * sent as u64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::scenario::Group;

    #[test]
    fn a_ring_passes_every_part_twice_around() {
        let mut scenario = Scenario {
            clusters: vec![Group { count: 4, up_mbit: Some(100.0), ..Group::default() }],
            ..Scenario::default()
        };
        // 4 MB: a part is 1 MB, 80 ms at 100 Mbit/s, and 20 ms of way.
        let cost = all_reduce(&world::net(&scenario), 4_000_000);
        assert_eq!(cost, Exchange { time: 6 * 100_000_000, bytes: 6 * 4_000_000 });
        scenario.clusters[0].count = 1;
        assert_eq!(all_reduce(&world::net(&scenario), 4_000_000), Exchange { time: 0, bytes: 0 });
    }
}
