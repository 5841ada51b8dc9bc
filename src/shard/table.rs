//! A placement as a table: a column per stage, a line per class of memory.

use std::fmt;

use super::memory::RankMemory;
use super::placement::Placement;

impl Placement {
    /// What each stage's ranks lack, in bytes; 0 where they have enough.
    pub fn shortfall_bytes(&self) -> Vec<u64> {
        let pairs = self.memory.iter().zip(&self.available_bytes);
        pairs.map(|(memory, &available)| memory.total().saturating_sub(available)).collect()
    }

    fn header(&self, stage: usize) -> [String; 2] {
        let first_rank = stage * self.data_ranks;
        let layers = &self.stages[stage];
        [
            span(first_rank, first_rank + self.data_ranks - 1),
            span(layers.start, layers.end.saturating_sub(1)),
        ]
    }
}

/// `3`, or `3-5`.
fn span(first: usize, last: usize) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

/// Bytes as a number of MiB, or of GiB where there are many.
pub(super) fn readable(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 100_000.0 { format!("{mib:.1} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<usize> = (0..self.stages.len()).collect();
        for (nth, stages) in all.chunks(COLUMNS).enumerate() {
            if nth > 0 {
                writeln!(f)?;
            }
            let line = |f: &mut fmt::Formatter<'_>, name: &str, of: &dyn Fn(usize) -> String| {
                write!(f, "  {name:20}")?;
                stages.iter().try_for_each(|&stage| write!(f, " {:>14}", of(stage)))?;
                writeln!(f)
            };
            line(f, "stage", &|stage| stage.to_string())?;
            line(f, "ranks", &|stage| self.header(stage)[0].clone())?;
            line(f, "layers", &|stage| self.header(stage)[1].clone())?;
            for (class, (name, _)) in RankMemory::default().rows().iter().enumerate() {
                let bytes = |stage: usize| self.memory[stage].rows()[class].1;
                if all.iter().any(|&stage| bytes(stage) > 0) {
                    line(f, name, &|stage| readable(bytes(stage)))?;
                }
            }
            line(f, "total", &|stage| readable(self.memory[stage].total()))?;
            line(f, "available", &|stage| readable(self.available_bytes[stage]))?;
            let short = self.shortfall_bytes();
            if short.iter().any(|&bytes| bytes > 0) {
                line(f, "too much by", &|stage| match short[stage] {
                    0 => "fits".to_owned(),
                    bytes => readable(bytes),
                })?;
            }
        }
        Ok(())
    }
}

/// Stages side by side.
const COLUMNS: usize = 6;
