//! Label flip: honest training on false targets.

use super::Attack;
use super::Sent;
use super::View;

/// Turns each target `y` of a vocabulary of `vocab_size` tokens into `V - 1 - y`, as `9 - y` in image
/// classification (Fang et al. 2020, arXiv:1911.11815, section 7.1). Tokens beyond the vocabulary stay.
pub fn flip_targets(vocab_size: u32, targets: &mut [u32]) {
    for y in targets {
        *y = vocab_size.checked_sub(1 + *y).unwrap_or(*y);
    }
}

/// Sends what was trained: the lie lies in the training.
#[derive(Debug)]
pub(super) struct OwnWork;

impl Attack for OwnWork {
    fn round(&mut self, view: &View<'_>) -> Vec<Sent> {
        vec![Sent::Own; view.colluders.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flipping_twice_changes_nothing() {
        let mut targets = vec![0, 1, 5, 9, 12];
        flip_targets(10, &mut targets);
        assert_eq!(targets, [9, 8, 4, 0, 12]);
        flip_targets(10, &mut targets);
        assert_eq!(targets, [0, 1, 5, 9, 12]);
        flip_targets(0, &mut targets);
        assert_eq!(targets, [0, 1, 5, 9, 12]);
    }
}
