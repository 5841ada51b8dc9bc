//! The reference of run files and scenario files, docs/CONFIG.md, made from the types that read
//! them: keys from serde, words from the documentation of each field, defaults from `Default`.
//!
//! A default that is no value of its type (what a preset says, what a machine has) is the last
//! sentence of a field's documentation, after `Default: `.

mod key;

use std::collections::BTreeMap;

use super::RunConfig;
use super::scenario::SCENARIO;
use super::sections::RUN;
use super::sections::Section;
use super::sections::section;
use crate::crypto::Domain;
use crate::crypto::Hasher;
use crate::model;
use crate::model::PRESETS;
use crate::simulate;
use crate::simulate::attack;
use crate::train::Plan;
use crate::train::Profile;
use key::Key;
use key::described;

/// Tables inside `[[clusters]]`, by their key.
const INSIDE: &[Section] =
    &[section::<simulate::Faults>("faults"), section::<attack::Config>("attack")];

/// The whole reference, in Markdown.
pub fn reference() -> String {
    let mut text = BEFORE.to_owned();
    let decisive = decisive();
    text.push_str(&format!("\n## Run files\n\n{}\n", contents(RUN.iter())));
    for section in RUN {
        let name = section.name();
        describe(&mut text, &section.written(), section, |key| {
            Some(name == "data" || decisive.contains_key(&format!("{name}.{key}")))
        });
        if name == "model" {
            presets(&mut text);
        }
    }
    let is_shared = |s: &&Section| RUN.iter().any(|run| run.name() == s.name());
    let shared: Vec<_> = SCENARIO.iter().filter(is_shared).map(Section::written).collect();
    let own = || SCENARIO.iter().filter(|s| !is_shared(s));
    let shared: Vec<_> = shared.iter().map(|s| format!("`{s}`")).collect();
    let lead = SCENARIO_FILES.replace("SHARED", &shared.join(" "));
    text.push_str(&format!("\n## Scenario files\n\n{lead}\n{}\n", contents(own())));
    for section in own() {
        describe(&mut text, &section.written(), section, |_| None);
    }
    for section in INSIDE {
        let heading = format!("clusters.{}", section.name());
        describe(&mut text, &heading, section, |_| None);
    }
    attacks(&mut text);
    text
}

/// Headings, linked.
fn contents<'a>(sections: impl Iterator<Item = &'a Section>) -> String {
    sections.map(|s| format!("[`{}`](#{})", s.written(), s.name())).collect::<Vec<_>>().join(" ")
}

/// A table of a file: what it is about, its keys, and the words that they may be.
fn describe(
    text: &mut String,
    heading: &str,
    section: &Section,
    decides: impl Fn(&str) -> Option<bool>,
) {
    let schema = section.schema().to_value();
    text.push_str(&format!("\n### `{heading}`\n\n{}\n\n", about(&described(&schema))));
    let keys = section.keys().iter().map(|&name| (name, Key::of(&schema["properties"][name])));
    let keys: Vec<_> = keys.collect();
    let decides_any = keys.iter().any(|(name, _)| decides(name).is_some());
    let (head, line) = if decides_any { (" results |", "---|") } else { ("", "") };
    text.push_str(&format!("| key | value | default |{head} meaning |\n|---|---|---|{line}---|\n"));
    for (name, key) in &keys {
        let results = match decides(name) {
            Some(true) => " yes |",
            Some(false) => " |",
            None => "",
        };
        let (kind, default) = (&key.kind, &key.default);
        let meaning = key.meaning.replace('|', "\\|");
        text.push_str(&format!("| `{name}` | {kind} | {default} |{results} {meaning} |\n"));
    }
    for (name, key) in keys.iter().filter(|(_, key)| !key.words.is_empty()) {
        text.push_str(&format!("\n`{name}` is one of\n\n"));
        for (word, meaning) in &key.words {
            text.push_str(&format!("* `{word}`: {meaning}\n"));
        }
    }
}

/// What a table's documentation says after its name.
fn about(documentation: &str) -> String {
    let named = documentation.starts_with("`[");
    let said = documentation.split_once(": ").filter(|_| named).map_or(documentation, |(_, s)| s);
    let mut letters = said.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    first + letters.as_str()
}

/// Keys that decide results, as the plan of a run has them. In the tc profile these are most.
fn decisive() -> BTreeMap<String, String> {
    let mut config = RunConfig::default();
    config.numerics.profile = Profile::Tc;
    let any_data = Hasher::new(Domain::Plan).finish();
    let plan = Plan::new(&config.parts(), any_data);
    let mut covered = plan.map(|plan| plan.covered).unwrap_or_default();
    // A preset stands for its extents, which the plan has.
    if covered.contains_key("model.width") {
        covered.insert("model.preset".to_owned(), String::new());
    }
    covered
}

/// The presets, with their extents.
fn presets(text: &mut String) {
    text.push_str(
        "\nPresets:\n\n| preset | width | layers | heads | kv_heads | head_dim | ffn | vocab | \
         parameters |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for preset in PRESETS {
        let config =
            model::Config { preset: Some(preset.name.to_owned()), ..model::Config::default() };
        let Ok(dims) = config.dims() else { continue };
        let extents = [
            dims.width,
            dims.layers,
            dims.heads,
            dims.kv_heads,
            dims.head_dim,
            dims.ffn,
            dims.vocab,
        ];
        let extents: Vec<_> = extents.iter().map(usize::to_string).collect();
        let (name, parameters) = (preset.name, grouped(dims.parameters()));
        text.push_str(&format!("| `{name}` | {} | {parameters} |\n", extents.join(" | ")));
    }
}

