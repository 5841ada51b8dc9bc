//! Learning rate by step: pure functions, in f64 software arithmetic.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::Config;

/// Course of the learning rate after warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Half a cosine from `lr` to `min_lr` (Loshchilov and Hutter 2017, arXiv:1608.03983, eq. 5).
    Cosine,
    /// Stable at `lr`, then linear to `min_lr` (Hu et al. 2024, arXiv:2404.06395, section 4).
    Wsd,
    /// `lr` throughout.
    Constant,
}

impl Config {
    /// The learning rate of step `step` (0 is the first) of `steps`.
    ///
    /// Warm-up is `lr * (step + 1) / warmup_steps`.
    pub fn learning_rate(&self, step: u64, steps: u64) -> f64 {
        if step < self.warmup_steps {
            return self.lr * (step + 1) as f64 / self.warmup_steps as f64;
        }
        match self.schedule {
            Schedule::Constant => self.lr,
            Schedule::Cosine => {
                let span = steps.saturating_sub(self.warmup_steps).max(1);
                let done = (step - self.warmup_steps).min(span) as f64 / span as f64;
                let half = 0.5 * (1.0 + libm::cos(std::f64::consts::PI * done));
                self.min_lr + (self.lr - self.min_lr) * half
            }
            Schedule::Wsd => {
                let decay = if self.decay_steps > 0 { self.decay_steps } else { steps / 5 };
                let start = steps.saturating_sub(decay).max(self.warmup_steps);
                if step < start || decay == 0 {
                    return self.lr;
                }
                let done = (step - start).min(decay) as f64 / decay as f64;
                self.lr + (self.min_lr - self.lr) * done
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(schedule: Schedule) -> Config {
        let (lr, min_lr, warmup_steps, decay_steps) = (1.0, 0.1, 10, 20);
        Config { lr, min_lr, warmup_steps, decay_steps, schedule, ..Config::default() }
    }

    #[test]
    fn warm_up_ends_at_the_peak() {
        for schedule in [Schedule::Cosine, Schedule::Wsd, Schedule::Constant] {
            assert_eq!(config(schedule).learning_rate(0, 100), 0.1);
            assert_eq!(config(schedule).learning_rate(9, 100), 1.0);
            assert_eq!(config(schedule).learning_rate(10, 100), 1.0);
        }
    }

    #[test]
    fn each_course_ends_where_it_should() {
        assert!((config(Schedule::Cosine).learning_rate(55, 100) - 0.55).abs() < 1e-12);
        assert!((config(Schedule::Cosine).learning_rate(100, 100) - 0.1).abs() < 1e-12);
        assert_eq!(config(Schedule::Wsd).learning_rate(79, 100), 1.0);
        assert!((config(Schedule::Wsd).learning_rate(90, 100) - 0.55).abs() < 1e-12);
        assert_eq!(config(Schedule::Constant).learning_rate(1_000, 100), 1.0);
    }

    #[test]
    fn no_schedule_divides_by_zero() {
        for schedule in [Schedule::Cosine, Schedule::Wsd, Schedule::Constant] {
            let config = Config { warmup_steps: 0, decay_steps: 0, ..config(schedule) };
            for step in 0..3 {
                assert!(config.learning_rate(step, 1).is_finite());
            }
        }
    }
}
