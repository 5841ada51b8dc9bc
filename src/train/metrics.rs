//! `metrics.jsonl`: one JSON object a line; `kind` says what it is.
//!
//! Times and speeds tell of the machine; everything else is the same on every machine and after
//! every resume. A resume first removes what lies past the step it resumes from, so that no step
//! occurs twice.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Record {
    /// An optimizer step.
    Step(StepRecord),
    /// An evaluation on held-out data.
    Eval(EvalRecord),
}

/// An optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepRecord {
    /// Number of the step, from 1.
    pub step: u64,
    /// Mean loss of its tokens in nats, before the update.
    pub loss: f64,
    /// Learning rate.
    pub lr: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Whether the guard left the update out.
    pub skipped: bool,
    /// Tokens trained on so far, this step included.
    pub tokens: u64,
    /// Duration of the step.
    pub step_ms: f64,
    /// Of that, waiting for other ranks.
    pub exchange_ms: f64,
    /// Tokens of this step over its duration.
    pub tokens_per_s: f64,
    /// Model FLOP/s of this step in GFLOP/s: matrix products and causal attention, counted once.
    pub gflops: f64,
    /// That over the peak of the device, if it is known.
    pub mfu: Option<f64>,
    /// Memory in use by the first rank, if the system tells: of its GPU, what the run took; else what
    /// its process has resident.
    pub memory_bytes: Option<u64>,
}

/// An evaluation on held-out data.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EvalRecord {
    /// Steps done before it.
    pub step: u64,
    /// Mean loss in nats.
    pub loss: f64,
    /// `exp(loss)`.
    pub perplexity: f64,
    /// Tokens it was computed on.
    pub eval_tokens: u64,
    /// Duration.
    pub eval_ms: f64,
}

impl Record {
    /// Its step.
    pub fn step(&self) -> u64 {
        match self {
            Self::Step(step) => step.step,
            Self::Eval(eval) => eval.step,
        }
    }

    /// Its numbers by the names that TensorBoard shows; what stands before a slash is a group.
    pub fn scalars(&self) -> Vec<(&'static str, f64)> {
        let known = |name, x: Option<f64>| x.map(|x| (name, x));
        match self {
            Self::Step(step) => [
                Some(("train/loss", step.loss)),
                Some(("train/learning_rate", step.lr)),
                Some(("train/gradient_norm", step.grad_norm)),
                Some(("train/skipped", f64::from(u8::from(step.skipped)))),
                Some(("train/tokens", step.tokens as f64)),
                Some(("speed/tokens_per_s", step.tokens_per_s)),
                Some(("speed/step_ms", step.step_ms)),
                Some(("speed/exchange_ms", step.exchange_ms)),
                known("speed/mfu", step.mfu),
                known("memory/bytes", step.memory_bytes.map(|bytes| bytes as f64)),
            ]
            .into_iter()
            .flatten()
            .collect(),
            Self::Eval(eval) => vec![
                ("eval/loss", eval.loss),
                ("eval/perplexity", eval.perplexity),
                ("eval/ms", eval.eval_ms),
            ],
        }
    }
}

/// The file, open for appending.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Log {
    /// A new file at `path`.
    pub fn create(path: &Path) -> io::Result<Self> {
        let file = BufWriter::new(File::create_new(path)?);
        Ok(Self { path: path.to_owned(), file })
    }

    /// The file at `path` without the lines past `step`; a new one if there is none.
    pub fn resume(path: &Path, step: u64) -> io::Result<Self> {
        let kept = match File::open(path) {
            Ok(file) => bytes_up_to(file, step)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Self::create(path),
            Err(e) => return Err(e),
        };
        let file = OpenOptions::new().append(true).open(path)?;
        file.set_len(kept)?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends a line, visible to readers at once.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        serde_json::to_writer(&mut self.file, record)?;
        self.file.write_all(b"\n")?;
        self.file.flush()
    }

    /// Waits until the disk has every line.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_data()
    }
}

/// Step of the last evaluation in the file at `path`.
pub fn last_eval_step(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    let mut lines =
        text.lines().rev().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    lines.find(|v| v["kind"] == "eval")?["step"].as_u64()
}

/// Length of the whole lines at the start of a file that belong to steps up to `step`.
fn bytes_up_to(file: File, step: u64) -> io::Result<u64> {
    #[derive(Deserialize)]
    struct Line {
        step: u64,
    }
    let (mut reader, mut kept, mut line) = (BufReader::new(file), 0, Vec::new());
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        let whole = line.last() == Some(&b'\n');
        match serde_json::from_slice::<Line>(&line) {
            Ok(parsed) if whole && parsed.step <= step => kept += read as u64,
            // Past the step, or cut short when a writer was killed.
            _ => return Ok(kept),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(step: u64) -> Record {
        let (loss, perplexity) = (1.5, 4.5);
        Record::Eval(EvalRecord { step, loss, perplexity, eval_tokens: 10, eval_ms: 1.0 })
    }

    #[test]
    fn a_resume_removes_later_and_torn_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = Log::create(&path).unwrap();
        (1..=5).for_each(|step| log.append(&record(step)).unwrap());
        drop(log);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{whole}{{\"kind\":\"step\",\"st")).unwrap();
        drop(Log::resume(&path, 9).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), whole);
        let mut log = Log::resume(&path, 3).unwrap();
        log.append(&record(4)).unwrap();
        let steps: Vec<_> = fs::read_to_string(&path)
            .unwrap()
            .lines()
            .map(|l| {
                serde_json::from_str::<serde_json::Value>(l).unwrap()["step"].as_u64().unwrap()
            })
            .collect();
        assert_eq!(steps, [1, 2, 3, 4]);
        assert!(Log::create(&path).is_err());
        assert_eq!(last_eval_step(&path), Some(4));
    }
}
