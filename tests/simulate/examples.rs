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
fn every_table_and_field_is_described() {
    let guide = fs::read_to_string("docs/SIMULATE.md").unwrap();
    let scenario =
        neuroshard::simulate::Scenario { clusters: vec![Default::default()], ..Default::default() };
    let value = serde_json::to_value(&scenario).unwrap();
    // The tables of a run file are described with it.
    for table in ["scenario", "toy", "network", "round"] {
        for field in value[table].as_object().unwrap().keys() {
            assert!(guide.contains(&format!("`{field}`")), "{table}.{field} is not in the guide");
        }
    }
    let groups = "count tokens_per_s jitter up_mbit down_mbit delay_ms loss join_round leave_round \
                  faults attack crashes_per_hour recover_s loses slow_rate slow_factor damage_rate";
    for field in groups.split_whitespace() {
        assert!(guide.contains(&format!("`{field}`")), "clusters.{field} is not in the guide");
    }
}
