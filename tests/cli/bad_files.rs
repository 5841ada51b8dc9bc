//! Texts, shards and checkpoints that are not what they should be.

use std::fs;
use std::path::Path;

use crate::process::neuroshard;
use crate::process::train;

fn prepare(input: &Path, out: &Path) -> crate::process::Ran {
    let (input, out) = (input.to_str().unwrap(), out.to_str().unwrap());
    neuroshard(&["data", "prepare", input, "--out", out, "--vocab-size", "300"])
}

/// Some hundred kilobytes of text that a tokenizer can be trained on.
fn text() -> String {
    let words = ["the", "whale", "sails", "round", "cape", "horn", "and", "never", "sleeps"];
    let mut x = 1u64;
    let mut next = || {
        x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        words[(x >> 40) as usize % words.len()]
    };
    (0..40_000).map(|i| format!("{}{}", next(), if i % 12 == 11 { ".\n" } else { " " })).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[test]
fn texts_that_are_none_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let (file, out) = (temp.path().join("a.txt"), temp.path().join("out"));
    prepare(&temp.path().join("none.txt"), &out).refused(1, &["none.txt"]);
    for (bytes, words) in [
        (&b""[..], &["a.txt", "empty"][..]),
        (b"ab\xff\xfecd", &["a.txt", "UTF-8", "2"]),
        (b"\x7fELF\0\0\0\0\x01\0\0\0", &["a.txt"]),
    ] {
        fs::write(&file, bytes).unwrap();
        prepare(&file, &out).refused(1, words);
        assert!(!out.join("manifest.json").exists());
    }
    fs::create_dir(temp.path().join("hollow")).unwrap();
    prepare(&temp.path().join("hollow"), &out).refused(1, &["hollow", ".txt"]);
}

#[test]
fn damaged_data_is_found_before_training() {
    let temp = tempfile::tempdir().unwrap();
    let (file, data) = (temp.path().join("a.txt"), temp.path().join("data"));
    fs::write(&file, text()).unwrap();
    prepare(&file, &data).ok();
    prepare(&file, &data).refused(1, &["data", "empty"]);
    let set = format!("data.dir={}", data.display());
    let sets = [&set[..], "model.vocab=300", "train.steps=3"];
    train(&temp.path().join("good"), &sets).ok();
    train(&temp.path().join("small"), &[&set])
        .refused(1, &["model.vocab: 64", "--set model.vocab="]);
    let shards: Vec<_> = fs::read_dir(&data).unwrap().map(|e| e.unwrap().path()).collect();
    for (i, path) in shards.iter().filter(|p| p.is_file()).enumerate() {
        let (name, good) = (path.file_name().unwrap().to_str().unwrap(), fs::read(path).unwrap());
        let run = |what: &str| temp.path().join(format!("{what}{i}"));
        flip(path, good.len() / 2);
        train(&run("flipped"), &sets).refused(1, &[name]);
        fs::write(path, &good[..good.len() * 2 / 3]).unwrap();
        train(&run("short"), &sets).refused(1, &[name]);
        fs::remove_file(path).unwrap();
        train(&run("gone"), &sets).refused(1, &[name]);
        fs::write(path, good).unwrap();
    }
    train(&temp.path().join("again"), &sets).ok();
}

#[test]
fn damaged_checkpoints_are_named_and_never_used() {
    let temp = tempfile::tempdir().unwrap();
    let run = temp.path().join("run");
    train(&run, &["train.steps=3"]).ok();
    let checkpoint = run.join("checkpoints/00000003");
    let dir = checkpoint.to_str().unwrap();
    for name in ["weights.safetensors", "optimizer.safetensors", "manifest.json"] {
        let path = checkpoint.join(name);
        let good = fs::read(&path).unwrap();
        for place in [3, good.len() / 2, good.len() - 2] {
            flip(&path, place);
            neuroshard(&["checkpoint", "verify", dir]).refused(1, &[name]);
            flip(&path, place);
        }
        fs::write(&path, &good[..good.len() / 2]).unwrap();
        neuroshard(&["checkpoint", "verify", dir]).refused(1, &[name]);
        if name != "optimizer.safetensors" {
            neuroshard(&["eval", "--checkpoint", dir]).refused(1, &[name]);
            neuroshard(&["logits", "--checkpoint", dir, "--tokens", "1"]).refused(1, &[name]);
            neuroshard(&["generate", "--checkpoint", dir]).refused(1, &[name]);
        }
        fs::remove_file(&path).unwrap();
        neuroshard(&["checkpoint", "verify", dir]).refused(1, &[name]);
        fs::write(&path, good).unwrap();
    }
    neuroshard(&["checkpoint", "verify", dir]).ok();
    // A length field of the header that asks for more memory than there is.
    let path = checkpoint.join("weights.safetensors");
    let good = fs::read(&path).unwrap();
    fs::write(&path, [&u64::MAX.to_le_bytes()[..], &good[8..]].concat()).unwrap();
    neuroshard(&["eval", "--checkpoint", dir]).refused(1, &["weights.safetensors"]);
    fs::write(&path, good).unwrap();
    neuroshard(&["logits", "--checkpoint", dir, "--tokens", "1,64"]).refused(1, &["64"]);
    neuroshard(&["logits", "--checkpoint", dir, "--tokens", "one"]).refused(2, &["one"]);
    neuroshard(&["eval", "--checkpoint", "/nonexistent"]).refused(1, &["/nonexistent"]);
}
