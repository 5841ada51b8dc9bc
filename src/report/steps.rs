//! `metrics.jsonl` of a training run.

use std::path::Path;

use super::Error;
use super::lines::Lines;
use crate::metrics::Kind;
use crate::metrics::Line;

/// What a file tells, over tokens and seconds.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Steps, with the seconds of training that had passed after each.
    pub steps: Vec<(Line, f64)>,
    /// Evaluations, with tokens trained on and seconds before each.
    pub evals: Vec<(Line, f64, f64)>,
    /// What could not be read.
    pub complaints: Vec<String>,
}

impl Steps {
    /// Reads the file at `path`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let lines = Lines::<Line>::read(path)?;
        let mut all = Self::default();
        all.complaints.extend(lines.complaint("metrics.jsonl"));
        let (mut tokens, mut seconds) = (0.0, 0.0);
        for line in lines.rows {
            match line.kind {
                Kind::Step => {
                    tokens = line.tokens.unwrap_or(tokens);
                    seconds += line.step_ms.unwrap_or(0.0) / 1e3;
                    all.steps.push((line, seconds));
                }
                Kind::Eval => {
                    all.evals.push((line, tokens, seconds));
                    seconds += line.eval_ms.unwrap_or(0.0) / 1e3;
                }
                Kind::Other => {}
            }
        }
        if all.steps.is_empty() {
            all.complaints.push("metrics.jsonl: has no step".to_owned());
        }
        Ok(all)
    }

    /// A column over tokens, none as no number; empty if no step has it.
    pub fn over_tokens(&self, of: impl Fn(&Line) -> Option<f64>) -> Vec<[f64; 2]> {
        let x = |(line, _): &(Line, f64)| line.tokens.or(line.step).unwrap_or(f64::NAN);
        self.column(x, of)
    }

    /// A column over seconds of training.
    pub fn over_time(&self, of: impl Fn(&Line) -> Option<f64>) -> Vec<[f64; 2]> {
        self.column(|step| step.1, of)
    }

    fn column(
        &self,
        x: impl Fn(&(Line, f64)) -> f64,
        of: impl Fn(&Line) -> Option<f64>,
    ) -> Vec<[f64; 2]> {
        if !self.steps.iter().any(|step| of(&step.0).is_some()) {
            return Vec::new();
        }
        self.steps.iter().map(|step| [x(step), of(&step.0).unwrap_or(f64::NAN)]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_add_up_and_what_is_unknown_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let text = "\
            {\"kind\":\"step\",\"step\":1,\"loss\":5.0,\"tokens\":10,\"step_ms\":500.0}\n\
            {\"kind\":\"eval\",\"step\":1,\"loss\":4.5,\"eval_ms\":1000.0}\n\
            {\"kind\":\"news\",\"what\":[1]}\n\
            {\"kind\":\"step\",\"step\":2,\"loss\":null,\"tokens\":20,\"step_ms\":500.0}\n\
            {\"step\":3}\n";
        std::fs::write(&path, text).unwrap();
        let steps = Steps::read(&path).unwrap();
        assert_eq!(steps.over_time(|l| l.loss)[0], [0.5, 5.0]);
        let last = steps.over_time(|l| l.loss)[1];
        assert!(last[0] == 2.0 && last[1].is_nan());
        assert_eq!((steps.evals[0].1, steps.evals[0].2), (10.0, 0.5));
        assert!(steps.over_tokens(|l| l.mfu).is_empty());
        assert_eq!(steps.complaints.len(), 1);
    }
}
