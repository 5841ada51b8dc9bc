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

#[test]
fn every_example_in_a_guide_is_part_of_a_scenario() {
    let mut seen = 0;
    for guide in ["docs/SIMULATE.md", "docs/ATTACKERS.md"] {
        let text = fs::read_to_string(guide).unwrap();
        for example in text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap())
        {
            // Where it has liars only, honest clusters are left to the reader.
            let text = format!("{example}\n[[clusters]]\ncount = 8\n");
            let read = scenario(&Setting::of(guide, &text), &["train.steps=100".to_owned()]);
            read.unwrap_or_else(|e| panic!("{e}\n{example}"));
            seen += 1;
        }
    }
    assert!(seen >= 2);
}