/// A number with a comma between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Which attack reads which keys.
fn attacks(text: &mut String) {
    text.push_str("\nKeys that an attack reads, beside `kind` and `from_round`:\n\n");
    let mut readers: BTreeMap<&[&str], Vec<&str>> = BTreeMap::new();
    for kind in attack::Kind::ALL {
        readers.entry(kind.reads()).or_default().push(kind.name());
    }
    let coded = |names: &[&str]| {
        names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
    };
    for (keys, kinds) in readers {
        let keys = if keys.is_empty() { "none".to_owned() } else { coded(keys) };
        text.push_str(&format!("* {}: {keys}\n", coded(&kinds)));
    }
}

const BEFORE: &str = r#"# Configuration reference

Every table and key of a run file (`neuroshard train` and others) and of a scenario file (`neuroshard simulate`), made from the
code by `neuroshard config reference`.

Files are TOML, and every key has a default, so an empty file is a valid run file. One that says something:

```toml
[run]
dir = "runs/books"

[model]
preset = "tiny"
recompute = true

[data]
dir = "data/books"

[train]
steps = 1000
seq_len = 512

[optim]
lr = 1e-3
schedule = "wsd"
```

What a file says lies over the defaults, and `--set section.key=value` on the command line lies over the file; it may be given many
times, and the last one wins. Text may stand there without quotes: `--set model.preset=tiny`. A key or table that does not exist is an
error that says which there are, and all errors are told at once, each with its file, line and key.

`neuroshard config show --config run.toml --set train.steps=1000` checks a run file and prints all settings in force; every run keeps
them as `config.toml` in its folder, and every simulation as `scenario.toml`.

A *word* is one of those listed below its table; in a file, words, text and paths stand in double quotes. Where *results* says
yes, a key is part of the job: it decides the weights, to the bit, and a run can be resumed only with the same value. All other
keys may change between a run and its resume: they decide time, memory, places or what is reported, and a training with other
values of them ends in the same bits.
"#;

const SCENARIO_FILES: &str = "\
A scenario has the tables SHARED of a run file, for the training inside each cluster, and those below.
`train.steps` are the inner steps of every cluster, a whole number of rounds of `outer.inner_steps`; `train.batch_sequences` is the
batch of one cluster. Of `[parallel]` it takes `shards` only, since a simulated cluster is one rank. All keys but
`scenario.name` and `scenario.replicas` are in the hash that names a result. [SIMULATE.md](SIMULATE.md) is the guide.
";

#[cfg(test)]
mod tests {
    use super::*;

    /// All tables, with the names under which messages know them.
    fn tables() -> impl Iterator<Item = &'static Section> {
        RUN.iter().chain(SCENARIO).chain(INSIDE)
    }

    #[test]
    fn every_key_is_told_in_full() {
        for section in tables() {
            let schema = section.schema().to_value();
            let known: Vec<_> = schema["properties"].as_object().expect("keys").keys().collect();
            assert_eq!(known.len(), section.keys().len(), "{}: {known:?}", section.name());
            for name in section.keys() {
                let schema = &schema["properties"][name];
                let (key, place) = (Key::of(schema), format!("{}.{name}", section.name()));
                assert!(!key.kind.is_empty(), "{place}: what does it take? {schema}");
                assert!(key.meaning.ends_with('.'), "{place}: {}", key.meaning);
                assert!(!key.default.is_empty(), "{place}: what holds where it is not given?");
                // A default in the documentation as well as in the code would be told twice.
                let told_twice = key.meaning.contains("Default")
                    || !schema["default"].is_null() && described(schema).contains("Default");
                assert!(!told_twice, "{place}: {}", described(schema));
                for (word, meaning) in &key.words {
                    assert!(meaning.ends_with('.'), "{place}: {word}: {meaning}");
                }
                let inside = INSIDE.iter().any(|s| s.name() == *name);
                assert_eq!(key.kind.contains("table"), inside, "{place} has no table of its own");
            }
        }
    }

    #[test]
    fn what_decides_results_is_marked() {
        let text = reference();
        let row = |key: &str| {
            let row = text.lines().find(|line| line.starts_with(&format!("| `{key}` |")));
            row.unwrap_or_else(|| panic!("no {key}")).to_owned()
        };
        for key in ["preset", "kv_heads", "profile", "shards", "steps", "betas", "synthetic_seed"] {
            assert!(row(key).contains("| yes |"), "{}", row(key));
        }
        for key in ["recompute", "threads", "zero", "eval_every", "tensorboard"] {
            assert!(!row(key).contains("| yes |"), "{}", row(key));
        }
        assert!(row("70b").contains("| 8448 | 90 | 66 | 22 | 128 |"), "{}", row("70b"));
        assert!(row("nano").ends_with("| 3,934,656 |"), "{}", row("nano"));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let of = [0, 999, 1000, 123_456, 1_234_567].map(grouped);
        assert_eq!(of, ["0", "999", "1,000", "123,456", "1,234,567"]);
    }
}
