//! Jobs of two processes, killed with SIGKILL at any moment: nobody hangs, and what a resumed run
//! ends with are the bits of a run that nobody disturbed.

use std::fs;
use std::fs::File;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use crate::process::PROGRAM;
use crate::process::losses;
use crate::process::small_run;
use crate::process::state_hash;
use crate::process::train;

/// Kills of the test.
const KILLS: usize = 50;
/// Seed of the moments, so that a failure can be looked at again.
const SEED: u64 = 20;
/// Nothing may take longer; a rank that does hangs.
const PATIENCE: Duration = Duration::from_secs(60);
const LAST: &str = "checkpoints/00000300";
const SETS: [&str; 5] = [
    "train.steps=300",
    "train.batch_sequences=8",
    "train.checkpoint_every=3",
    "train.keep_checkpoints=2",
    "parallel.oversubscribe=true",
];

/// A job of two ranks that meet by a file.
struct Job {
    ranks: Vec<Child>,
    words: PathBuf,
}

impl Job {
    fn start(temp: &Path, dir: &Path, number: usize) -> Self {
        let words = temp.join(format!("{number}.words"));
        let file = File::create(&words).unwrap();
        let meet = format!("file://{}", temp.join(format!("{number}.meet")).display());
        let ranks = (0..2).map(|rank: u32| {
            let mut command = Command::new(PROGRAM);
            command.args(small_run(dir, &SETS)).arg("--resume");
            command.env("NEUROSHARD_RENDEZVOUS", &meet).env("NEUROSHARD_RANKS", "2");
            command.env("NEUROSHARD_RANK", rank.to_string());
            command.stdout(file.try_clone().unwrap()).stderr(file.try_clone().unwrap());
            command.spawn().unwrap()
        });
        Self { ranks: ranks.collect(), words }
    }

    fn runs(&mut self) -> bool {
        self.ranks.iter_mut().all(|rank| rank.try_wait().unwrap().is_none())
    }

    /// Waits for the end of every rank; their exit codes.
    fn end(&mut self) -> Vec<Option<i32>> {
        let started = Instant::now();
        let mut code = |rank: &mut Child| loop {
            match rank.try_wait().unwrap() {
                Some(status) => return status.code(),
                None if started.elapsed() < PATIENCE => sleep(Duration::from_millis(2)),
                None => {
                    let _ = rank.kill();
                    panic!("a rank hangs:\n{}", fs::read_to_string(&self.words).unwrap());
                }
            }
        };
        self.ranks.iter_mut().map(&mut code).collect()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        for rank in &mut self.ranks {
            let _ = rank.kill();
            let _ = rank.wait();
        }
    }
}

/// Lines of the run's metrics.
fn lines(dir: &Path) -> usize {
    fs::read_to_string(dir.join("metrics.jsonl")).map_or(0, |text| text.lines().count())
}

/// The number of the newest checkpoint.
fn newest(dir: &Path) -> u64 {
    let names = fs::read_dir(dir.join("checkpoints")).into_iter().flatten();
    let names = names.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok());
    names.max().unwrap_or(0)
}

#[test]
fn fifty_kills_change_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let whole = temp.path().join("whole");
    train(&whole, &SETS).ok();
    let want = state_hash(&whole.join(LAST));
    let finished = |dir: &Path| {
        assert_eq!(state_hash(&dir.join(LAST)), want);
        assert_eq!(losses(dir), losses(&whole));
    };
    let mut dir = temp.path().join("run-0");
    let (mut random, mut kills, mut number, mut told) = (SEED, 0, 0, 0);
    let mut next = move |below: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % below
    };
    while kills < KILLS {
        number += 1;
        assert!(number < 4 * KILLS, "{kills} kills in {number} starts");
        let before = newest(&dir);
        let mut job = Job::start(temp.path(), &dir, number);
        // Some kills come at any time after the start, the others once steps are done.
        if next(4) > 0 {
            let (had, started) = (lines(&dir), Instant::now());
            while lines(&dir) <= had && job.runs() {
                assert!(started.elapsed() < PATIENCE, "no steps");
                sleep(Duration::from_millis(2));
            }
        }
        sleep(Duration::from_millis(next(60)));
        // One rank, the other, or both; both before they have met, when nobody but a launcher could
        // tell the other.
        let met = fs::read_to_string(&job.words).unwrap().contains("ranks     2");
        let victims = match next(3) {
            0 if met => vec![0],
            1 if met => vec![1],
            _ => vec![0, 1],
        };
        let alive = job.runs();
        for &victim in &victims {
            let _ = job.ranks[victim].kill();
        }
        let codes = job.end();
        if codes.iter().all(|code| *code == Some(0)) {
            finished(&dir);
            dir = temp.path().join(format!("run-{number}"));
            continue;
        }
        kills += usize::from(alive);
        let words = fs::read_to_string(&job.words).unwrap();
        assert!(!words.contains("panicked"), "{words}");
        if alive && victims.len() == 1 && codes[1 - victims[0]] != Some(0) {
            // The survivor ends with an error, and in a step names who is gone.
            assert_eq!(codes[1 - victims[0]], Some(1), "{words}");
            told += usize::from(words.contains(&format!("rank {} is gone", victims[0])));
        }
        assert!(newest(&dir) >= before, "a checkpoint was lost: {words}");
    }
    assert!(told >= 5, "only {told} survivors named the rank that was killed");
    let codes = Job::start(temp.path(), &dir, number + 1).end();
    assert_eq!(codes, [Some(0), Some(0)]);
    finished(&dir);
}
