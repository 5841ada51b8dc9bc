//! `neuroshard config`: the reference is that of docs/CONFIG.md, and settings are printed as they hold.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::process::neuroshard;
use crate::process::train;

#[test]
fn the_reference_is_the_one_in_the_docs() {
    let printed = neuroshard(&["config", "reference"]).ok().stdout;
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CONFIG.md");
    let kept = fs::read_to_string(path).unwrap_or_default();
    let differs = printed.lines().zip(kept.lines()).position(|(now, then)| now != then);
    let line = differs.unwrap_or(printed.lines().count().min(kept.lines().count())) + 1;
    assert!(
        printed == kept,
        "docs/CONFIG.md is stale from line {line} on; renew it: \
         cargo run -- config reference > docs/CONFIG.md"
    );
}

#[test]
fn the_settings_in_force_are_those_that_a_run_keeps() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    train(&dir, &["train.steps=2", "optim.lr=3e-4"]).ok();
    let kept = fs::read_to_string(dir.join("config.toml")).unwrap();
    let config = dir.join("config.toml");
    let show = |sets: &[&str]| {
        let sets = sets.iter().flat_map(|&set| ["--set", set]);
        let args = ["config", "show", "--config", config.to_str().unwrap()];
        neuroshard(&args.into_iter().chain(sets).collect::<Vec<_>>())
    };
    assert_eq!(show(&[]).ok().stdout, kept);
    let other = show(&["optim.lr=1e-3", "train.stop_after=1"]).ok().stdout;
    assert_eq!(
        other,
        kept.replace("lr = 0.0003", "lr = 0.001").replace("stop_after = 0", "stop_after = 1")
    );
    assert!(neuroshard(&["config", "show"]).ok().stdout.contains("\nsteps = 300\n"));
    show(&["optim.lrs=1"]).refused(1, &["--set: optim.lrs: unknown key; did you mean optim.lr?"]);
}

#[test]
fn the_example_of_the_reference_is_a_run_file() {
    let text = neuroshard(&["config", "reference"]).ok().stdout;
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("run.toml");
    fs::write(&path, example).unwrap();
    let shown = neuroshard(&["config", "show", "--config", path.to_str().unwrap()]).ok().stdout;
    let said = example.lines().filter(|line| line.contains(" = ") && !line.contains("1e-3"));
    assert!(said.clone().count() > 5);
    for line in said {
        assert!(shown.contains(&format!("{line}\n")), "{line}: {shown}");
    }
}

/// The keys of every table, as the reference has them.
fn keys() -> BTreeMap<String, BTreeSet<String>> {
    let mut tables: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut table = String::new();
    for line in neuroshard(&["config", "reference"]).ok().stdout.lines() {
        if let Some(heading) = line.strip_prefix("### `") {
            table = heading.replace(['[', ']', '`'], "");
        }
        let key = line.strip_prefix("| `").and_then(|row| row.split('`').next());
        if let Some(key) = key {
            tables.entry(table.clone()).or_default().insert(key.to_owned());
        }
    }
    tables
}

/// What a guide has between backticks and after `--set`, as table and key.
fn named(text: &str) -> Vec<(String, String)> {
    let coded = text.split('`').skip(1).step_by(2);
    let set = text.split("--set ").skip(1).map(|rest| rest.split([' ', '\n', '`']).next().unwrap());
    let paths = coded.chain(set).map(|words| words.split([' ', '=']).next().unwrap());
    paths
        .filter_map(|path| path.split_once('.'))
        .map(|(table, key)| match key.split_once('.') {
            // In a list of tables a number stands between; in an inline table a key does.
            Some((index, key)) if index.parse::<usize>().is_ok() => (table, key),
            _ => (table, key),
        })
        .map(|(table, key)| (table.to_owned(), key.split('.').next().unwrap().to_owned()))
        .collect()
}

#[test]
fn guides_name_no_key_that_is_not_there() {
    let tables = keys();
    assert!(tables["train"].contains("steps") && tables["clusters.attack"].contains("fault"));
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let guides = docs.filter(|path| path.extension().is_some_and(|e| e == "md"));
    let (mut seen, mut wrong) = (0, Vec::new());
    for path in guides.chain([root.join("README.md")]) {
        for (table, key) in named(&fs::read_to_string(&path).unwrap()) {
            let Some(keys) = tables.get(&table) else { continue };
            // Files of the tree and of a run are called like tables: `outer.json`, `train.sbatch`.
            let is_file =
                ["rs", "md", "json", "jsonl", "toml", "sbatch", "safetensors"].contains(&&key[..]);
            if !is_file && !keys.contains(&key) {
                wrong.push(format!("{}: {table}.{key}", path.display()));
            }
            seen += 1;
        }
    }
    assert!(wrong.is_empty() && seen > 50, "{seen} keys named; not there:\n{}", wrong.join("\n"));
}
