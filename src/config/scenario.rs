//! Scenario files of `neuroshard simulate`: the tables of a run file that decide the inner training,
//! and those of the outer loop and its world.

use serde::Deserialize;

use super::document::Document;
use super::sections::{Section, checked, list_of, section};
use super::{Error, read};
use crate::aggregate;
use crate::codec;
use crate::data;
use crate::diloco;
use crate::model;
use crate::optim;
use crate::shard;
use crate::simulate;
use crate::simulate::Scenario;
use crate::train;

/// The tables of a scenario file.
pub(super) const SCENARIO: &[Section] = &[
    section::<simulate::About>("scenario"),
    section::<model::Config>("model"),
    section::<data::Config>("data"),
    section::<train::Numerics>("numerics"),
    section::<shard::Config>("parallel"),
    section::<train::Config>("train"),
    section::<optim::Config>("optim"),
    section::<simulate::Toy>("toy"),
    section::<diloco::Config>("outer"),
    section::<codec::Config>("codec"),
    section::<aggregate::Config>("aggregate"),
    section::<simulate::Network>("network"),
    section::<simulate::Round>("round"),
    list_of::<simulate::Group>("clusters"),
];

/// A scenario file, read once, to be laid under any number of settings.
#[derive(Clone, Debug)]
pub struct Setting {
    name: String,
    text: String,
}

impl Setting {
    /// The file at `path`.
    pub fn read(path: &std::path::Path) -> Result<Self, Error> {
        Ok(Self { name: path.display().to_string(), text: read(path)? })
    }

    /// The text of a file called `name`.
    pub fn of(name: &str, text: &str) -> Self {
        Self { name: name.to_owned(), text: text.to_owned() }
    }
}

/// The scenario of a file overlaid by `sets` (`section.key=value`, `clusters.0.key=value`), or all
/// complaints about it at once.
pub fn scenario(setting: &Setting, sets: &[String]) -> Result<Scenario, Error> {
    let mut document = Document::parse(&setting.name, &setting.text)?;
    sets.iter().for_each(|set| document.set(set));
    let mut complaints = Vec::new();
    let table = checked(&document, SCENARIO, &mut complaints);
    let whole = Scenario::deserialize(toml::Value::Table(table));
    let scenario = whole.map_err(|e| Error::whole(&setting.name, e.message().to_owned()))?;
    for complaint in scenario.complaints() {
        let (key, why) = complaint.split_once(": ").unwrap_or(("", &complaint));
        complaints.push(document.complaint(key, why.to_owned()));
    }
    if complaints.is_empty() { Ok(scenario) } else { Err(Error::Complaints(complaints)) }
}

#[cfg(test)]
mod tests {
    use super::super::sections::assert_fields_of;
    use super::*;

    fn of(text: &str, sets: &[&str]) -> Result<Scenario, Error> {
        let sets: Vec<_> = sets.iter().map(ToString::to_string).collect();
        scenario(&Setting::of("s.toml", text), &sets)
    }

    #[test]
    fn sections_are_those_of_a_scenario() {
        assert_fields_of::<Scenario>(SCENARIO);
    }

    #[test]
    fn lists_of_tables_are_read_and_set() {
        let text =
            "[[clusters]]\ncount = 3\n[[clusters]]\ncount = 1\nattack = { kind = \"zero\" }\n";
        let sets = ["clusters.1.count=2", "clusters.0.up_mbit=7", "clusters.1.attack.kind=copy"];
        let scenario = of(text, &sets).expect("valid");
        let counts: Vec<_> = scenario.clusters.iter().map(|g| g.count).collect();
        assert_eq!(counts, [3, 2]);
        assert_eq!(scenario.clusters[0].up_mbit, Some(7.0));
        let kind = scenario.clusters[1].attack.as_ref().map(|attack| attack.kind.name());
        assert_eq!(kind, Some("copy"));
    }

    #[test]
    fn of_parallel_only_shards_are_taken() {
        let text = "[[clusters]]\n[parallel]\nshards = 2\n";
        assert_eq!(of(text, &[]).expect("valid").parallel.shards, 2);
        for set in ["parallel.stages=2", "parallel.zero=3", "parallel.bind=false"] {
            let error = of(text, &[set]).expect_err("ranks have no place here").to_string();
            assert!(error.contains("`shards` only"), "{set}: {error}");
        }
        let error = of(text, &["parallel.shards=3"]).expect_err("no power of two").to_string();
        assert!(error.contains("parallel.shards: 3 is no power of two"), "{error}");
    }

    #[test]
    fn every_complaint_names_its_place() {
        let text = "[[clusters]]\ncuont = 3\n[aggregate]\nrule = \"meen\"\n[flavour]\nx = 1\n\
                    [[model]]\nlayers = 1\n";
        let sets = ["clusters.4.count=2", "outer.inner_steps=0", "network.loss=2"];
        let error = of(text, &sets).expect_err("much is wrong").to_string();
        for words in [
            "s.toml:2: clusters.0.cuont: unknown key; did you mean clusters.count?",
            "s.toml:4: aggregate.rule: unknown variant `meen`",
            "did you mean `mean`?",
            "s.toml:6: flavour.x: unknown section",
            "model.0.layers: there is one table of this name; write [model]",
            "clusters.4: there are only 1",
            "outer.inner_steps: 0",
            "--set: network.loss",
        ] {
            assert!(error.contains(words), "no `{words}` in\n{error}");
        }
    }
}
