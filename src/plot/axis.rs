//! From values to places, and where marks stand.

use super::number::si;
use super::number::trimmed;

/// How an axis is divided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    #[default]
    Linear,
    /// By ratios; what is not positive has no place.
    Log,
    /// [`Scale::Log`] where all values are positive.
    Positive,
    /// [`Scale::Log`] where all values are positive and the largest is 50 times the median or more.
    Auto,
}

/// Values between two ends of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Span {
    pub low: f64,
    pub high: f64,
    pub is_log: bool,
}

impl Span {
    /// Around the finite ones of `values`, with a little room.
    pub fn around(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let mut all: Vec<f64> = values.filter(|x| x.is_finite()).collect();
        let is_log = match scale {
            Scale::Linear => false,
            Scale::Log => true,
            Scale::Positive => !all.is_empty() && all.iter().all(|x| *x > 0.0),
            Scale::Auto => is_wide(&mut all),
        };
        if is_log {
            all.retain(|x| *x > 0.0);
        }
        let low = all.iter().copied().fold(f64::INFINITY, f64::min);
        let high = all.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let (low, high) = match () {
            _ if all.is_empty() => (if is_log { 0.1 } else { 0.0 }, 1.0),
            _ if low == high && is_log => (low / 2.0, high * 2.0),
            _ if low == high => (low - 0.5 * low.abs().max(1.0), high + 0.5 * high.abs().max(1.0)),
            // At the edges there is room: 2% of the way.
            _ if is_log => (low / (high / low).powf(0.02), high * (high / low).powf(0.02)),
            _ => (low - 0.02 * (high - low), high + 0.02 * (high - low)),
        };
        Self { low, high, is_log }
    }

    /// Where `x` lies between the ends: 0 at `low`, 1 at `high`. None where it has no place.
    pub fn place(&self, x: f64) -> Option<f64> {
        let place = match self.is_log {
            true if x <= 0.0 => return None,
            true => (x / self.low).ln() / (self.high / self.low).ln(),
            false => (x - self.low) / (self.high - self.low),
        };
        place.is_finite().then_some(place)
    }

    /// About `count` marks, with what stands beside them.
    pub fn marks(&self, count: usize) -> Vec<(f64, String)> {
        let decades = (self.high / self.low).log10();
        let values = match self.is_log && decades >= 1.0 {
            true => self.ratios(decades, count),
            // Ratios spread the lower marks.
            false => even(self.low, self.high, if self.is_log { count + 2 } else { count }),
        };
        let step = values.windows(2).map(|w| w[1] - w[0]).fold(f64::INFINITY, f64::min);
        // On a log axis each mark has its own unit.
        let largest = values.iter().fold(0.0, |max: f64, x| max.max(x.abs()));
        let of = |x: f64| if decades >= 1.0 && self.is_log { x.abs() } else { largest };
        values.into_iter().map(|x| (x, label(x, step, of(x)))).collect()
    }

    /// 1, 2 and 5 of each decade where few, else powers of ten.
    fn ratios(&self, decades: f64, count: usize) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let within = |x: &f64| (self.low * 0.999..=self.high * 1.001).contains(x);
        let digits: &[f64] =
            if 3.0 * decades <= 1.5 * count as f64 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let skip = ((decades / count as f64).ceil() as i32).max(1);
        let powers = (first..=last).filter(|p| p.rem_euclid(skip) == 0);
        powers.flat_map(|p| digits.iter().map(move |d| d * 10f64.powi(p))).filter(within).collect()
    }
}

/// Whether values are better seen by their ratios.
fn is_wide(values: &mut [f64]) -> bool {
    if values.is_empty() || values.iter().any(|x| *x <= 0.0) {
        return false;
    }
    let middle = values.len() / 2;
    let (_, median, above) = values.select_nth_unstable_by(middle, f64::total_cmp);
    let largest = above.iter().copied().fold(*median, f64::max);
    largest >= 50.0 * *median
}

/// Multiples of 1, 2 or 5 times a power of ten.
fn even(low: f64, high: f64, count: usize) -> Vec<f64> {
    let raw = (high - low) / count.max(1) as f64;
    let power = 10f64.powf(raw.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= raw * 0.75);
    let step = step.unwrap_or(10.0 * power);
    if !step.is_finite() || step <= 0.0 {
        return Vec::new();
    }
    let first = (low / step).ceil();
    let of = |i: usize| (first + i as f64) * step;
    (0..4 * count + 4).map(of).take_while(|x| *x <= high).collect()
}

