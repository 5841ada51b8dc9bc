//! A little is enough (Baruch, Baruch and Goldberg 2019, arXiv:1902.06156, section 3 and algorithm 3):
//! so many deviations beside the mean, in every element, that enough honest updates lie further out.
//!
//! ```text
//! x = mean(known) - strength * std(known)
//! ```
//!
//! Formula: of n peers f lie; s = floor(n / 2 + 1) - f honest ones must be won over, and
//! z = Phi^-1((n - f - s) / (n - f)). That is 0 or less where f is small (n = 8 with f up to 2), so
//! there the tuned strength is the attack. Omniscient unless `knowledge = "colluders"`, which is what
//! the authors' own code does. Deviations are divided by the number of updates, as there.

use super::View;
use super::along::Family;
use super::along::Line;
use super::moments;

#[derive(Debug)]
pub(super) struct Alie;

impl Family for Alie {
    fn line(&self, view: &View<'_>, known: &[&[f32]], _colluder: usize) -> Line {
        let base = moments::mean(known);
        let mut direction = moments::deviation(known, &base);
        direction.iter_mut().for_each(|d| *d = -*d);
        let f = view.colluders.len();
        Line { base, direction, formula: formula(view.honest.len() + f, f) }
    }
}

/// z for `n` peers of which `f` lie.
fn formula(n: usize, f: usize) -> f64 {
    let honest = n - f;
    // A majority of liars needs nobody; one it shall be, so that z is finite.
    let supporters = (n / 2 + 1).saturating_sub(f).clamp(1, honest.max(1));
    quantile((honest.saturating_sub(supporters)) as f64 / honest.max(1) as f64)
}

/// Phi^-1(p), by bisection to the last bit; within -40 and 40.
fn quantile(p: f64) -> f64 {
    let below = |z: f64| 0.5 * libm::erfc(-z / std::f64::consts::SQRT_2);
    let (mut low, mut high) = (-40.0, 40.0);
    loop {
        let middle = 0.5 * (low + high);
        if middle <= low || middle >= high {
            return middle;
        }
        if below(middle) < p { low = middle } else { high = middle }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::super::Kind;
    use super::super::Strength;
    use super::super::testing::Room;
    use super::*;

    #[test]
    fn z_is_that_of_published_tables() {
        // The first two rows of the paper's kind of table, by an independent program's quantiles.
        for (n, f, z) in [(25, 5, 0.2533), (16, 3, 0.0966), (64, 12, 0.2434), (10, 4, 0.4307)] {
            assert!((formula(n, f) - z).abs() < 5e-5, "n {n} f {f}: {}", formula(n, f));
        }
        assert!(formula(8, 2).abs() < 1e-12);
        for (n, f) in [(1, 1), (2, 1), (4, 3), (5, 5), (1, 0)] {
            assert!(formula(n, f).is_finite(), "n {n} f {f}");
        }
    }

    #[test]
    fn quantiles_are_those_of_tables() {
        // Abramowitz and Stegun, table 26.5.
        for (p, z) in
            [(0.5, 0.0), (0.975, 1.959_963_985), (0.9, 1.281_551_566), (0.001, -3.090_232_306)]
        {
            assert!((quantile(p) - z).abs() < 1e-9, "{p}: {}", quantile(p));
        }
    }

    #[test]
    fn every_element_is_beside_its_mean() {
        let room = Room::of(6, 2, 4100);
        let config = Config { strength: Some(Strength::Given(1.5)), ..Config::of(Kind::Alie) };
        let sent = room.dense(&config);
        assert_eq!(sent[0], sent[1]);
        for (i, x) in sent[0].iter().enumerate() {
            let column = room.honest.iter().map(|u| f64::from(u[i]));
            let mean = column.clone().sum::<f64>() / 6.0;
            let variance = column.map(|u| (u - mean).powi(2)).sum::<f64>() / 6.0;
            let expected = mean - 1.5 * variance.sqrt();
            assert!((f64::from(*x) - expected).abs() <= 1e-6 * (1.0 + expected.abs()), "{i}");
        }
    }
}
