//! Running the program, and a small run to run it on.

use std::path::Path;
use std::process::Child;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_neuroshard");

/// What came of a command.
#[derive(Debug)]
pub struct Ran {
    /// Exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Ran {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let ran = Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        };
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        ran
    }

    /// It succeeded.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}\n{}", self.stdout, self.stderr);
        self
    }

    /// It failed with exit code `code`, and its words contain each of `words`.
    #[track_caller]
    pub fn refused(self, code: i32, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.stdout, self.stderr);
        for word in words {
            assert!(self.stderr.contains(word), "no `{word}` in:\n{}", self.stderr);
        }
        self
    }
}

/// Runs the program to its end.
pub fn neuroshard(args: &[&str]) -> Ran {
    Ran::of(Command::new(PROGRAM).args(args).output().unwrap())
}

/// Runs a shell script in which `$PROGRAM` is the program.
pub fn shell(script: &str, args: &[&str]) -> Ran {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).args(args).env("PROGRAM", PROGRAM);
    Ran::of(command.output().unwrap())
}

/// Starts the program, its output unread.
pub fn start(args: &[String]) -> Child {
    let mut command = Command::new(PROGRAM);
    command.args(args).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Arguments that train a model of some thousand weights in `dir`: a step takes about 0.2 ms.
pub fn small_run(dir: &Path, sets: &[&str]) -> Vec<String> {
    let dir = format!("run.dir={}", dir.display());
    let fixed = [
        &dir[..],
        "model.width=24",
        "model.layers=2",
        "model.heads=3",
        "model.kv_heads=1",
        "model.ffn=32",
        "model.vocab=64",
        "train.seq_len=16",
        "train.batch_sequences=4",
        "train.micro_batch_sequences=2",
        "train.steps=40",
        "train.eval_every=0",
        "train.eval_sequences=2",
        "device.threads=1",
    ];
    let sets = fixed.into_iter().chain(sets.iter().copied());
    let sets = sets.flat_map(|set| ["--set".to_owned(), set.to_owned()]);
    ["train".to_owned()].into_iter().chain(sets).collect()
}

/// Trains it to its end.
pub fn train(dir: &Path, sets: &[&str]) -> Ran {
    let args = small_run(dir, sets);
    neuroshard(&args.iter().map(String::as_str).collect::<Vec<_>>())
}

/// The hash of the training state, computed from the bytes of the checkpoint at `path`.
pub fn state_hash(path: &Path) -> String {
    let ran = neuroshard(&["checkpoint", "hash", path.to_str().unwrap()]).ok();
    let hash = ran.stdout.split_whitespace().find(|word| word.len() == 64);
    hash.unwrap_or_else(|| panic!("no hash in {}", ran.stdout)).to_owned()
}

/// The metrics of a run; every line must be whole.
pub fn metrics(dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Step and loss of the step lines.
pub fn losses(dir: &Path) -> Vec<(u64, f64)> {
    let lines = metrics(dir);
    let steps = lines.iter().filter(|line| line["kind"] == "step");
    steps.map(|l| (l["step"].as_u64().unwrap(), l["loss"].as_f64().unwrap())).collect()
}
