//! Configurations that cannot be: every complaint at once, each with its key and its place.

use std::fs;

use crate::process::neuroshard;
use crate::process::small_run;
use crate::process::train;

#[test]
fn all_complaints_come_at_once() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("run.toml");
    let text = "[model]\nheads = 5\nkv_heads = 3\nwdith = 192\n[train]\nsteps = 0\n\
                [optim]\nlr = -1.0\n[device]\nlevel = \"sse\"\n[flavour]\nx = 1\n";
    fs::write(&file, text).unwrap();
    let ran = neuroshard(&["train", "--config", file.to_str().unwrap(), "--set", "train.seqlen=4"]);
    let words = [
        "run.toml",
        "model.wdith",
        "model.width?",
        "train.seqlen",
        "train.seq_len?",
        "model.kv_heads: 3 does not divide the 5 query heads",
        "train.steps",
        "optim.lr",
        "flavour",
    ];
    ran.refused(1, &words);
}

#[test]
fn each_wrong_value_is_named() {
    let temp = tempfile::tempdir().unwrap();
    for (set, words) in [
        ("model.preset=nan0", &["model.preset", "nano"][..]),
        ("model.head_dim=7", &["model.head_dim", "odd"]),
        ("model.width=0", &["model.width"]),
        ("model.layers=18446744073709551615", &["model.layers"]),
        ("model.vocab=99999999999999", &["model.vocab"]),
        ("train.steps=many", &["train.steps"]),
        ("parallel.shards=3", &["parallel.shards", "power of two", "take 4"]),
        ("parallel.shards=32", &["parallel.shards", "train.batch_sequences", "take 4"]),
        ("parallel.stages=7", &["parallel.stages", "1..=2"]),
        ("parallel.zero=4", &["parallel.zero", "0, 1, 2, 3"]),
        ("train.seq_len=15", &["train.seq_len", "odd"]),
        ("train.seq_len=99999999999999", &["train.seq_len"]),
        ("numerics.profile=f64", &["numerics.profile", "bf16"]),
        ("device.level=sse9", &["device.level", "portable", "auto"]),
        ("device.threads=999999", &["device.threads"]),
        ("optim.betas=[0.9,1.5]", &["optim.betas"]),
        ("optim.schedule=linear", &["optim.schedule", "cosine"]),
        ("data.dir=/nonexistent/books", &["/nonexistent/books", "data prepare"]),
        ("nonsense", &["nonsense", "section.key=value"]),
        ("a.b.c=1", &["a"]),
    ] {
        let started = std::time::Instant::now();
        let ran = train(&temp.path().join("run"), &[set]).refused(1, words);
        assert!(ran.stderr.starts_with("error: "), "{}", ran.stderr);
        assert!(started.elapsed().as_secs() < 20, "{set}");
        assert!(!temp.path().join("run/checkpoints").exists(), "{set}");
    }
}

#[test]
fn broken_toml_is_shown_by_line() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("run.toml");
    for (text, words) in [
        ("[train]\nsteps = = 4\n", &["run.toml", "run.toml:2:"][..]),
        ("[train\n", &["run.toml", "run.toml:1:"]),
        ("\u{1}\u{2}", &["run.toml"]),
    ] {
        fs::write(&file, text).unwrap();
        neuroshard(&["train", "--config", file.to_str().unwrap()]).refused(1, words);
    }
    fs::write(&file, [0xff, 0xfe, 0x00]).unwrap();
    neuroshard(&["train", "--config", file.to_str().unwrap()]).refused(1, &["run.toml", "UTF-8"]);
    let missing = temp.path().join("missing.toml");
    neuroshard(&["train", "--config", missing.to_str().unwrap()]).refused(1, &["missing.toml"]);
}

#[test]
fn a_command_line_that_makes_no_sense_exits_with_2() {
    for args in [&["trian"][..], &["train", "--stes", "4"], &["logits"], &["eval"], &[]] {
        let ran = neuroshard(args);
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.stderr);
    }
}

#[test]
fn a_loss_that_is_no_number_names_place_and_remedy() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    let sets = ["optim.lr=1e30", "optim.warmup_steps=0", "train.checkpoint_every=1"];
    train(&dir, &sets).refused(1, &["step", "optim.lr"]);
    neuroshard(&["checkpoint", "verify", dir.to_str().unwrap()]).ok();
    // The folder is taken; without --resume nothing is overwritten.
    let args = small_run(&dir, &[]);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    neuroshard(&args).refused(1, &["--resume"]);
}
