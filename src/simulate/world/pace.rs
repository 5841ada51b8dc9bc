//! How long computing takes, and what interrupts it.

use crate::simulate::network::Dice;
use crate::simulate::network::Nanos;
use crate::simulate::network::Use;
use crate::simulate::network::from_s;
use crate::simulate::scenario::Group;
use crate::simulate::scenario::Scenario;

/// Nanoseconds of an inner step of `tokens` tokens, in one exchange.
pub fn step_time(group: &Group, tokens: u64, cluster: usize, dice: Dice) -> Nanos {
    let cluster = cluster as u64;
    let mut factor = 1.0;
    if group.jitter > 0.0 {
        let normal = f64::from(dice.at(Use::Jitter, cluster).normal_f32());
        factor = libm::exp(group.jitter * normal);
    }
    if group.faults.slow_rate > 0.0 {
        let draw = dice.at(Use::Slow, cluster).uniform_f64();
        factor *= if draw < group.faults.slow_rate { group.faults.slowness() } else { 1.0 };
    }
    from_s(tokens as f64 / group.tokens_per_s * factor).max(1)
}

/// Nanoseconds of the slowest cluster's inner step.
pub fn slowest_step(scenario: &Scenario, dice: Dice) -> Nanos {
    let tokens = scenario.tokens_per_step();
    let each = scenario.members().map(|m| step_time(m.like, tokens, m.cluster, dice));
    each.max().unwrap_or(1)
}

/// After how long computing the cluster crashes, if it is asked to compute that long.
pub fn crash_after(group: &Group, cluster: usize, dice: Dice) -> Option<Nanos> {
    let rate = group.faults.crashes_per_hour / 3600.0;
    let draw = (rate > 0.0).then(|| dice.at(Use::Crash, cluster as u64).uniform_f64())?;
    // Exponential: the uniform number lies in [0, 1), so the logarithm is finite.
    Some(from_s(-libm::log(1.0 - draw) / rate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::scenario::Faults;

    fn all(group: &Group) -> Vec<Nanos> {
        let dice = |exchange| Dice { seed: 3, exchange };
        (0..4000).map(|e| step_time(group, 1000, 7, dice(e))).collect()
    }

    #[test]
    fn steps_take_what_their_tokens_take() {
        let group = Group { tokens_per_s: 4000.0, ..Group::default() };
        assert!(all(&group).iter().all(|t| *t == 250_000_000));
        let group = Group { jitter: 0.1, ..group };
        let logs: Vec<f64> = all(&group).iter().map(|t| libm::log(*t as f64 / 2.5e8)).collect();
        let n = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / n;
        let deviation = (logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / n).sqrt();
        assert!(mean.abs() < 0.01 && (deviation - 0.1).abs() < 0.01, "{mean} {deviation}");
    }

    #[test]
    fn some_rounds_are_slow_and_crashes_come_at_their_rate() {
        let slow = Faults { slow_rate: 0.25, slow_factor: Some(4.0), ..Faults::default() };
        let group = Group { tokens_per_s: 1000.0, faults: slow, ..Group::default() };
        let slow = all(&group).iter().filter(|t| **t == 4_000_000_000).count();
        assert!((850..1150).contains(&slow), "{slow}");
        let faults = Faults { crashes_per_hour: 36.0, ..Faults::default() };
        let group = Group { faults, ..Group::default() };
        let after = |exchange| crash_after(&group, 1, Dice { seed: 3, exchange }).unwrap();
        let mean = (0..4000).map(|e| after(e) as f64 / 1e9).sum::<f64>() / 4000.0;
        assert!((mean - 100.0).abs() < 8.0, "{mean}");
        assert_eq!(crash_after(&Group::default(), 1, Dice { seed: 3, exchange: 0 }), None);
    }
}
