//! `rounds.jsonl` of a simulation: one line for each exchange.

use std::path::Path;

use serde::Deserialize;

use super::Error;
use super::lines::Lines;

/// A line of the file. What is not there, or null, is none.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Line {
    #[serde(default)]
    pub time_s: Option<f64>,
    #[serde(default)]
    pub tokens: Option<f64>,
    #[serde(default)]
    pub bytes_up: Option<f64>,
    #[serde(default)]
    pub train_loss: Option<f64>,
    #[serde(default)]
    pub eval_loss: Option<f64>,
    #[serde(default)]
    pub utilization: Option<f64>,
    #[serde(default)]
    pub rejected: Option<f64>,
    #[serde(default)]
    pub skipped: Option<serde::de::IgnoredAny>,
}

/// What an exchange adds up to.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Exchange {
    /// Tokens that all have trained on.
    pub tokens: f64,
    /// Virtual seconds.
    pub seconds: f64,
    /// Bytes sent so far, by all together.
    pub bytes: f64,
    /// Mean loss of the honest clusters in training.
    pub train_loss: Option<f64>,
    /// Loss of the outer weights on held-out data, where it was measured.
    pub eval_loss: Option<f64>,
    /// Part of the time that clusters computed.
    pub utilization: Option<f64>,
}

/// All exchanges of a run.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// In order.
    pub exchanges: Vec<Exchange>,
    /// Updates that were refused, in all.
    pub rejected: f64,
    /// Exchanges without an outer step.
    pub skipped: usize,
    /// What could not be read.
    pub complaints: Vec<String>,
}

impl Rounds {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let lines = Lines::<Line>::read(path)?;
        let mut all = Self::default();
        all.complaints.extend(lines.complaint("rounds.jsonl"));
        let mut so_far = Exchange::default();
        for line in &lines.rows {
            so_far.tokens = line.tokens.unwrap_or(so_far.tokens);
            so_far.seconds = line.time_s.unwrap_or(so_far.seconds);
            so_far.bytes += line.bytes_up.unwrap_or(0.0);
            all.exchanges.push(Exchange {
                train_loss: line.train_loss,
                eval_loss: line.eval_loss,
                utilization: line.utilization,
                ..so_far
            });
            all.rejected += line.rejected.unwrap_or(0.0);
            all.skipped += usize::from(line.skipped.is_some());
        }
        all.missing(&lines.rows);
        Ok(all)
    }

    /// Says which columns no line has.
    fn missing(&mut self, rows: &[Line]) {
        if rows.is_empty() {
            self.complaints.push("rounds.jsonl: has no exchange".to_owned());
            return;
        }
        let has = |of: fn(&Line) -> bool| rows.iter().any(of);
        for (name, is_there) in [
            ("tokens", has(|l| l.tokens.is_some())),
            ("time_s", has(|l| l.time_s.is_some())),
            ("bytes_up", has(|l| l.bytes_up.is_some())),
            ("eval_loss or train_loss", has(|l| l.eval_loss.is_some() || l.train_loss.is_some())),
            ("utilization", has(|l| l.utilization.is_some())),
        ] {
            if !is_there {
                self.complaints.push(format!("rounds.jsonl: no line has {name}"));
            }
        }
    }

    /// Part of the whole time that clusters computed.
    pub fn utilization(&self) -> Option<f64> {
        let (mut sum, mut before) = ([0.0; 2], 0.0);
        for exchange in &self.exchanges {
            let took = exchange.seconds - before;
            before = exchange.seconds;
            if let Some(part) = exchange.utilization.filter(|u| u.is_finite())
                && took > 0.0
            {
                sum = [sum[0] + part * took, sum[1] + took];
            }
        }
        (sum[1] > 0.0).then(|| sum[0] / sum[1])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_add_up_and_long_exchanges_weigh_more() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rounds.jsonl");
        let text = "\
            {\"tokens\":10,\"time_s\":1,\"bytes_up\":5,\"utilization\":1.0,\"train_loss\":3,\"skipped\":null}\n\
            {\"tokens\":20,\"time_s\":4,\"bytes_up\":7,\"utilization\":0.5,\"skipped\":\"too few\",\
             \"rejected\":2,\"peers\":[{\"cluster\":0}]}\n";
        std::fs::write(&path, text).unwrap();
        let rounds = Rounds::read(&path).unwrap();
        assert_eq!(rounds.exchanges[1].bytes, 12.0);
        assert_eq!(rounds.utilization(), Some(0.625));
        assert_eq!((rounds.rejected, rounds.skipped), (2.0, 1));
        assert!(rounds.complaints.is_empty());
        std::fs::write(&path, "{}\n").unwrap();
        assert_eq!(Rounds::read(&path).unwrap().complaints.len(), 5);
    }
}
