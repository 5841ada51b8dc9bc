//! Few points for many: what a line of some hundred dots can show.

use super::axis::Span;

/// Points that fall on one place of a line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Bucket {
    /// Mean of x of the points with a value, or of all where there is none.
    pub x: f64,
    /// Mean, least and greatest value; none where no point has one.
    pub y: Option<[f64; 3]>,
    /// Points whose value is infinite or no number.
    pub bad: usize,
}

/// `points` (ascending in x) as `count` buckets at most, even on `span`. Points without a place on it
/// are left out.
pub(super) fn buckets(points: &[[f64; 2]], span: &Span, count: usize) -> Vec<Bucket> {
    let alone = points.len() <= count;
    let mut out: Vec<(usize, Gathered)> = Vec::with_capacity(points.len().min(count));
    for &[x, y] in points {
        let Some(place) = span.place(x) else { continue };
        let slot = ((place * count as f64) as usize).min(count.saturating_sub(1));
        match out.last_mut() {
            Some((last, gathered)) if *last == slot && !alone => gathered.add(x, y),
            _ => out.push((slot, Gathered::of(x, y))),
        }
    }
    out.into_iter().map(|(_, gathered)| gathered.bucket()).collect()
}

/// Sums of a bucket under way.
struct Gathered {
    all: (f64, usize),
    good: [f64; 2],
    count: usize,
    least: f64,
    greatest: f64,
}

impl Gathered {
    fn of(x: f64, y: f64) -> Self {
        let mut new = Self {
            all: (0.0, 0),
            good: [0.0; 2],
            count: 0,
            least: f64::INFINITY,
            greatest: f64::NEG_INFINITY,
        };
        new.add(x, y);
        new
    }

    fn add(&mut self, x: f64, y: f64) {
        self.all = (self.all.0 + x, self.all.1 + 1);
        if y.is_finite() {
            self.good = [self.good[0] + x, self.good[1] + y];
            self.count += 1;
            self.least = self.least.min(y);
            self.greatest = self.greatest.max(y);
        }
    }

    fn bucket(&self) -> Bucket {
        let (count, all) = (self.count as f64, self.all.1 as f64);
        if self.count == 0 {
            return Bucket { x: self.all.0 / all, y: None, bad: self.all.1 };
        }
        // A sum of huge values can overflow where no value does.
        let mean = (self.good[1] / count).clamp(self.least, self.greatest);
        let y = Some([mean, self.least, self.greatest]);
        Bucket { x: self.good[0] / count, y, bad: self.all.1 - self.count }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Scale;
    use super::*;

    fn span(points: &[[f64; 2]]) -> Span {
        Span::around(Scale::Linear, points.iter().map(|p| p[0]))
    }

    #[test]
    fn few_points_stay_as_they_are() {
        let points = [[0.0, 1.0], [0.0, 2.0], [1.0, f64::NAN], [5.0, f64::INFINITY]];
        let found = buckets(&points, &span(&points), 10);
        assert_eq!(found.len(), 4);
        assert_eq!(found[1], Bucket { x: 0.0, y: Some([2.0; 3]), bad: 0 });
        assert_eq!(found[2], Bucket { x: 1.0, y: None, bad: 1 });
        assert!(buckets(&[], &span(&[]), 10).is_empty());
    }

    #[test]
    fn many_points_keep_their_extremes_and_their_mean() {
        let mut points: Vec<[f64; 2]> =
            (0..100_000).map(|i| [f64::from(i), f64::from(i % 10)]).collect();
        points[50_000][1] = 1e6;
        points[70_000][1] = f64::NAN;
        let found = buckets(&points, &span(&points), 300);
        assert!((290..=300).contains(&found.len()), "{}", found.len());
        let greatest = found.iter().filter_map(|b| b.y).map(|y| y[2]).fold(0.0, f64::max);
        assert_eq!(greatest, 1e6);
        assert_eq!(found.iter().map(|b| b.bad).sum::<usize>(), 1);
        let calm = found[3].y.expect("values");
        assert!((calm[0] - 4.5).abs() < 0.1 && calm[1] == 0.0 && calm[2] == 9.0);
        assert!(found.windows(2).all(|w| w[0].x < w[1].x));
    }
}
