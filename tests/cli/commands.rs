//! Every command on a good run, and what it prints.

use std::fs;

use crate::process::metrics;
use crate::process::neuroshard;
use crate::process::shell;
use crate::process::state_hash;
use crate::process::train;

#[test]
fn a_run_folder_holds_what_the_guide_says() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let sets = ["train.checkpoint_every=5", "train.keep_checkpoints=2", "train.eval_every=10"];
    let ran = train(&dir, &sets).ok();
    assert!(ran.stdout.contains("entropy") && ran.stdout.contains("state hash"), "{}", ran.stdout);
    assert!(fs::read_to_string(dir.join("config.toml")).unwrap().contains("width = 24"));
    let mut kept: Vec<_> =
        fs::read_dir(dir.join("checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    kept.sort();
    assert_eq!(kept, ["00000035", "00000040"]);
    let lines = metrics(&dir);
    let steps: Vec<_> = lines.iter().filter(|l| l["kind"] == "step").collect();
    assert_eq!(steps.len(), 40);
    for key in ["step", "loss", "lr", "grad_norm", "tokens", "tokens_per_s", "mfu"] {
        assert!(steps.iter().all(|line| line[key].is_number()), "{key}");
    }
    let evals: Vec<_> = lines.iter().filter(|l| l["kind"] == "eval").collect();
    assert_eq!(evals.len(), 4, "{evals:?}");
    assert!(evals.iter().all(|line| line["loss"].is_number()));
}

#[test]
fn what_a_machine_decides_never_shows_in_the_state() {
    let temp = tempfile::tempdir().unwrap();
    for profile in ["numerics.profile=f32", "numerics.profile=bf16"] {
        let mut hashes = Vec::new();
        for (i, sets) in [
            &["device.level=portable"][..],
            &["device.threads=3"],
            &["train.micro_batch_sequences=1", "device.threads=2"],
            &["train.micro_batch_sequences=4", "model.recompute=true"],
        ]
        .into_iter()
        .enumerate()
        {
            let dir = temp.path().join(format!("{}-{i}", &profile[17..]));
            train(&dir, &[sets, &[profile, "train.steps=4"]].concat()).ok();
            hashes.push(state_hash(&dir.join("checkpoints/00000004")));
        }
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{profile}: {hashes:?}");
    }
}

#[test]
fn the_commands_on_a_checkpoint_answer() {
    for profile in ["bf16", "tc"] {
        the_commands_answer(profile);
    }
}

fn the_commands_answer(profile: &str) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let ran = train(&dir, &["train.steps=20", &format!("numerics.profile={profile}")]).ok();
    assert!(ran.stdout.contains(&format!("profile {profile}")), "{}", ran.stdout);
    let run = dir.to_str().unwrap();
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&neuroshard(args).ok().stdout).unwrap()
    };
    let eval = json(&["eval", "--checkpoint", run, "--json", "--sequences", "3"]);
    let (loss, perplexity) = (eval["loss"].as_f64().unwrap(), eval["perplexity"].as_f64().unwrap());
    assert!((perplexity.ln() - loss).abs() < 1e-9 && (1.0..5.0).contains(&loss), "{eval}");
    // Each says which arithmetic its result is in.
    let arithmetic = if profile == "tc" { "tc (tensor core hopper)" } else { profile };
    assert_eq!(eval["profile"], arithmetic);
    let spoken = neuroshard(&["eval", "--checkpoint", run, "--sequences", "1"]).ok().stdout;
    assert!(spoken.contains(&format!("profile      {arithmetic} on cpu")), "{spoken}");
    let spoken = neuroshard(&["generate", "--checkpoint", run, "--tokens", "1"]).ok().stderr;
    assert!(spoken.contains(&format!("profile {arithmetic} on cpu")), "{spoken}");
    let device = std::fs::read_to_string(dir.join("device.json")).unwrap();
    let device: serde_json::Value = serde_json::from_str(&device).unwrap();
    assert!(device["device"].as_str().unwrap().starts_with("cpu "), "{device}");
    assert_eq!(
        (&device["profile"], &device["decisions"]),
        (&profile.into(), &serde_json::json!([]))
    );
    let logits = json(&["logits", "--checkpoint", run, "--tokens", "1,2,3"]);
    let rows = logits["logits"].as_array().unwrap();
    assert_eq!((rows.len(), rows[0].as_array().unwrap().len()), (3, 64));
    let last = json(&["logits", "--checkpoint", run, "--tokens", "1,2,3", "--last"]);
    assert_eq!(last["logits"].as_array().unwrap().last(), rows.last());
    let text = |args: &[&str]| {
        let args = [&["generate", "--checkpoint", run, "--tokens", "8"], args].concat();
        neuroshard(&args).ok().stdout
    };
    assert_eq!(text(&["--seed", "4"]), text(&["--seed", "4"]));
    assert_eq!(
        text(&["--temperature", "0", "--seed", "1"]),
        text(&["--top-k", "1", "--seed", "2"])
    );
    assert_ne!(text(&["--seed", "4", "--top-p", "0.9"]), text(&["--seed", "5", "--top-p", "0.9"]));
    let show = neuroshard(&["checkpoint", "show", run]).ok().stdout;
    assert!(show.contains("blocks.0.qkv") || show.contains("step"), "{show}");
    neuroshard(&["checkpoint", "verify", run]).ok();
}

