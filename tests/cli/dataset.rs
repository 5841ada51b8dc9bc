//! Prepared folders as an agreed dataset: shown, verified, proved.

use std::fs;

use crate::process::neuroshard;

fn text() -> String {
    let words = ["the", "whale", "sails", "round", "cape", "horn", "and", "never", "sleeps"];
    (0..20_000u64).map(|i| format!("{} ", words[(i * i / 7 % 9) as usize])).collect()
}

fn root_of(stdout: &str) -> &str {
    let line = stdout.lines().find(|line| line.starts_with("root ")).unwrap();
    line.split_whitespace().nth(1).unwrap()
}

#[test]
fn a_folder_is_shown_verified_and_proved() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("a.txt"), text()).unwrap();
    let (data, proof) = (path("data"), path("proof"));
    let ran =
        neuroshard(&["data", "prepare", &path("a.txt"), "--out", &data, "--vocab-size", "300"])
            .ok();
    let root = root_of(&ran.stdout);
    assert!(neuroshard(&["data", "show", &data]).ok().stdout.contains(root));
    neuroshard(&["data", "verify", &data, "--root", root]).ok();
    let other = "00".repeat(32);
    neuroshard(&["data", "verify", &data, "--root", &other])
        .refused(1, &["manifest.json", "another dataset"]);
    neuroshard(&["data", "verify", &data, "--root", "xyz"]).refused(2, &["xyz"]);
    let args = ["data", "prove", &data, "--sequence", "3", "--seq-len", "256", "--out", &proof];
    neuroshard(&args).ok();
    neuroshard(&args).refused(1, &["proof", "exists"]);
    fs::rename(&data, path("elsewhere")).unwrap();
    let ran = neuroshard(&["data", "check", &proof, "--root", root, "--tokens"]).ok();
    assert!(ran.stdout.contains("training sequence 3"), "{}", ran.stdout);
    assert_eq!(ran.stdout.lines().last().unwrap().split(' ').count(), 257);
    neuroshard(&["data", "check", &proof, "--root", &other]).refused(1, &["proof", root]);
    let mut bytes = fs::read(&proof).unwrap();
    bytes.truncate(100);
    fs::write(&proof, &bytes).unwrap();
    neuroshard(&["data", "check", &proof, "--root", root]).refused(1, &["proof", "truncated"]);
    neuroshard(&["data", "show", &data]).refused(1, &["data prepare"]);
}

/// Kills a preparation as soon as it has finished some shards.
fn kill_midway(args: &[String], partial: &std::path::Path) {
    let mut child = crate::process::start(args);
    let begun = std::time::Instant::now();
    while !partial.join("shard-000002.tokens").exists() {
        assert!(begun.elapsed().as_secs() < 120, "no shard in two minutes");
        assert!(child.try_wait().unwrap().is_none(), "it ended before it could be killed");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_killed_preparation_goes_on_to_the_same_root() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    let text: String = (0..60_000u64)
        .map(|i| {
            let word = |k: u64| (i * i * 31 + k * 7919) % 5003;
            format!(
                "{{\"text\": \"{:x} is {:x} or {:x} but {:x} of {i}\"}}\n",
                word(1),
                word(2),
                word(3),
                word(4)
            )
        })
        .collect();
    fs::write(path("a.jsonl"), text).unwrap();
    let args = |out: &str, rest: &[&str]| {
        let input = path("a.jsonl");
        let all = [
            "data",
            "prepare",
            &input,
            "--out",
            out,
            "--vocab-size",
            "300",
            "--shard-tokens",
            "20000",
        ];
        all.iter().chain(rest).map(|&a| a.to_owned()).collect::<Vec<String>>()
    };
    let run = |args: &[String]| neuroshard(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let want = run(&args(&path("whole"), &[])).ok();
    let partial = temp.path().join(".data.partial");
    let out = path("data");
    kill_midway(&args(&out, &[]), &partial);
    assert!(!temp.path().join("data").exists());
    // A finished shard that was damaged since is made again.
    let shard = partial.join("shard-000001.tokens");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[500] ^= 1;
    fs::write(&shard, bytes).unwrap();
    let ran = run(&args(&out, &[])).ok();
    assert!(ran.stderr.contains("going on"), "{}", ran.stderr);
    assert_eq!(root_of(&ran.stdout), root_of(&want.stdout));
    neuroshard(&["data", "verify", &out]).ok();
    let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.retain(|name| !name.to_str().unwrap().starts_with("shard-"));
    names.sort();
    assert_eq!(names, ["manifest.json", "tokenizer.json"]);
    // Work of another command line is not gone on with.
    let other = path("other");
    kill_midway(&args(&other, &[]), &temp.path().join(".other.partial"));
    let ran = run(&args(&other, &["--seed", "5"])).ok();
    assert!(ran.stderr.contains("anew"), "{}", ran.stderr);
    neuroshard(&["data", "verify", &other]).ok();
    assert!(!temp.path().join(".other.partial").exists());
}

#[test]
fn keys_are_made_once_and_sign_datasets() {
    let temp = tempfile::tempdir().unwrap();
    let path = |name: &str| temp.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("a.txt"), text()).unwrap();
    let ran = neuroshard(&["data", "key", "--out", &path("key")]).ok();
    let public = ran.stdout.split_whitespace().find(|word| word.len() == 64).unwrap().to_owned();
    neuroshard(&["data", "key", "--out", &path("key")]).refused(1, &["key", "exists"]);
    let (input, data) = (path("a.txt"), path("data"));
    let all =
        ["data", "prepare", &input, "--out", &data, "--vocab-size", "300", "--sign", &path("key")];
    neuroshard(&all).ok();
    let ran = neuroshard(&["data", "verify", &data, "--maker", &public]).ok();
    assert!(ran.stdout.contains(&public), "{}", ran.stdout);
    neuroshard(&["data", "verify", &data, "--maker", &"11".repeat(32)])
        .refused(1, &["manifest.json", "not by"]);
}
