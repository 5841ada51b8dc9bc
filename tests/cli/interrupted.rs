//! Signals, and kills at any moment: nothing is lost but steps since the last checkpoint.

use std::fs;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use crate::process::losses;
use crate::process::metrics;
use crate::process::neuroshard;
use crate::process::small_run;
use crate::process::start;
use crate::process::state_hash;
use crate::process::train;

/// Long enough that signals arrive before the end: about a second.
const LONG: [&str; 2] = ["train.steps=3000", "train.checkpoint_every=500"];

fn wait_until(what: &str, ready: impl Fn() -> bool) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < Duration::from_secs(30), "waited in vain for {what}");
        sleep(Duration::from_millis(2));
    }
}

#[test]
fn signals_write_a_checkpoint_and_resume_goes_on_bit_for_bit() {
    let temp = tempfile::tempdir().unwrap();
    let whole = temp.path().join("whole");
    train(&whole, &LONG).ok();
    let want = state_hash(&whole.join("checkpoints/00003000"));
    for signal in ["TERM", "USR1", "INT"] {
        let dir = temp.path().join(signal);
        let mut child = start(&small_run(&dir, &LONG));
        let lines = || fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
        wait_until("steps", || lines().lines().count() > 20);
        Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(85), "{signal}");
        let saved = fs::read_dir(dir.join("checkpoints")).unwrap().count();
        assert!(saved >= 1, "{signal}");
        let args = small_run(&dir, &LONG);
        let args: Vec<&str> = args.iter().map(String::as_str).chain(["--resume"]).collect();
        neuroshard(&args).ok();
        assert_eq!(state_hash(&dir.join("checkpoints/00003000")), want, "{signal}");
        assert_eq!(losses(&dir), losses(&whole), "{signal}");
    }
}

#[test]
fn killed_at_any_moment_it_ends_at_the_same_bits() {
    let temp = tempfile::tempdir().unwrap();
    // A checkpoint at every step, so that most kills fall into the writing of one.
    let sets = ["train.steps=200", "train.checkpoint_every=1", "train.keep_checkpoints=2"];
    let whole = temp.path().join("whole");
    train(&whole, &sets).ok();
    let want = state_hash(&whole.join("checkpoints/00000200"));
    let dir = temp.path().join("killed");
    let mut args = small_run(&dir, &sets);
    args.push("--resume".into());
    let (mut kills, mut step) = (0, 0);
    for round in 0..60u64 {
        let mut child = start(&args);
        // 13 to 95 ms, spread by a fixed rule: starting takes about 10.
        sleep(Duration::from_millis(13 + round * 37 % 83));
        let _ = child.kill();
        let done = child.wait().unwrap().code() == Some(0);
        kills += u32::from(!done);
        let checkpoints = dir.join("checkpoints");
        if checkpoints.exists() && fs::read_dir(&checkpoints).unwrap().count() > 0 {
            // Whatever looks like a checkpoint is one, and none is older than what was there.
            let names = fs::read_dir(&checkpoints).unwrap();
            let names = names.map(|e| e.unwrap().file_name().into_string().unwrap());
            let steps: Vec<u64> = names.filter_map(|n| n.parse().ok()).collect();
            for step in &steps {
                let path = checkpoints.join(format!("{step:08}"));
                neuroshard(&["checkpoint", "verify", path.to_str().unwrap()]).ok();
            }
            let newest = steps.iter().max().copied().unwrap_or(step);
            assert!(newest >= step, "from step {step} back to {newest}");
            // At most two steps are missing when the kill comes: that of the checkpoint under way, and
            // the one after it.
            let seen = fs::read_to_string(dir.join("metrics.jsonl")).unwrap_or_default();
            let seen =
                seen.lines().filter(|line| line.contains("\"kind\":\"step\"")).count() as u64;
            assert!(seen <= newest + 2, "{newest}: {seen}");
            step = newest;
        }
        if done {
            break;
        }
    }
    assert!(kills >= 3, "only {kills} kills");
    neuroshard(&args.iter().map(String::as_str).collect::<Vec<_>>()).ok();
    assert_eq!(state_hash(&dir.join("checkpoints/00000200")), want);
    assert_eq!(losses(&dir), losses(&whole));
    assert!(metrics(&dir).iter().all(|line| line["kind"].is_string()));
}
