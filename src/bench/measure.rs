//! A case timed with cold caches, against a ceiling measured just before.

use std::collections::BTreeMap;
use std::time::Duration;
use std::time::Instant;

use super::Bound;
use super::Case;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::elementwise;
use crate::tensor::DType;
use crate::tensor::Tensor;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Calls before the first that counts go on for so long; there are at least two.
    pub warm_up: Duration,
    /// Timed calls of one case go on for so long, within `rounds`.
    pub time: Duration,
    /// Timed calls, at least and at most.
    pub rounds: (usize, usize),
    /// Measurements of a ceiling before each case, of which the median counts; 0: one in all.
    pub ceilings: usize,
    /// The buffer that clears the caches has at most so many bytes.
    pub flush_at_most: usize,
}

impl Effort {
    /// For numbers that mean something.
    pub const FULL: Self = Self {
        warm_up: Duration::from_millis(50),
        time: Duration::from_millis(500),
        rounds: (5, 200),
        ceilings: 3,
        flush_at_most: 2 << 30,
    };
    /// For trying whether everything runs.
    pub const QUICK: Self = Self {
        warm_up: Duration::ZERO,
        time: Duration::ZERO,
        rounds: (2, 2),
        ceilings: 0,
        flush_at_most: 1 << 20,
    };
}

/// What the device can do at most, as measured so far.
#[derive(Debug)]
pub struct Ceilings {
    /// Together at least twice the largest cache: copied to measure, and to clear the caches.
    room: [Tensor; 2],
    /// Per second, of each measurement.
    measured: BTreeMap<Roof, Vec<f64>>,
    /// See [`Effort::ceilings`].
    times: usize,
}

/// A ceiling, to be sorted and drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Roof {
    /// Bytes copied.
    Copy,
    /// FLOPs with the instruction of the profile called so.
    Products(&'static str),
}

/// What was measured of one case.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Durations of the timed calls, ascending, in seconds; at least one.
    pub seconds: Vec<f64>,
    /// The ceiling just before: bytes per second, or FLOP/s.
    pub ceiling: f64,
}

impl Measured {
    /// The duration that `share` of the calls did not exceed (nearest rank), in seconds.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.seconds.len() as f64).ceil() as usize;
        self.seconds.get(rank.max(1) - 1).copied().unwrap_or(f64::NAN)
    }
}

impl Ceilings {
    /// Room in the memory of `kernels`.
    pub fn new(kernels: &dyn Kernels, effort: &Effort) -> Result<Self, OpError> {
        let bytes = (2 * kernels.cache_bytes()).min(effort.flush_at_most);
        let room = || kernels.zeros(DType::F32, &[bytes.div_ceil(size_of::<f32>()).max(1)]);
        Ok(Self { room: [room()?, room()?], measured: BTreeMap::new(), times: effort.ceilings })
    }

    /// The ceiling of `bound` now.
    pub fn rate(&mut self, kernels: &dyn Kernels, bound: Bound) -> Result<f64, OpError> {
        let roof = match bound {
            Bound::Copy => Roof::Copy,
            Bound::Products(precision) => Roof::Products(precision.name()),
        };
        let known = self.measured.entry(roof).or_default();
        if let (0, Some(&rate)) = (self.times, known.last()) {
            return Ok(rate);
        }
        let [out, inp] = &mut self.room;
        let mut once = || match bound {
            Bound::Copy => kernels.copy_rate(out.view_mut(), inp.view()),
            Bound::Products(precision) => kernels.product_rate(precision),
        };
        let rates = (0..self.times.max(1)).map(|_| once()).collect::<Result<Vec<_>, _>>()?;
        let rate = median(rates);
        known.push(rate);
        Ok(rate)
    }

    /// The median of each ceiling measured so far, bytes or FLOPs per second.
    pub fn medians(&self) -> Vec<(Roof, f64)> {
        let measured = self.measured.iter().filter(|(_, rates)| !rates.is_empty());
        measured.map(|(roof, rates)| (*roof, median(rates.clone()))).collect()
    }

    /// Fills the caches with other things. An addition, since a copy might write past them.
    fn flush(&mut self, kernels: &dyn Kernels) -> Result<(), OpError> {
        let [out, inp] = &mut self.room;
        elementwise::add(kernels, out.view_mut(), inp.view())
    }
}

/// Times `case`: warm-up, then single calls, each with cold caches.
pub fn measure(
    kernels: &dyn Kernels,
    case: &Case,
    ceilings: &mut Ceilings,
    effort: &Effort,
) -> Result<Measured, OpError> {
    let mut prepared = case.prepare(kernels)?;
    let start = Instant::now();
    let mut calls = 0;
    while calls < 2 || start.elapsed() < effort.warm_up {
        prepared.run(kernels)?;
        kernels.synchronize()?;
        calls += 1;
    }
    let ceiling = ceilings.rate(kernels, case.bound)?;
    let (start, (least, most)) = (Instant::now(), effort.rounds);
    let mut seconds = Vec::new();
    while seconds.len() < least || (seconds.len() < most && start.elapsed() < effort.time) {
        ceilings.flush(kernels)?;
        seconds.push(kernels.time(&mut || prepared.run(kernels))?.as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(Measured { seconds, ceiling })
}

/// The middle one of at least one number.
fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}
