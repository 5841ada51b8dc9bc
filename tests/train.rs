//! Runs: the same bits however they are cut up, and nothing lost whatever ends them.

mod run_metrics;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use neuroshard::backend;
use neuroshard::checkpoint;
use neuroshard::checkpoint::Saved;
use neuroshard::collective::single;
use neuroshard::config::RunConfig;
use neuroshard::crypto::Hash;
use neuroshard::data::{Dataset, Loader};
use neuroshard::shard::Mesh;
use neuroshard::train;
use neuroshard::train::{Ending, Error, Event, Observer, Outcome, Plan};
use neuroshard::train::{RunFolder, Setup, Silent, Start, Stop};
use run_metrics::metrics;

/// A model that trains in milliseconds, with no round extents.
const MICRO: &str = r#"
[model]
width = 48
layers = 2
heads = 3
kv_heads = 1
ffn = 72
vocab = 64
[device]
level = "portable"
threads = 1
[train]
steps = 12
seq_len = 18
batch_sequences = 6
micro_batch_sequences = 2
eval_every = 4
eval_sequences = 3
checkpoint_every = 0
[optim]
lr = 3e-3
warmup_steps = 4
"#;

fn config(dir: &Path, sets: &[&str]) -> RunConfig {
    let mut all: Vec<String> = vec![format!("run.dir={}", dir.display())];
    all.extend(sets.iter().map(|s| (*s).to_string()));
    RunConfig::from_text("micro", MICRO, &all).unwrap_or_else(|e| panic!("{e}"))
}

/// Trains in `dir`, with `sets` over the micro configuration.
fn run_with(
    dir: &Path,
    sets: &[&str],
    (start, stop): (Start, Stop),
    observer: &mut dyn Observer,
) -> Result<Outcome, Error> {
    let config = config(dir, sets);
    let dataset = Arc::new(Dataset::open(&config.data, 64).unwrap());
    let plan = Plan::new(&config.parts(), dataset.hash()).unwrap();
    let (seq_len, batch) = (plan.train.seq_len, plan.train.batch_sequences);
    let loader = Loader::new(dataset, plan.seed, seq_len, batch).unwrap();
    let setup = Setup {
        plan: &plan,
        kernels: backend::select(&config.device).unwrap(),
        mesh: Mesh::single(plan.parallel.shards),
        layers: 0..plan.dims.layers,
        loader: &loader,
        folder: RunFolder::at(dir),
        config: config.to_toml().unwrap(),
        metrics: config.metrics.clone(),
        attachments: Vec::new(),
        start,
        peak_flops: None,
        stop,
        deadline: None,
    };
    train::run(setup, observer)
}

fn run(dir: &Path, sets: &[&str], start: Start) -> Result<Outcome, Error> {
    run_with(dir, sets, (start, Stop::never()), &mut Silent)
}

fn fresh(sets: &[&str]) -> Hash {
    let dir = tempfile::tempdir().unwrap();
    run(&dir.path().join("run"), sets, Start::Anew).unwrap().state_hash
}

#[test]
fn micro_batch_level_threads_and_recompute_do_not_show() {
    for profile in ["f32", "bf16"] {
        let profile = format!("numerics.profile={profile}");
        let base = fresh(&[&profile]);
        for sets in [
            &["train.micro_batch_sequences=1"][..],
            &["train.micro_batch_sequences=6", "device.threads=2"],
            &["train.micro_batch_sequences=3", "device.level=auto", "device.threads=3"],
            &["model.recompute=true", "device.level=auto"],
        ] {
            assert_eq!(fresh(&[&[&profile[..]], sets].concat()), base, "{profile} {sets:?}");
        }
    }
}

#[test]
fn level_threads_and_recompute_do_not_show_in_tc() {
    // A shard has three sequences.
    let profile = ["numerics.profile=tc", "train.seq_len=17", "train.micro_batch_sequences=3"];
    let base = fresh(&profile);
    for sets in [&["device.level=auto", "device.threads=3"][..], &["model.recompute=true"]] {
        assert_eq!(fresh(&[&profile, sets].concat()), base, "{sets:?}");
    }
    for set in ["train.micro_batch_sequences=1", "numerics.tensor_core=ampere"] {
        assert_ne!(fresh(&[&profile[..], &[set]].concat()), base, "{set}");
    }
}

#[test]
fn a_run_in_tc_resumes_with_its_micro_batch_only() {
    let temp = tempfile::tempdir().unwrap();
    let (whole, cut) = (temp.path().join("whole"), temp.path().join("cut"));
    let sets = ["numerics.profile=tc", "model.tied=true", "device.level=auto"];
    let want = run(&whole, &sets, Start::Anew).unwrap();
    run(&cut, &[&sets[..], &["train.stop_after=5"]].concat(), Start::Anew).unwrap();
    let other = [&sets[..], &["train.micro_batch_sequences=3"]].concat();
    let refused = run(&cut, &other, Start::Resume).unwrap_err().to_string();
    assert!(refused.contains("train.micro_batch_sequences was 1, is 3"), "{refused}");
    // Two at once is taken down to one, the divisor of a shard's three.
    let same = [&sets[..], &["train.micro_batch_sequences=1", "device.threads=2"]].concat();
    let last = run(&cut, &same, Start::Resume).unwrap();
    assert_eq!(last.state_hash, want.state_hash);
    let (want, got) = (metrics(&whole), metrics(&cut));
    assert!(want.iter().all(|line| got.contains(line)), "{got:?} lacks some of {want:?}");
}