/// What stands beside a mark at `x` where the next is `step` away; numbers from 10,000 in `largest` on are
/// in thousands, millions and so on.
fn label(x: f64, step: f64, largest: f64) -> String {
    let step = if step.is_finite() { step } else { x.abs() };
    if x == 0.0 {
        return "0".to_owned();
    }
    if largest >= 0.9999e4 {
        let unit = [1e15, 1e12, 1e9, 1e6, 1e3].into_iter().find(|u| largest >= 0.9999 * u);
        let unit = unit.unwrap_or(1.0);
        let digits = trimmed(format!("{:.*}", decimals(step.min(x.abs()) / unit), x / unit));
        let prefix = si(unit, "").trim_start_matches(['1', ' ']).to_owned();
        return format!("{digits} {prefix}").trim_end().to_owned();
    }
    match largest < 1e-3 || x.abs() < 1e-3 {
        true => format!("{x:.1e}").replace(".0e", "e"),
        false => trimmed(format!("{x:.*}", decimals(step.min(x.abs())))),
    }
}

/// Digits behind the point that a number of this size needs for two significant ones.
fn decimals(size: f64) -> usize {
    if size > 0.0 { (1.0 - size.log10().floor()).clamp(0.0, 9.0) as usize } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(scale: Scale, values: &[f64]) -> Vec<String> {
        let span = Span::around(scale, values.iter().copied());
        span.marks(5).into_iter().map(|m| m.1).collect()
    }

    #[test]
    fn marks_are_round_and_told_apart() {
        assert_eq!(marks(Scale::Linear, &[0.0, 10.0]), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(marks(Scale::Linear, &[3.1, 3.9]), ["3.2", "3.4", "3.6", "3.8"]);
        assert_eq!(marks(Scale::Linear, &[0.0, 2e6]), ["0", "0.5 M", "1 M", "1.5 M", "2 M"]);
        assert_eq!(
            marks(Scale::Linear, &[0.0, 12_000.0]),
            ["0", "2 k", "4 k", "6 k", "8 k", "10 k", "12 k"]
        );
        assert_eq!(marks(Scale::Positive, &[3.1, 9.0]), ["4", "5", "6", "7", "8", "9"]);
        assert_eq!(marks(Scale::Log, &[1.0, 1e6]), ["1", "100", "10 k", "1 M"]);
        assert_eq!(marks(Scale::Log, &[1.0, 20.0]), ["1", "2", "5", "10", "20"]);
        assert_eq!(
            marks(Scale::Log, &[1e-4, 1e-2]),
            ["1e-4", "2e-4", "5e-4", "0.001", "0.002", "0.005", "0.01"]
        );
        for values in [&[][..], &[5.0], &[0.0], &[f64::NAN], &[-3.0, -3.0], &[1e-300, 1e300]] {
            for scale in [Scale::Linear, Scale::Log, Scale::Auto] {
                let span = Span::around(scale, values.iter().copied());
                assert!(span.low < span.high, "{values:?} {scale:?} {span:?}");
                let all = span.marks(5);
                assert!(all.len() <= 44, "{values:?} {scale:?}: {all:?}");
            }
        }
    }

    #[test]
    fn places_lie_between_the_ends() {
        for (scale, middle) in [(Scale::Linear, 500.5), (Scale::Log, 1000f64.sqrt())] {
            let span = Span::around(scale, [1.0, 1000.0].into_iter());
            let at = |x| span.place(x).expect("a place");
            assert_eq!((at(span.low), at(span.high)), (0.0, 1.0));
            assert!((at(middle) - 0.5).abs() < 1e-12, "{span:?}");
        }
        let log = Span::around(Scale::Log, [1.0, 10.0].into_iter());
        assert_eq!((log.place(0.0), log.place(-1.0), log.place(f64::NAN)), (None, None, None));
    }

    #[test]
    fn wide_values_are_seen_by_their_ratios() {
        let of = |values: &[f64]| Span::around(Scale::Auto, values.iter().copied()).is_log;
        assert!(!of(&[3.0, 4.0, 11.0]));
        assert!(of(&[3.0, 4.0, 5.0, 1e6]));
        assert!(!of(&[0.0, 4.0, 5.0, 1e6]));
    }
}
