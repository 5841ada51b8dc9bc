//! A disk without room: one clear error, and what was saved before stays whole.

use std::path::Path;

use crate::process::PROGRAM;
use crate::process::neuroshard;
use crate::process::shell;
use crate::process::small_run;
use crate::process::state_hash;
use crate::process::train;

/// The run folder is whole after a failure: its checkpoints verify, and it can be resumed to the
/// bits of a run that never failed.
fn whole_again(dir: &Path, sets: &[&str], want: &str) {
    neuroshard(&["checkpoint", "verify", dir.to_str().unwrap()]).ok();
    let args = small_run(dir, sets);
    let rest = ["--set", "train.stop_after=0", "--resume"];
    neuroshard(&args.iter().map(String::as_str).chain(rest).collect::<Vec<_>>()).ok();
    assert_eq!(state_hash(&dir.join("checkpoints/00000040")), want);
}

#[test]
fn a_limit_on_file_size_is_an_error_like_any_other() {
    let temp = tempfile::tempdir().unwrap();
    let (whole, dir) = (temp.path().join("whole"), temp.path().join("limited"));
    let sets = ["train.checkpoint_every=10"];
    train(&whole, &sets).ok();
    let want = state_hash(&whole.join("checkpoints/00000040"));
    train(&dir, &["train.checkpoint_every=10", "train.stop_after=10"]).ok();
    // A checkpoint's files have some 50 KiB; `ulimit -f` counts blocks of 512 bytes.
    let args = small_run(&dir, &sets);
    let rest = ["--set", "train.stop_after=0", "--resume"];
    let args: Vec<&str> = args.iter().map(String::as_str).chain(rest).collect();
    let ran = shell("ulimit -f 30 && exec \"$PROGRAM\" \"$@\"", &args);
    ran.refused(1, &["checkpoints", "cannot reserve room", "File too large"]);
    whole_again(&dir, &sets, &want);
}

#[test]
fn a_full_disk_loses_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let sets = ["train.checkpoint_every=10", "train.keep_checkpoints=0"];
    let whole = temp.path().join("whole");
    train(&whole, &sets).ok();
    let want = state_hash(&whole.join("checkpoints/00000040"));
    // In a mount namespace of its own: a disk with room for two checkpoints and a half.
    let disk = temp.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    let (disk, out) = (disk.to_str().unwrap(), temp.path().join("out"));
    let out = out.to_str().unwrap();
    let args = small_run(&Path::new(disk).join("run"), &sets);
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let script = format!(
        "unshare --user --map-root-user --mount sh -c '
           mount -t tmpfs -o size=300k none \"{disk}\" 2>/dev/null || exit 77
           \"{PROGRAM}\" \"$@\"; code=$?
           cp -r \"{disk}/run\" \"{out}\"; exit $code' sh \"$@\""
    );
    let ran = shell(&script, &args);
    if ran.code == Some(77) || ran.stderr.contains("unshare") {
        eprintln!("SKIPPED LOUDLY: no tmpfs can be mounted here, so no disk was filled");
        return;
    }
    ran.refused(1, &["No space left on device", "make room", disk]);
    whole_again(Path::new(out), &sets, &want);
}
