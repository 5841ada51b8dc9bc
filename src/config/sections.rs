//! Every value of a document against the section it stands in, one by one.

use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Complaint;
use super::document::{Document, Entry, Origin, first_line};
use super::fields::fields_of;
use super::nearest::nearest;
use crate::backend;
use crate::data;
use crate::model;
use crate::optim;
use crate::shard;
use crate::train;

/// A table of the run file.
struct Section {
    name: &'static str,
    fields: fn() -> &'static [&'static str],
    /// Whether the module that owns the section takes this value for this key.
    probe: fn(&str, &Value) -> Result<(), String>,
}

const SECTIONS: [Section; 8] = [
    section::<train::Run>("run"),
    section::<model::Config>("model"),
    section::<data::Config>("data"),
    section::<train::Numerics>("numerics"),
    section::<backend::Config>("device"),
    section::<shard::Config>("parallel"),
    section::<train::Config>("train"),
    section::<optim::Config>("optim"),
];

const fn section<T: DeserializeOwned>(name: &'static str) -> Section {
    Section { name, fields: fields_of::<T>, probe: probe::<T> }
}

/// The values of `document` that can be; adds a complaint for every other.
pub fn checked(document: &Document, complaints: &mut Vec<Complaint>) -> Table {
    complaints.extend_from_slice(document.malformed());
    let mut table = Table::new();
    for (name, key, entry) in document.entries() {
        let section = SECTIONS.iter().find(|s| s.name == name);
        let outcome = match section {
            None => Err(unknown_section(name, key)),
            Some(_) if key.is_empty() && entry.value.is_table() => continue,
            Some(_) if key.is_empty() => Err(format!("is a table: write [{name}] on a line")),
            Some(section) => accept(section, key, entry),
        };
        let path = if key.is_empty() { name.to_owned() } else { format!("{name}.{key}") };
        match outcome {
            Err(why) => complaints.push(document.complaint(&path, why)),
            Ok(value) => {
                let keys = table.entry(name).or_insert_with(|| Value::Table(Table::new()));
                if let Value::Table(keys) = keys {
                    keys.insert(key.to_owned(), value);
                }
            }
        }
    }
    table
}

/// The value as the section takes it, or why it does not.
fn accept(section: &Section, key: &str, entry: &Entry) -> Result<Value, String> {
    if !(section.fields)().contains(&key) {
        return Err(unknown_key(section, key));
    }
    let refused = match (section.probe)(key, &entry.value) {
        Ok(()) => return Ok(entry.value.clone()),
        Err(why) => why,
    };
    // What reads as TOML of another type may be meant as text: `--set run.dir=2026`.
    if let Origin::Set(text) = &entry.origin {
        let text = Value::String(text.clone());
        if (section.probe)(key, &text).is_ok() {
            return Ok(text);
        }
    }
    Err(refused)
}

/// Tries one value alone; all sections have defaults for the rest.
fn probe<T: DeserializeOwned>(key: &str, value: &Value) -> Result<(), String> {
    let table = Table::from_iter([(key.to_owned(), value.clone())]);
    T::deserialize(Value::Table(table)).map(|_| ()).map_err(|e| first_line(e.message()))
}

fn unknown_section(name: &str, key: &str) -> String {
    let names = SECTIONS.iter().map(|s| s.name);
    let all: Vec<_> = names.clone().map(|n| format!("[{n}]")).collect();
    let all = all.join(" ");
    match (nearest(name, names), holders(name).first()) {
        (Some(near), _) => format!("unknown section; did you mean [{near}]?"),
        (None, Some(holder)) if key.is_empty() => {
            format!("stands outside its section; write it under [{holder}]")
        }
        _ => format!("unknown section; there are {all}"),
    }
}

fn unknown_key(section: &Section, key: &str) -> String {
    let fields = (section.fields)();
    if let Some(near) = nearest(key, fields.iter().copied()) {
        return format!("unknown key; did you mean {}.{near}?", section.name);
    }
    if let Some(holder) = holders(key).first() {
        return format!("unknown key; did you mean {holder}.{key}?");
    }
    format!("unknown key; [{}] has {}", section.name, fields.join(", "))
}

/// The sections that have a key of this name.
fn holders(key: &str) -> Vec<&'static str> {
    SECTIONS.iter().filter(|s| (s.fields)().contains(&key)).map(|s| s.name).collect()
}

#[cfg(test)]
mod tests {
    use super::super::RunConfig;
    use super::*;

    #[test]
    fn sections_are_those_of_the_run_file() {
        let names: Vec<_> = SECTIONS.iter().map(|s| s.name).collect();
        assert_eq!(fields_of::<RunConfig>(), names);
        for section in &SECTIONS {
            assert!(!(section.fields)().is_empty(), "{}", section.name);
        }
    }
}