#[test]
fn what_decides_the_numbers_shows() {
    let base = fresh(&[]);
    for set in ["run.seed=2", "optim.lr=2e-3", "train.seq_len=16", "data.synthetic_seed=2"] {
        assert_ne!(fresh(&[set]), base, "{set}");
    }
}

#[test]
fn a_resumed_run_is_the_uninterrupted_one() {
    let temp = tempfile::tempdir().unwrap();
    let (whole, cut) = (temp.path().join("whole"), temp.path().join("cut"));
    let sets = ["model.tied=true"];
    let want = run(&whole, &sets, Start::Anew).unwrap();
    let first = run(&cut, &[sets[0], "train.stop_after=5"], Start::Anew).unwrap();
    assert_eq!((first.ending, first.trainer.done()), (Ending::Finished, 5));
    let other_machine = ["train.micro_batch_sequences=3", "device.level=auto", "device.threads=2"];
    let second = [&sets[..], &["train.stop_after=7"], &other_machine].concat();
    run(&cut, &second, Start::Resume).unwrap();
    let last = run(&cut, &sets, Start::Resume).unwrap();
    assert_eq!(last.state_hash, want.state_hash);
    // Every step and evaluation occurs once, with the same numbers; stops added evaluations.
    let (want, got) = (metrics(&whole), metrics(&cut));
    let missing: Vec<_> = want.iter().filter(|line| !got.contains(line)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let steps = |lines: &[String]| lines.iter().filter(|l| l.contains("\"step\",")).count();
    assert_eq!(steps(&got), steps(&want));
    assert_eq!(checkpoint::list(&cut.join("checkpoints")).unwrap(), [5, 7, 12]);
}

#[test]
fn a_finished_run_has_nothing_left_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let first = run(&dir, &[], Start::Anew).unwrap();
    let lines = metrics(&dir);
    let again = run(&dir, &[], Start::Resume).unwrap();
    assert_eq!((again.state_hash, again.last_loss), (first.state_hash, None));
    assert_eq!(metrics(&dir), lines);
}

#[test]
fn a_taken_folder_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    run(temp.path(), &["train.stop_after=1"], Start::Anew).unwrap();
    let refused = run(temp.path(), &[], Start::Anew).unwrap_err();
    assert!(refused.to_string().contains("--resume"), "{refused}");
}

#[test]
fn another_plan_is_refused_by_name() {
    let temp = tempfile::tempdir().unwrap();
    run(temp.path(), &["train.stop_after=2"], Start::Anew).unwrap();
    let before = fs::read(temp.path().join("config.toml")).unwrap();
    for (set, named) in [
        ("optim.lr=1e-3", "optim.lr was 0.003, is 0.001"),
        ("model.ffn=80", "model.ffn was 72, is 80"),
        ("run.seed=7", "run.seed was 1, is 7"),
        ("numerics.profile=f32", "numerics.profile was bf16, is f32"),
        ("train.steps=13", "train.steps was 12, is 13"),
        ("data.synthetic_seed=3", "data was"),
    ] {
        let refused = run(temp.path(), &[set], Start::Resume).unwrap_err().to_string();
        assert!(refused.contains(named), "{set}: {refused}");
    }
    assert_eq!(fs::read(temp.path().join("config.toml")).unwrap(), before);
    let free = ["train.eval_every=0", "train.checkpoint_every=5", "train.keep_checkpoints=1"];
    run(temp.path(), &free, Start::Resume).unwrap();
    assert_eq!(checkpoint::list(&temp.path().join("checkpoints")).unwrap(), [12]);
}

/// Asks to stop once a number of events have been seen.
struct StopAfter {
    left: usize,
    stop: Stop,
    seen: Vec<String>,
}

impl Observer for StopAfter {
    fn observe(&mut self, event: &Event<'_>) {
        self.seen.push(format!("{event:?}"));
        match self.left {
            0 => self.stop.ask(),
            _ => self.left -= 1,
        }
    }
}

