//! How long things take: the patience that ranks have with each other, and the wall clock.
//!
//! Nobody can know beforehand how long a step takes, so deadlines come from the steps that were
//! measured. A rank that stays silent for much longer than any step so far hangs, and is named.

use std::time::Duration;
use std::time::Instant;

/// The longest durations seen so far, and when the run must end.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    longest_step: Duration,
    longest_save: Duration,
    deadline: Option<Instant>,
}

impl Pace {
    /// Nothing measured yet; the run must have ended by `deadline`.
    pub fn new(deadline: Option<Instant>) -> Self {
        Self { longest_step: Duration::ZERO, longest_save: Duration::ZERO, deadline }
    }

    /// A step took so long.
    pub fn step(&mut self, took: Duration) {
        self.longest_step = self.longest_step.max(took);
    }

    /// A checkpoint was on the disk after so long.
    pub fn save(&mut self, took: Duration) {
        self.longest_save = self.longest_save.max(took);
    }

    /// How long another rank may be silent during a step or an evaluation.
    pub fn patience(&self) -> Duration {
        match self.longest_step {
            Duration::ZERO => FIRST_PATIENCE,
            longest => (longest * PATIENCE_FACTOR).max(LEAST_PATIENCE),
        }
    }

    /// How long another rank may be silent while files are read or written, whose speed is not
    /// ours to know.
    pub fn patience_with_disks(&self) -> Duration {
        self.patience().max(DISK_PATIENCE)
    }

    /// Whether another step, and a checkpoint after it, might end past the deadline.
    pub fn is_time_up(&self) -> bool {
        let margin = self.longest_step * 2 + self.longest_save * 2 + LEAST_MARGIN;
        self.deadline.is_some_and(|deadline| Instant::now() + margin >= deadline)
    }
}

/// Before the first step is measured: memory is first touched there.
const FIRST_PATIENCE: Duration = Duration::from_secs(300);
/// Ranks on a crowded machine are paused for seconds.
const LEAST_PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_FACTOR: u32 = 10;
/// Longer than any disk takes for what one rank writes.
const DISK_PATIENCE: Duration = Duration::from_secs(1800);
/// What ending takes besides the last step and the checkpoint.
const LEAST_MARGIN: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_follows_the_longest_step() {
        let mut pace = Pace::new(None);
        assert_eq!(pace.patience(), FIRST_PATIENCE);
        pace.step(Duration::from_millis(5));
        assert_eq!(pace.patience(), LEAST_PATIENCE);
        pace.step(Duration::from_secs(7));
        pace.step(Duration::from_secs(3));
        assert_eq!(pace.patience(), Duration::from_secs(70));
        assert!(pace.patience_with_disks() >= DISK_PATIENCE);
        assert!(!pace.is_time_up());
    }

    #[test]
    fn time_is_up_while_a_checkpoint_still_fits() {
        let in_seconds = |s| Some(Instant::now() + Duration::from_secs(s));
        assert!(!Pace::new(in_seconds(60)).is_time_up());
        assert!(Pace::new(in_seconds(1)).is_time_up());
        let mut slow = Pace::new(in_seconds(60));
        slow.step(Duration::from_secs(20));
        assert!(!slow.is_time_up());
        slow.save(Duration::from_secs(10));
        assert!(slow.is_time_up());
    }
}
