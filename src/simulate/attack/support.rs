//! Where the mass lies: on elements that nobody else speaks of, or all in one tensor.
//!
//! Both have the norm of an honest update times the strength (formula: 1), so no clip sees them.
//! Sparse updates are their prey: an element that only liars speak of has no honest vote.

use super::View;
use super::along::Family;
use super::along::Line;
use super::moments;
use crate::codec::CHUNK;

/// In every chunk, the elements that the fewest known updates speak of; of those the smallest in
/// magnitude, then the first. All get the same positive value, in every round, so it adds up.
#[derive(Debug)]
pub(super) struct Unselected {
    /// Which part of a chunk's elements.
    pub density: f64,
}

impl Family for Unselected {
    fn line(&self, view: &View<'_>, known: &[&[f32]], _colluder: usize) -> Line {
        let mut direction = vec![0.0f64; view.layout.elements()];
        let mut chosen = 0u64;
        for section in view.layout.sections() {
            for start in section.range.clone().step_by(CHUNK) {
                let end = section.range.end.min(start + CHUNK);
                let count = ((end - start) as f64 * self.density).ceil() as usize;
                for i in least_spoken_of(known, start, end, count) {
                    direction[i] = 1.0;
                    chosen += 1;
                }
            }
        }
        let size = moments::median_norm(known) / (chosen.max(1) as f64).sqrt();
        direction.iter_mut().for_each(|d| *d *= size);
        Line { base: Vec::new(), direction, formula: 1.0 }
    }
}

/// `count` elements of `start..end`.
fn least_spoken_of(known: &[&[f32]], start: usize, end: usize, count: usize) -> Vec<usize> {
    let key = |i: usize| {
        let voters = known.iter().filter(|u| u[i] != 0.0).count();
        let magnitude = known.iter().fold(0.0, |sum, u| sum + f64::from(u[i].abs()));
        // Magnitudes are not negative, so their bits sort as they do.
        (voters, magnitude.to_bits(), i)
    };
    let mut all: Vec<_> = (start..end).map(key).collect();
    if count < all.len() {
        all.select_nth_unstable(count);
        all.truncate(count);
    }
    all.into_iter().map(|(_, _, i)| i).collect()
}

/// All mass in one tensor, backwards there, nothing elsewhere.
#[derive(Debug)]
pub(super) struct OneTensor {
    /// Its name. None: that in which the mean of the known updates is largest per element.
    pub tensor: Option<String>,
}

impl Family for OneTensor {
    fn line(&self, view: &View<'_>, known: &[&[f32]], _colluder: usize) -> Line {
        let mean = moments::mean(known);
        let square = |section: &crate::codec::Section| {
            let first = section.range.start;
            moments::sum(section.range.len(), |i| mean[first + i] * mean[first + i])
        };
        let sections = view.layout.sections().iter().filter(|s| !s.range.is_empty());
        let sections = sections.map(|s| (s, square(s)));
        let density = |(s, square): &(_, f64)| {
            let s: &&crate::codec::Section = s;
            square / s.range.len() as f64
        };
        let target = match &self.tensor {
            Some(name) => sections.clone().find(|(s, _)| s.name == *name),
            None => sections.clone().reduce(|a, b| if density(&b) > density(&a) { b } else { a }),
        };
        let mut direction = vec![0.0f64; mean.len()];
        if let Some((section, square)) = target
            && square > 0.0
        {
            let factor = -moments::median_norm(known) / square.sqrt();
            for i in section.range.clone() {
                direction[i] = factor * mean[i];
            }
        }
        Line { base: Vec::new(), direction, formula: 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::Kind;
    use super::super::testing::Room;
    use super::*;

    #[test]
    fn nobody_honest_speaks_of_what_the_liars_choose() {
        let mut room = Room::with_tensors(4, 3, &[("a", 5000), ("b", 100), ("c", 1), ("d", 0)]);
        for (i, u) in room.honest.iter_mut().enumerate() {
            u.iter_mut().enumerate().filter(|(k, _)| k % 8 != i).for_each(|(_, x)| *x = 0.0);
        }
        let sent = room.dense(&Config::of(Kind::Unselected));
        assert!(sent[0] == sent[1] && sent[1] == sent[2]);
        let chosen: Vec<usize> = (0..5101).filter(|&i| sent[0][i] != 0.0).collect();
        // A 64th of every chunk, rounded up: 64 and 15 of a, 2 of b, 1 of c.
        assert_eq!(chosen.len(), 64 + 15 + 2 + 1);
        let honest = |i: usize| room.honest.iter().any(|u| u[i] != 0.0);
        assert!(chosen.iter().filter(|&&i| i < 5100).all(|&i| !honest(i)));
        let known: Vec<&[f32]> = room.honest.iter().map(Vec::as_slice).collect();
        assert!((moments::norm(&sent[0]) / moments::median_norm(&known) - 1.0).abs() < 1e-5);
        assert_eq!(room.dense(&Config::of(Kind::Unselected)), sent);
    }

    #[test]
    fn of_dense_updates_the_smallest_elements_are_chosen() {
        let mut room = Room::of(3, 1, 128);
        for u in &mut room.honest {
            u.iter_mut().enumerate().for_each(|(i, x)| *x = if i == 77 { 0.1 } else { -2.0 });
        }
        let sent =
            room.dense(&Config { density: Some(1.0 / 128.0), ..Config::of(Kind::Unselected) });
        assert_eq!(sent[0].iter().filter(|x| **x != 0.0).count(), 1);
        assert!(sent[0][77] > 0.0);
    }

    #[test]
    fn one_tensor_gets_all_the_mass() {
        let mut room = Room::with_tensors(3, 2, &[("wide", 1000), ("norm", 8), ("head", 500)]);
        for u in &mut room.honest {
            u.fill(0.5);
            u[1000..1008].fill(0.75);
        }
        let known: Vec<Vec<f32>> = room.honest.clone();
        let known: Vec<&[f32]> = known.iter().map(Vec::as_slice).collect();
        for (tensor, range) in [(None, 1000..1008), (Some("head".to_owned()), 1008..1508)] {
            let sent = room.dense(&Config { tensor, ..Config::of(Kind::OneTensor) });
            for (i, x) in sent[0].iter().enumerate() {
                assert_eq!(*x < 0.0, range.contains(&i), "{i}");
            }
            assert!((moments::norm(&sent[0]) / moments::median_norm(&known) - 1.0).abs() < 1e-5);
        }
    }
}
