//! When fragments are sent and applied, in inner steps (arXiv:2501.18512, algorithm 2).

use super::Settings;

/// The rhythm of a training: a pure function of the inner step.
///
/// Fragment p of P finishes its round r (from 0) after `r·H + floor((p + 1)·H / P)` inner steps: the
/// last fragment, and so the only one of a plain DiLoCo, after whole rounds. It is applied
/// `overlap_steps` (tau) inner steps later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rhythm {
    inner_steps: u64,
    fragments: u64,
    overlap_steps: u64,
}

impl Rhythm {
    /// That of `settings`.
    pub fn new(settings: &Settings) -> Self {
        let Settings { inner_steps, fragments, overlap_steps, .. } = *settings;
        Self { inner_steps, fragments: fragments as u64, overlap_steps }
    }

    /// Inner steps after which the update of round `round` of a fragment is due.
    pub fn due(&self, round: u64, fragment: usize) -> u64 {
        // H is below 2^33, and so is P.
        let offset = (fragment as u64 + 1) * self.inner_steps / self.fragments;
        round.saturating_mul(self.inner_steps).saturating_add(offset)
    }

    /// Inner steps after which the outer step of round `round` of a fragment is due.
    pub fn applied(&self, round: u64, fragment: usize) -> u64 {
        self.due(round, fragment).saturating_add(self.overlap_steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_spread_over_the_round() {
        let rhythm = Rhythm { inner_steps: 10, fragments: 3, overlap_steps: 2 };
        let due = |round| [0, 1, 2].map(|p| rhythm.due(round, p));
        assert_eq!(due(0), [3, 6, 10]);
        assert_eq!(due(4), [43, 46, 50]);
        assert_eq!(rhythm.applied(4, 2), 52);
        assert_eq!(Rhythm { fragments: 1, ..rhythm }.due(0, 0), 10);
        assert_eq!(Rhythm { fragments: 10, ..rhythm }.due(0, 0), 1);
        assert_eq!(rhythm.due(u64::MAX, 0), u64::MAX);
    }
}