#[test]
fn doctor_looks_at_everything_and_says_what_lacks_cost() {
    let ran = neuroshard(&["doctor"]).ok();
    for what in ["CPU ", "level ", "memory ", "speed ", "cuBLASLt ", "NCCL ", "MPI ", "emulator "] {
        assert!(ran.stdout.lines().any(|line| line.starts_with(what)), "{what}: {}", ran.stdout);
    }
    let missing = ran.stdout.lines().filter(|line| line.contains("missing: ")).count();
    let costs = ran.stdout.lines().filter(|line| line.contains("costs: ")).count();
    assert_eq!(missing, costs, "{}", ran.stdout);
    // An MPI that is not there: one line, with the loader's words and the way out.
    let ran = shell("NEUROSHARD_MPI_LIB=/nonexistent/libmpi.so $PROGRAM doctor", &[]).ok();
    let line = ran.stdout.lines().find(|line| line.starts_with("MPI ")).unwrap();
    for word in ["missing: ", "/nonexistent/libmpi.so", "NEUROSHARD_RENDEZVOUS"] {
        assert!(line.contains(word), "{word}: {line}");
    }
}

#[test]
fn every_preset_is_described() {
    // Exact counts, from the extents: V C (twice, untied) + C + L (2 C + (H + 2 K) D C + C C + 3 C F).
    for (preset, parameters) in [("nano", 3934656u64), ("tiny", 15733632), ("125m", 124668672)] {
        let ran = neuroshard(&["model", "--preset", preset]).ok();
        let line = ran.stdout.lines().find(|l| l.starts_with("parameters")).unwrap().to_owned();
        assert!(line.ends_with(&parameters.to_string()), "{preset}: {line}");
    }
    for preset in ["350m", "1b", "3b", "7b", "13b", "70b"] {
        let ran = neuroshard(&["model", "--preset", preset]).ok();
        for word in ["embedding", "FLOPs per token", "moments", "total"] {
            assert!(ran.stdout.contains(word), "{preset}: {}", ran.stdout);
        }
    }
    neuroshard(&["model", "--preset", "9b"]).refused(1, &["9b", "nano"]);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let ran = shell("\"$PROGRAM\" model --preset 7b | head -1", &[]);
    assert!(ran.stdout.contains("7b") && ran.stderr.is_empty(), "{ran:?}");
}

#[test]
fn predicted_memory_is_what_is_used() {
    for sets in [
        &[][..],
        &["parallel.shards=1", "model.tied=true"],
        &["parallel.zero=2"],
        &["parallel.zero=3", "model.recompute=true"],
    ] {
        let temp = tempfile::tempdir().unwrap();
        let dir = format!("run.dir={}", temp.path().join("run").display());
        let fixed = [&dir, "train.steps=2", "train.eval_sequences=1"];
        let sets: Vec<_> = fixed.iter().chain(sets).flat_map(|&set| ["--set", set]).collect();
        let ran = neuroshard(&[&["train"][..], &sets].concat()).ok();
        let line = ran.stdout.lines().find(|l| l.starts_with("peak memory")).unwrap();
        let numbers = line.split(|c: char| !c.is_ascii_digit()).filter(|w| !w.is_empty());
        let numbers: Vec<f64> = numbers.map(|w| w.parse().unwrap()).collect();
        let (used, predicted) = (numbers[0], numbers[1]);
        assert!((used / predicted - 1.0).abs() < 0.1, "{sets:?}: {line}");
    }
}
