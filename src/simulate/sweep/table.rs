//! Results of a sweep, one row a point, over its seeds.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Point;
use crate::simulate::results::Summary;

/// A point of a grid over all its seeds. Medians, and the smallest and largest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// What sets it apart: `key=value` each.
    pub point: Vec<String>,
    /// How many runs.
    pub seeds: usize,
    /// Of those, the ones that ended with a finite loss no worse than their first.
    pub sound: usize,
    /// Loss on held-out data at the end.
    pub eval_loss: Option<[f64; 3]>,
    /// Training loss at the end.
    pub train_loss: Option<[f64; 3]>,
    /// Tokens of all clusters.
    pub tokens: [f64; 3],
    /// Virtual seconds.
    pub time_s: [f64; 3],
    /// Part of the time that clusters computed.
    pub utilization: [f64; 3],
    /// Bytes that all clusters sent.
    pub bytes_up: [f64; 3],
    /// Length of an update.
    pub bits_per_weight: Option<[f64; 3]>,
    /// Updates that were refused.
    pub rejected: [f64; 3],
    /// Exchanges without an outer step.
    pub skipped: [f64; 3],
}

/// The rows of a sweep: points that differ in nothing but their seeds share one.
pub fn rows(points: &[Point], summaries: &[Summary]) -> Vec<Row> {
    let (mut rows, mut seen) = (Vec::new(), BTreeSet::new());
    for point in points {
        if !seen.insert(&point.labels) {
            continue;
        }
        let same = points.iter().zip(summaries).filter(|(p, _)| p.labels == point.labels);
        let all: Vec<&Summary> = same.map(|(_, summary)| summary).collect();
        if !all.is_empty() {
            rows.push(row(&point.labels, &all));
        }
    }
    rows
}

fn row(labels: &[String], all: &[&Summary]) -> Row {
    let of = |value: &dyn Fn(&Summary) -> f64| spread(all.iter().map(|s| Some(value(s))));
    let known = |value: &dyn Fn(&Summary) -> f64| of(value).unwrap_or([f64::NAN; 3]);
    Row {
        point: labels.to_vec(),
        seeds: all.len(),
        sound: all.iter().filter(|summary| summary.is_sound()).count(),
        eval_loss: spread(all.iter().map(|s| s.eval_loss)),
        train_loss: spread(all.iter().map(|s| s.train_loss)),
        tokens: known(&|s| s.tally.tokens as f64),
        time_s: known(&|s| s.tally.time_s),
        utilization: known(&|s| s.utilization),
        bytes_up: known(&|s| s.tally.bytes_up as f64),
        bits_per_weight: spread(all.iter().map(|s| s.tally.bits_per_weight)),
        rejected: known(&|s| s.tally.rejected as f64),
        skipped: known(&|s| s.tally.skipped as f64),
    }
}

/// Median (of two, their mean), smallest and largest; none where a value is missing.
fn spread(values: impl Iterator<Item = Option<f64>>) -> Option<[f64; 3]> {
    let mut all: Vec<f64> = values.collect::<Option<_>>()?;
    all.sort_by(f64::total_cmp);
    let middle = [all.get((all.len().checked_sub(1)?) / 2)?, all.get(all.len() / 2)?];
    Some([(middle[0] + middle[1]) / 2.0, *all.first()?, *all.last()?])
}

/// The rows as text.
pub fn table(rows: &[Row]) -> String {
    let head = [
        "point",
        "sound",
        "eval loss",
        "(min",
        "max)",
        "train",
        "tokens",
        "virtual s",
        "util",
        "sent MB",
        "bit/w",
        "rejected",
        "skipped",
    ];
    let mut lines: Vec<Vec<String>> = vec![head.iter().map(ToString::to_string).collect()];
    for row in rows {
        let loss = |values: Option<[f64; 3]>, i: usize| match values {
            Some(values) => format!("{:.4}", values[i]),
            None => "-".to_owned(),
        };
        let point = if row.point.is_empty() { "-".to_owned() } else { row.point.join(" ") };
        let bits = row.bits_per_weight.map_or("-".to_owned(), |bits| format!("{:.3}", bits[0]));
        lines.push(vec![
            point,
            format!("{}/{}", row.sound, row.seeds),
            loss(row.eval_loss, 0),
            loss(row.eval_loss, 1),
            loss(row.eval_loss, 2),
            loss(row.train_loss, 0),
            format!("{:.3e}", row.tokens[0]),
            format!("{:.1}", row.time_s[0]),
            format!("{:.1}%", 100.0 * row.utilization[0]),
            format!("{:.2}", row.bytes_up[0] / 1e6),
            bits,
            format!("{}", row.rejected[0]),
            format!("{}", row.skipped[0]),
        ]);
    }
    aligned(&lines)
}

/// Columns of equal width, the first to the left.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |c: usize| lines.iter().map(|line| line[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (c, (cell, width)) in line.iter().zip(&widths).enumerate() {
            match c {
                0 => text.push_str(&format!("{cell:width$}")),
                _ => text.push_str(&format!("  {cell:>width$}")),
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ends() {
        let of = |values: &[f64]| spread(values.iter().map(|v| Some(*v)));
        assert_eq!(of(&[3.0, 1.0, 2.0]), Some([2.0, 1.0, 3.0]));
        assert_eq!(of(&[4.0, 1.0]), Some([2.5, 1.0, 4.0]));
        assert_eq!(of(&[]), None);
        assert_eq!(spread([Some(1.0), None].into_iter()), None);
    }

    #[test]
    fn columns_are_aligned() {
        let cells = |line: &[&str]| line.iter().map(ToString::to_string).collect::<Vec<_>>();
        let text = aligned(&[cells(&["point", "loss"]), cells(&["a=1", "3.25"])]);
        assert_eq!(text, "point  loss\na=1    3.25\n");
    }
}
