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
