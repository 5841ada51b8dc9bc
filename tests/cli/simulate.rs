//! `neuroshard simulate`: grids, seeds, jobs, resume, and what it refuses.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use crate::process::Ran;
use crate::process::neuroshard;

const TOY: &str = "[scenario]\nname = \"little\"\nobjective = \"toy\"\n[train]\nsteps = 40\n\
                   [outer]\ninner_steps = 10\n[codec]\nkind = \"f32\"\n\
                   [[clusters]]\ncount = 4\n[[clusters]]\ncount = 1\nattack = { kind = \"noise\" }\n";

struct Dir(tempfile::TempDir);

impl Dir {
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("little.toml"), TOY).unwrap();
        Self(temp)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Simulates into folder `out`.
    fn run(&self, out: &str, more: &[&str]) -> Ran {
        let (scenario, out) = (self.path("little.toml"), self.path(out));
        let fixed = ["simulate", scenario.to_str().unwrap(), "--out", out.to_str().unwrap()];
        neuroshard(&[&fixed[..], more].concat())
    }
}

/// The results of all runs in a folder, by name; of summaries what does not tell of the machine.
fn results(dir: &Path) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if !path.is_dir() {
            all.push((name, fs::read_to_string(&path).unwrap()));
            continue;
        }
        let rounds = fs::read_to_string(path.join("rounds.jsonl")).unwrap();
        let summary = fs::read_to_string(path.join("summary.json")).unwrap();
        let mut summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        summary.as_object_mut().unwrap().remove("machine").unwrap();
        all.push((name, format!("{rounds}{summary}")));
    }
    all.sort();
    all
}

const GRID: [&str; 4] = ["--grid", "aggregate.rule=mean,geometric_median,krum", "--seeds", "1,2,3"];