#[test]
fn asked_to_stop_it_saves_and_goes_on_later() {
    let want = fresh(&[]);
    for left in 0..8 {
        let temp = tempfile::tempdir().unwrap();
        let stop = Stop::default();
        let mut observer = StopAfter { left, stop: stop.clone(), seen: Vec::new() };
        let sets = ["train.checkpoint_every=3"];
        let stopped = run_with(temp.path(), &sets, (Start::Anew, stop), &mut observer).unwrap();
        assert_eq!(stopped.ending, Ending::Stopped { votes: 1 }, "{left}");
        assert!(stopped.trainer.done() < 8, "{left}: {}", stopped.trainer.done());
        let saved = Saved::open(&stopped.checkpoint.unwrap()).unwrap();
        assert_eq!(saved.verify(single().as_ref()).unwrap(), stopped.state_hash);
        assert_eq!(run(temp.path(), &sets, Start::Resume).unwrap().state_hash, want);
        let evals = metrics(temp.path()).iter().filter(|l| l.contains("\"eval\"")).count();
        assert_eq!(evals, 3, "{left}: {:?}", metrics(temp.path()));
    }
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_by_name() {
    let temp = tempfile::tempdir().unwrap();
    let sets = ["optim.lr=1e30", "optim.warmup_steps=0", "train.checkpoint_every=1"];
    let error = run(temp.path(), &sets, Start::Anew).unwrap_err();
    let text = error.to_string();
    let Error::NonFinite { step, place } = error else { panic!("{text}") };
    assert!(step >= 2, "{text}");
    assert!(place.contains("blocks.") || place.contains("layer"), "{text}");
    assert!(text.contains("optim.lr"), "{text}");
    let latest = checkpoint::latest(&temp.path().join("checkpoints"), single().as_ref()).unwrap();
    assert!(latest.broken.is_empty());
    assert_eq!(latest.found.unwrap().manifest().progress.step, step - 1);
}

#[test]
fn damaged_checkpoints_are_passed_over_and_told() {
    let temp = tempfile::tempdir().unwrap();
    let sets = ["train.checkpoint_every=4", "train.keep_checkpoints=0"];
    let want = run(temp.path(), &sets, Start::Anew).unwrap().state_hash;
    let folders = temp.path().join("checkpoints");
    fs::write(folders.join("00000012/weights.safetensors"), b"gone").unwrap();
    fs::create_dir(folders.join(".unfinished-00000013")).unwrap();
    let mut observer = StopAfter { left: 1000, stop: Stop::never(), seen: Vec::new() };
    let again =
        run_with(temp.path(), &sets, (Start::Resume, Stop::never()), &mut observer).unwrap();
    assert_eq!(again.state_hash, want);
    assert!(observer.seen[0].contains("Warning") && observer.seen[0].contains("truncated"));
    assert!(observer.seen[1].contains("step: 8"), "{}", observer.seen[1]);
    let latest = checkpoint::latest(&folders, single().as_ref()).unwrap();
    assert!(latest.broken.is_empty());
    assert_eq!(fs::read_dir(&folders).unwrap().count(), 3);
    // With none left whole, it does not begin from nothing by itself.
    for step in [4, 8, 12] {
        fs::write(checkpoint::path_of(&folders, step).join("manifest.json"), b"{}").unwrap();
    }
    let refused = run(temp.path(), &sets, Start::Resume).unwrap_err();
    assert!(matches!(refused, Error::NoneWhole { .. }), "{refused}");
}

#[test]
fn the_guard_leaves_out_what_it_says() {
    let temp = tempfile::tempdir().unwrap();
    // A bound that ordinary noise passes now and then.
    let sets = ["train.guard_deviations=0.9", "train.guard_after=3"];
    let whole = run(&temp.path().join("a"), &sets, Start::Anew).unwrap();
    let skipped = metrics(&temp.path().join("a"));
    let skipped = skipped.iter().filter(|l| l.contains("\"skipped\":true")).count();
    assert!((1..9).contains(&skipped), "{skipped} steps left out");
    let cut = temp.path().join("b");
    run(&cut, &[sets[0], sets[1], "train.stop_after=7"], Start::Anew).unwrap();
    assert_eq!(run(&cut, &sets, Start::Resume).unwrap().state_hash, whole.state_hash);
}

#[test]
fn training_learns() {
    let temp = tempfile::tempdir().unwrap();
    let sets = ["train.steps=60", "optim.warmup_steps=5", "optim.lr=1e-2", "device.level=auto"];
    let mut ends = Vec::new();
    for profile in ["numerics.profile=bf16", "numerics.profile=tc"] {
        let sets = [&sets[..], &[profile]].concat();
        let outcome = run(&temp.path().join(profile), &sets, Start::Anew).unwrap();
        let (first, last) = ((64f64).ln(), outcome.last_loss.unwrap());
        let eval = outcome.evaluation.unwrap();
        assert!(last < first - 0.8, "{profile}: loss went from {first} to {last}");
        assert!((eval.loss - last).abs() < 0.5, "held out {}, training {last}", eval.loss);
        assert_eq!(eval.tokens, 3 * 18);
        ends.push(eval.loss);
    }
    // Rounding activations costs a little precision, and no learning.
    assert!((ends[0] - ends[1]).abs() < 0.05, "bf16 and tc end at {ends:?}");
}
