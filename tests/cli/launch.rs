//! `neuroshard launch`: scripts that mean what the arguments say, and refusals.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::process::PROGRAM;
use crate::process::neuroshard;

/// Runs a job script as Slurm would, with a stand-in for `srun` that prints its arguments, one a
/// line, and ends with `code`; and one for `scontrol`, by which the job is running.
fn run_script(script: &str, dir: &Path, variables: &[(&str, &str)], code: i32) -> (i32, String) {
    let bin = dir.join("bin");
    fs::create_dir_all(&bin).unwrap();
    let program = |name: &str, text: &str| {
        let path = bin.join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    program("srun", &format!("printf '%s\\n' \"$@\"; exit {code}"));
    program("scontrol", "echo \"scontrol $*\" >> calls; echo JobState=RUNNING");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let output = Command::new("bash")
        .args(["-c", script])
        .current_dir(dir)
        .env("PATH", path)
        .envs([("SLURM_JOB_ID", "7"), ("SLURM_JOB_NAME", "job"), ("SLURM_NTASKS", "2")])
        .envs([("SLURM_JOB_NODELIST", "n[1-2]"), ("SLURM_CPUS_PER_TASK", "3"), ("LAUNCH", "plain")])
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let words = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(words).unwrap())
}

/// Arguments of the ranks in the last run of a script, from `train` on.
fn ranks_arguments(dir: &Path) -> Vec<String> {
    let log = fs::read_to_string(dir.join("job-7.ranks.log")).unwrap();
    let lines: Vec<_> = log.lines().map(str::to_owned).collect();
    let train = lines.iter().rposition(|line| line == "train").unwrap();
    assert_eq!(lines[train - 1], PROGRAM);
    lines[train..].to_vec()
}

#[test]
fn the_script_runs_what_was_asked_for_word_by_word() {
    let temp = tempfile::tempdir().unwrap();
    let config = temp.path().join("it's $HOME; `a` run.toml");
    fs::write(&config, "[run]\ndir = \"runs/one $x\"\n[train]\nsteps = 7\n").unwrap();
    let ran = neuroshard(&[
        "launch",
        "slurm",
        "--config",
        config.to_str().unwrap(),
        "--nodes",
        "2",
        "--tasks-per-node",
        "2",
        "--partition",
        "gpu,big",
        "--account",
        "proj",
        "--time",
        "2-12",
        "--gpus-per-node",
        "4",
        "--module",
        "openmpi/4.1",
        "--set",
        "data.dir=my $books; 'x'",
        "--name",
        "n1",
        "--dry-run",
    ])
    .ok();
    let script = ran.stdout;
    for line in [
        "job-name=n1",
        "nodes=2",
        "ntasks-per-node=2",
        "cpus-per-task=1",
        "partition=gpu,big",
        "account=proj",
        "time=2-12",
        "gpus-per-node=4",
        "signal=B:USR1@120",
        "requeue",
    ] {
        assert!(script.contains(&format!("\n#SBATCH --{line}\n")), "{line}\n{script}");
    }
    assert!(script.contains("\nMODULES=openmpi/4.1\n"));
    // No modules here.
    let script = script.replace("\nMODULES=openmpi/4.1\n", "\nMODULES=\n");
    let (code, words) = run_script(&script, temp.path(), &[], 0);
    assert_eq!(code, 0, "{words}");
    let want = [
        "train",
        "--set",
        "device.threads=3",
        "--set",
        "run.dir=runs/one $x",
        "--config",
        config.to_str().unwrap(),
        "--set",
        "data.dir=my $books; 'x'",
    ];
    assert_eq!(ranks_arguments(temp.path()), want);
}

#[test]
fn the_script_does_what_the_shipped_one_does() {
    let ran = neuroshard(&["launch", "slurm", "--nodes", "1", "--dry-run"]).ok();
    let body = |script: &str| script[script.find("# ---- What runs.").unwrap()..].to_owned();
    assert_eq!(body(&ran.stdout), body(&fs::read_to_string("slurm/train.sbatch").unwrap()));
}