#[test]
fn jobs_and_threads_do_not_show_in_results() {
    let dir = Dir::new();
    let ran = dir.run("one", &GRID).ok();
    assert!(ran.stdout.contains("runs      9 (3 seeds)"), "{}", ran.stdout);
    for row in ["aggregate.rule=mean", "aggregate.rule=krum"] {
        assert!(ran.stdout.contains(row), "{}", ran.stdout);
    }
    let one = results(&dir.path("one"));
    assert_eq!(one.len(), 9 + 2, "nine runs, and two tables");
    dir.run("many", &[&GRID[..], &["--jobs", "3", "--threads", "3"]].concat()).ok();
    assert!(results(&dir.path("many")) == one);
    let table = fs::read_to_string(dir.path("one/sweep.jsonl")).unwrap();
    let rows: Vec<serde_json::Value> =
        table.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(rows[0]["seeds"], 3);
    let losses: Vec<f64> =
        rows[0]["eval_loss"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
    assert!(losses[1] <= losses[0] && losses[0] <= losses[2], "{losses:?}");
}

#[test]
fn finished_runs_are_kept_and_others_begin_anew() {
    let dir = Dir::new();
    dir.run("out", &GRID).ok();
    let whole = results(&dir.path("out"));
    dir.run("out", &GRID).refused(1, &["holds this run already", "--resume"]);
    // One run was under way, one had not begun.
    let runs: Vec<_> = whole.iter().map(|(name, _)| name).filter(|n| n.contains('-')).collect();
    fs::remove_file(dir.path("out").join(runs[0]).join("summary.json")).unwrap();
    fs::write(dir.path("out").join(runs[0]).join("rounds.jsonl"), "{\"exch").unwrap();
    fs::remove_dir_all(dir.path("out").join(runs[1])).unwrap();
    let ran = dir.run("out", &[&GRID[..], &["--resume"]].concat()).ok();
    assert_eq!(ran.stdout.matches("\nkept").count(), 7, "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("\ndone").count(), 2, "{}", ran.stdout);
    // Not assert_eq: nobody reads a page of JSON.
    assert!(results(&dir.path("out")) == whole);
    // A summary that is none.
    fs::write(dir.path("out").join(runs[2]).join("summary.json"), "{}").unwrap();
    let again = [&GRID[..], &["--resume"]].concat();
    dir.run("out", &again).refused(1, &["not a summary", "remove the folder"]);
}

#[test]
fn a_run_can_be_run_again_from_its_folder() {
    let dir = Dir::new();
    dir.run("out", &["--set", "clusters.1.attack.kind=zero"]).ok();
    let all = results(&dir.path("out"));
    let (name, text) = &all[0];
    let scenario = dir.path("out").join(name).join("scenario.toml");
    let again = dir.path("again");
    let args = ["simulate", scenario.to_str().unwrap(), "--out", again.to_str().unwrap()];
    neuroshard(&args).ok();
    assert!(results(&again)[0] == (name.clone(), text.clone()));
}

#[test]
fn a_dry_run_tells_and_begins_nothing() {
    let dir = Dir::new();
    let ran = dir.run("out", &[&GRID[..], &["--dry-run"]].concat()).ok();
    assert!(ran.stdout.contains("runs      9") && ran.stdout.contains("about"), "{}", ran.stdout);
    assert!(ran.stdout.contains("aggregate.rule=krum"), "{}", ran.stdout);
    assert!(!dir.path("out").exists());
}

#[test]
fn what_cannot_be_is_told_at_once() {
    let dir = Dir::new();
    let grid = |text| vec!["--grid", text];
    let set = |text| vec!["--set", text];
    for (more, words) in [
        (set("aggregate.rule=krumm"), &["aggregate.rule", "unknown variant `krumm`", "`krum`"][..]),
        (grid("aggregate.rule=mean,krumm"), &["aggregate.rule=krumm", "did you mean `krum`?"]),
        (set("aggregate.faulty=3"), &["aggregate.rule", "there are 5", "aggregate.faulty"]),
        (set("clusters.2.count=3"), &[]),
        (set("clusters.5.count=3"), &["clusters.5", "there are only 2"]),
        (set("clusters.1.attack.kind=krum"), &["clusters.1.attack", "unknown variant"]),
        (set("clusters.1.attack={kind=\"zero\",rounds=3}"), &["clusters.1.attack.rounds"]),
        (set("codec.kind=f23"), &["codec.kind", "`f32`?"]),
        (set("network.los=0.1"), &["network.los", "network.loss?"]),
        (set("outer.inner_steps=7"), &["train.steps", "take 42"]),
        (set("scenario.name=a/b"), &["scenario.name", "folder"]),
        (set("scenario.control=true"), &["scenario.control", "neurollm"]),
        (grid("aggregate.rule"), &["--grid aggregate.rule", "key=value"]),
        (grid("a.b+c.d=1:2:3"), &["has 3 values, not 2"]),
        (vec!["--seeds", "1,x"], &["--seeds"]),
    ] {
        let code = if more[0] == "--seeds" { 2 } else { 1 };
        match words.is_empty() {
            true => drop(dir.run("ok", &more).ok()),
            false => drop(dir.run("out", &more).refused(code, words)),
        }
        assert!(!dir.path("out").exists(), "{more:?}");
    }
    let missing = dir.path("none.toml");
    neuroshard(&["simulate", missing.to_str().unwrap()]).refused(1, &["none.toml"]);
}

#[test]
fn a_grid_that_explodes_is_not_begun() {
    let dir = Dir::new();
    let seeds: Vec<String> = (1..=65).map(|seed: u64| seed.to_string()).collect();
    let seeds = seeds.join(",");
    let many = ["--seeds", &seeds];
    let ran = dir.run("out", &many).refused(1, &["64 runs", "--yes", "--dry-run"]);
    assert!(ran.stdout.contains("runs      65"), "{}", ran.stdout);
    let long = ["--set", "train.steps=4000000000"];
    let ran = dir.run("out", &long).refused(1, &["60 min", "--yes"]);
    assert!(ran.stdout.contains(" h with 1 at a time"), "{}", ran.stdout);
    let axis = format!("toy.noise={}", vec!["0.1"; 400].join(","));
    let spread = axis.replace("noise", "spread");
    let grids = ["--grid", &axis, "--grid", &spread, "--yes"];
    dir.run("out", &grids).refused(1, &["400 x 400 points", "fewer values"]);
    assert!(!dir.path("out").exists());
    dir.run("out", &[&many[..], &["--yes", "--jobs", "2"]].concat()).ok();
}
