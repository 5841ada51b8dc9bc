//! The scenarios that the documentation shows.

use std::fs;
use std::path::PathBuf;

use neuroshard::config::Setting;
use neuroshard::config::scenario;
use neuroshard::simulate::What;

use crate::toy;

fn all() -> Vec<PathBuf> {
    let entries = fs::read_dir("docs/scenarios").unwrap();
    let mut all: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    all.retain(|path| path.extension().is_some_and(|e| e == "toml"));
    all.sort();
    all
}

#[test]
fn every_example_is_a_scenario_and_toys_run() {
    assert!(all().len() >= 4);
    for path in all() {
        let setting = Setting::read(&path).unwrap();
        let scenario = scenario(&setting, &[]);
        let scenario = scenario.unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let stem = path.file_stem().unwrap().to_str().unwrap();
        assert_eq!(scenario.scenario.name, stem, "a folder is named as its scenario");
        // What is written is read again.
        let text = scenario.to_toml();
        let again = neuroshard::config::scenario(&Setting::of("written", &text), &[]).unwrap();
        assert_eq!(again, scenario);
        assert_eq!(again.hash(), scenario.hash());
        if scenario.scenario.objective == What::Toy {
            let (_, records) = toy(&scenario);
            assert!(records.len() > 1, "{}", path.display());
        }
    }
}
