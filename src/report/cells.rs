//! Simulations that differ in nothing but their seeds, as one; and what they are measured against.

use std::collections::BTreeMap;

use super::difference;
use super::difference::Flat;
use super::simulation::ATTACK;
use super::simulation::HONEST;
use super::simulation::LIARS;
use super::simulation::PEERS;
use super::simulation::Run;
use super::simulation::SEED;
use crate::plot::Series;

/// Runs of one setting.
#[derive(Debug)]
pub(super) struct Cell<'a> {
    /// Its runs, by seed.
    pub runs: Vec<&'a Run>,
    /// Their settings.
    pub settings: &'a Flat,
}

/// A mean over seeds, the least and the greatest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub mean: f64,
    pub least: f64,
    pub greatest: f64,
}

impl Spread {
    /// Of some values; none of none.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let (mut sum, mut count) = (0.0, 0);
        let (mut least, mut greatest) = (f64::INFINITY, f64::NEG_INFINITY);
        for x in values {
            (sum, count) = (sum + x, count + 1);
            (least, greatest) = (least.min(x), greatest.max(x));
        }
        (count > 0).then(|| Self { mean: sum / f64::from(count), least, greatest })
    }
}

/// The cells of all runs, sorted by the values of the keys, and the keys in which cells differ.
pub(super) fn cells(runs: &[Run]) -> (Vec<Cell<'_>>, Vec<String>) {
    let settings: Vec<&Flat> = runs.iter().map(|run| &run.settings).collect();
    let mut keys = difference::varying(&settings);
    keys.retain(|key| !is_name(key));
    // Together they are the attack's column.
    keys.sort_by_key(|key| (key != ATTACK, key != LIARS, key != PEERS, !is_rule(key), key.clone()));
    let mut places: BTreeMap<Vec<&str>, usize> = BTreeMap::new();
    let mut cells: Vec<Cell<'_>> = Vec::new();
    for run in runs {
        let values = keys.iter().map(|key| difference::value(&run.settings, key)).collect();
        let place = *places.entry(values).or_insert(cells.len());
        match cells.get_mut(place) {
            Some(cell) => cell.runs.push(run),
            None => cells.push(Cell { runs: vec![run], settings: &run.settings }),
        }
    }
    let by = |a: &Cell<'_>, b: &Cell<'_>| {
        let one = |key: &String| {
            let of = |cell: &Cell<'_>| difference::value(cell.settings, key).to_owned();
            difference::order(&of(a), &of(b))
        };
        keys.iter().map(one).find(|o| o.is_ne()).unwrap_or(std::cmp::Ordering::Equal)
    };
    cells.sort_by(by);
    (cells, keys)
}

/// Whether a key only tells one run from another.
fn is_name(key: &str) -> bool {
    [SEED, "scenario.name", "run.dir", "run.seed"].contains(&key)
}

/// Whether a key says by which rule updates become one.
pub(super) fn is_rule(key: &str) -> bool {
    key.starts_with("aggregate.") && !["aggregate.faulty", "aggregate.seed"].contains(&key)
}

/// Whether a key is about attackers, or how many there are.
pub(super) fn is_attack(key: &str) -> bool {
    [ATTACK, LIARS, PEERS, "aggregate.faulty"].contains(&key)
}

impl Cell<'_> {
    /// Loss at the end over the seeds; none where no run has one.
    pub fn final_loss(&self) -> Option<Spread> {
        Spread::of(self.runs.iter().filter_map(|run| run.final_loss()))
    }

    /// Whether no exchange of any run moved the outer weights.
    pub fn never_stepped(&self) -> bool {
        let never = |run: &&Run| {
            let rounds = &run.rounds;
            !rounds.exchanges.is_empty() && rounds.skipped == rounds.exchanges.len()
        };
        self.runs.iter().all(never)
    }

    /// A column over another, as a mean over seeds with a band. Seeds are aligned by exchange.
    pub fn series(&self, name: String, of: impl Fn(&Run) -> Vec<[f64; 2]>) -> Series {
        let all: Vec<Vec<[f64; 2]>> = self.runs.iter().map(|run| of(run)).collect();
        if let [only] = all.as_slice() {
            return Series { name, points: only.clone(), band: Vec::new() };
        }
        let longest = all.iter().map(Vec::len).max().unwrap_or(0);
        let (mut points, mut band) = (Vec::with_capacity(longest), Vec::with_capacity(longest));
        for i in 0..longest {
            let here = || all.iter().filter_map(|points| points.get(i));
            let Some(x) = Spread::of(here().map(|p| p[0])) else { continue };
            let y = Spread::of(here().map(|p| p[1]));
            let y = y.filter(|y| y.mean.is_finite());
            points.push([x.mean, y.map_or(f64::NAN, |y| y.mean)]);
            band.extend(y.map(|y| [x.mean, y.least, y.greatest]));
        }
        // As many corners as a line can show.
        let step = band.len().div_ceil(400).max(1);
        let last = band.len().saturating_sub(1);
        let band = band.into_iter().enumerate();
        let band = band.filter(|(i, _)| i % step == 0 || *i == last).map(|(_, b)| b).collect();
        Series { name, points, band }
    }

    /// The cell with honest clusters only that this one is measured against: equal in all else but
    /// attackers and rule; with as many honest clusters, or else as many clusters, where there is one;
    /// with the mean as its rule, or else this cell's rule.
    pub fn baseline<'b>(&self, cells: &'b [Cell<'b>], keys: &[String]) -> Option<&'b Cell<'b>> {
        let value = |cell: &Cell<'_>, key: &str| difference::value(cell.settings, key).to_owned();
        let others = keys.iter().filter(|key| !is_attack(key) && !is_rule(key));
        let others: Vec<&String> = others.collect();
        let rules: Vec<&String> = keys.iter().filter(|key| is_rule(key)).collect();
        let honest = |cell: &Cell<'_>| cell.runs[0].peers[0] - cell.runs[0].peers[1];
        let worth = |cell: &&Cell<'_>| -> Option<[bool; 3]> {
            let is_mean = difference::value(cell.settings, "aggregate.rule") == "mean";
            let same_rule = rules.iter().all(|key| value(cell, key) == value(self, key));
            let fits = value(cell, ATTACK) == HONEST
                && others.iter().all(|key| value(cell, key) == value(self, key))
                && (is_mean || same_rule)
                && cell.final_loss().is_some_and(|loss| loss.mean.is_finite());
            let same = [honest(cell) == honest(self), cell.runs[0].peers == self.runs[0].peers];
            fits.then_some([
                is_mean,
                same[0],
                same[1] || cell.runs[0].peers[0] == self.runs[0].peers[0],
            ])
        };
        let worthy = cells.iter().filter_map(|cell| Some((worth(&cell)?, cell)));
        // The first of the best.
        worthy.reduce(|a, b| if b.0 > a.0 { b } else { a }).map(|(_, cell)| cell)
    }
}