#[test]
fn exit_codes_and_restarts_decide_what_a_job_does() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path();
    let script = fs::read_to_string("slurm/train.sbatch").unwrap();
    let shell = [("NEUROSHARD", PROGRAM)];
    let (code, words) = run_script(&script, dir, &shell, 0);
    assert!(code == 0 && words.contains("done"), "{words}");
    assert!(!ranks_arguments(dir).contains(&"--resume".to_owned()));
    let restarted = [shell[0], ("SLURM_RESTART_COUNT", "1")];
    let (code, words) = run_script(&script, dir, &restarted, 3);
    assert!(code == 3 && words.contains("FAILED with code 3") && words.contains("--resume\n"));
    assert_eq!(ranks_arguments(dir).last().unwrap(), "--resume");
    fs::create_dir_all(dir.join("runs/job-7/checkpoints/00000010")).unwrap();
    let exits = [shell[0], ("ON_STOP", "exit"), ("SETS", "train.steps=9 optim.lr=1e-3")];
    let (code, words) = run_script(&script, dir, &exits, 85);
    assert!(code == 85 && words.contains("stopped with a checkpoint"), "{words}");
    let want =
        ["run.dir=runs/job-7", "--set", "train.steps=9", "--set", "optim.lr=1e-3", "--resume"];
    assert_eq!(ranks_arguments(dir)[4..], want);
    assert!(!fs::read_to_string(dir.join("calls")).unwrap().contains("requeue"));
}

#[test]
fn arrays_take_one_line_of_a_file_each() {
    let temp = tempfile::tempdir().unwrap();
    let sweep = temp.path().join("a sweep.txt");
    fs::write(&sweep, "optim.lr=1e-3 train.steps=4\noptim.lr=3e-4\n").unwrap();
    let sweep = sweep.to_str().unwrap();
    let args = ["launch", "slurm", "--nodes", "1", "--array", sweep, "--dry-run"];
    let script = neuroshard(&args).ok().stdout;
    assert!(script.contains("\n#SBATCH --array=1-2\n"), "{script}");
    let (code, words) = run_script(&script, temp.path(), &[("SLURM_ARRAY_TASK_ID", "2")], 0);
    assert_eq!(code, 0, "{words}");
    let words = ranks_arguments(temp.path());
    assert_eq!(words[4..], ["run.dir=runs/default/2", "--set", "optim.lr=3e-4"]);
    fs::write(sweep, "optim.lr=1e-3\n\n").unwrap();
    neuroshard(&args).refused(1, &["--array", "line 2"]);
    fs::write(sweep, "optim.lr=1e-3\noptim.lf=1\n").unwrap();
    neuroshard(&args).refused(1, &["--array", "line 2", "did you mean optim.lr"]);
}

#[test]
fn what_cannot_run_is_refused_before_it_is_queued() {
    let launch = |args: &[&str]| neuroshard(&[&["launch", "slurm", "--dry-run"], args].concat());
    launch(&["--nodes", "3"])
        .refused(1, &["--nodes 3", "8 shards", "parallel.shards", "start 2 ranks"]);
    launch(&["--nodes", "2", "--tasks-per-node", "8"]).refused(1, &["16 ranks", "start 8 ranks"]);
    launch(&["--nodes", "3", "--set", "parallel.stages=2"]).refused(1, &["parallel.stages"]);
    launch(&["--nodes", "0"]).refused(2, &["--nodes"]);
    launch(&[]).refused(2, &["--nodes"]);
    launch(&["--nodes", "2", "--time", "1h"]).refused(1, &["--time", "1h", "2-00"]);
    launch(&["--nodes", "2", "--partition", "a b"]).refused(1, &["--partition", "a b"]);
    launch(&["--nodes", "2", "--account", "x\n#SBATCH --uid=0"]).refused(1, &["--account"]);
    launch(&["--nodes", "2", "--module", "a;b"]).refused(1, &["--module"]);
    launch(&["--nodes", "2", "--set", "train.stepz=1"]).refused(1, &["train.steps"]);
    launch(&["--nodes", "2", "--config", "/nowhere/run.toml"]).refused(1, &["/nowhere/run.toml"]);
}

#[test]
fn submitting_prints_the_jobs_number_or_says_why_not() {
    let temp = tempfile::tempdir().unwrap();
    let submit = |path: String| {
        let mut command = Command::new(PROGRAM);
        command.args(["launch", "slurm", "--nodes", "2"]).env("PATH", path);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, words) = submit("/nowhere".into());
    assert!(code == Some(1) && words.contains("--dry-run"), "{words}");
    let path = || format!("{}:{}", temp.path().display(), std::env::var("PATH").unwrap());
    let sbatch = |text: &str| {
        let path = temp.path().join("sbatch");
        fs::write(&path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    };
    sbatch("#!/bin/sh\ngrep -q 'SBATCH --nodes=2' && echo '42;cluster'\n");
    assert_eq!(submit(path()), (Some(0), "submitted job 42\n".into(), String::new()));
    sbatch("#!/bin/sh\ncat > /dev/null\necho 'invalid account' >&2\nexit 1\n");
    let (code, _, words) = submit(path());
    assert!(code == Some(1) && words.contains("invalid account"), "{words}");
}
