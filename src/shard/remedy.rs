//! What would help a job that does not fit: every change is tried, none is guessed.

use std::fmt;

use super::config::Zero;
use super::memory::Job;
use super::placement::{Placement, PlacementInput};
use super::table::readable;
use crate::model::Passes;

/// A job that does not fit its ranks.
#[derive(Clone, Debug, PartialEq)]
pub struct DoesNotFit {
    /// The division that would be fastest, with what each stage needs and has.
    pub table: Placement,
    /// Changes that make it fit, each enough by itself; those of the fewest settings.
    pub remedies: Vec<String>,
    /// The least memory per rank, in bytes, with which it fits as it is, if every rank has that.
    pub needed_bytes: u64,
}

impl std::error::Error for DoesNotFit {}

impl fmt::Display for DoesNotFit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the training does not fit the memory of its ranks")?;
        write!(f, "{}", self.table)?;
        for (nth, remedy) in self.remedies.iter().enumerate() {
            writeln!(f, "{} {remedy}", if nth == 0 { "it would fit with" } else { "or with" })?;
        }
        if self.remedies.is_empty() {
            writeln!(f, "no stages, zero, recompute or micro-batch make it fit these ranks")?;
        }
        write!(f, "as it is, every rank needs {}", readable(self.needed_bytes))
    }
}

/// What is wrong with `input`, which does not fit, and what would help.
pub(super) fn explain(input: &PlacementInput) -> DoesNotFit {
    let table = input.unbounded().unwrap_or(Placement {
        stages: Vec::new(),
        data_ranks: input.data_ranks(),
        memory: Vec::new(),
        available_bytes: Vec::new(),
    });
    let mut remedies = fewest(input, 1);
    // Where the ranks cannot do it, more of them of the smallest memory may.
    let mut more = 2;
    while remedies.is_empty() && more * input.memory_bytes.len() <= MOST_RANKS {
        remedies = fewest(input, more);
        more *= 2;
    }
    DoesNotFit { table, remedies, needed_bytes: needed(input) }
}

/// The changes of the fewest settings that make `input` fit on `times` as many ranks.
fn fewest(input: &PlacementInput, times: usize) -> Vec<String> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for candidate in candidates(input, times) {
        let changes = changes(input, &candidate);
        let fewest = found.first().map_or(usize::MAX, |(count, _)| *count);
        if changes.len() <= fewest && candidate.fitting().is_some() {
            found.retain(|(count, _)| *count <= changes.len());
            found.push((changes.len(), changes.join(", ")));
        }
    }
    found.into_iter().map(|(_, text)| text).take(MOST_REMEDIES).collect()
}

/// Every combination of stages, zero, recompute and micro-batch; the mildest of each first.
fn candidates(input: &PlacementInput, times: usize) -> Vec<PlacementInput> {
    let mut memory_bytes = input.memory_bytes.clone();
    let least = memory_bytes.iter().copied().min().unwrap_or(0);
    memory_bytes.resize(memory_bytes.len() * times, least);
    let job = &input.job;
    let micro = job.micro_batch_sequences;
    let micros = std::iter::successors(Some(micro), |&m| {
        (1..m).rev().find(|smaller| micro.is_multiple_of(*smaller))
    });
    let micros: Vec<usize> = micros.collect();
    let recompute = [job.passes, Passes::Recomputed];
    let recompute = if job.passes == Passes::Stored { &recompute[..] } else { &recompute[..1] };
    let mut all = Vec::new();
    for stages in (1..=memory_bytes.len()).filter(|n| memory_bytes.len().is_multiple_of(*n)) {
        for &zero in Zero::ALL.iter().filter(|&&zero| zero >= job.zero) {
            for &passes in recompute {
                // The largest micro-batch that fits is the fastest; smaller ones fit as well.
                let of = |&micro_batch_sequences: &usize| {
                    let job = Job { zero, passes, micro_batch_sequences, ..job.clone() };
                    PlacementInput::new(job, stages, memory_bytes.clone()).ok()
                };
                let inputs: Vec<_> = micros.iter().filter_map(of).collect();
                let fitting = inputs.iter().position(|input| input.fitting().is_some());
                all.extend(fitting.and_then(|nth| inputs.into_iter().nth(nth)));
            }
        }
    }
    all
}

/// In words, what differs in `to`.
fn changes(from: &PlacementInput, to: &PlacementInput) -> Vec<String> {
    let mut all = Vec::new();
    if to.memory_bytes.len() != from.memory_bytes.len() {
        all.push(format!("{} ranks", to.memory_bytes.len()));
    }
    if to.stages != from.stages {
        all.push(format!("parallel.stages = {}", to.stages));
    }
    if to.job.zero != from.job.zero {
        all.push(format!("parallel.zero = {}", u8::from(to.job.zero)));
    }
    if to.job.passes != from.job.passes {
        all.push("model.recompute = true".to_owned());
    }
    let micro = to.job.micro_batch_sequences;
    if micro != from.job.micro_batch_sequences {
        all.push(format!("train.micro_batch_sequences = {micro}"));
    }
    all
}

/// The least memory per rank with which `input` fits.
fn needed(input: &PlacementInput) -> u64 {
    let fits = |bytes: u64| {
        let memory_bytes = vec![bytes; input.memory_bytes.len()];
        PlacementInput { memory_bytes, ..input.clone() }.fitting().is_some()
    };
    let (mut too_little, mut enough) = (0, u64::MAX);
    // To the MiB.
    while enough - too_little > 1 << 20 {
        let half = u64::midpoint(too_little, enough);
        if fits(half) { enough = half } else { too_little = half }
    }
    enough
}

/// More ranks than these are not proposed.
const MOST_RANKS: usize = 4096;
/// Enough to choose from.
const MOST_REMEDIES: usize = 4;
