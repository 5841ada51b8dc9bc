//! Simulations: a thousand toys through every path of the protocol, and small real trainings.

mod draw;
mod examples;
mod faults;
mod toys;
mod training;

use neuroshard::config::Setting;
use neuroshard::config::scenario;
use neuroshard::simulate::Outcome;
use neuroshard::simulate::Quick;
use neuroshard::simulate::Record;
use neuroshard::simulate::Scenario;
use neuroshard::simulate::run;
use neuroshard::train::Stop;

/// The scenario of a text, with settings over it.
pub fn read(text: &str, sets: &[&str]) -> Scenario {
    let sets: Vec<_> = sets.iter().map(ToString::to_string).collect();
    scenario(&Setting::of("scenario", text), &sets).unwrap_or_else(|error| panic!("{error}"))
}

/// Simulates a toy: what it left, and its records.
pub fn toy(scenario: &Scenario) -> (Outcome, Vec<Record>) {
    let mut records = Vec::new();
    let each = &mut |record: &Record| {
        records.push(record.clone());
        Ok(())
    };
    let outcome = run(scenario, &Quick::new(scenario), &Stop::never(), each);
    (outcome.unwrap_or_else(|error| panic!("{error}\n{}", scenario.to_toml())), records)
}

/// The bytes that a simulation writes.
pub fn bytes(records: &[Record]) -> String {
    records.iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect()
}
