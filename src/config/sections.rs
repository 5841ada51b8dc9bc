//! Every value of a document against the section it stands in, one by one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use schemars::Schema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

use super::Complaint;
use super::document::{Document, Entry, Origin, first_line};
use super::fields::fields_of;
use super::nearest::nearest;
use crate::backend;
use crate::data;
use crate::metrics;
use crate::model;
use crate::optim;
use crate::shard;
use crate::train;

/// A table of a file.
pub struct Section {
    name: &'static str,
    /// Whether there may be many, written `[[name]]`, and called `name.0` and so on.
    is_list: bool,
    fields: fn() -> &'static [&'static str],
    /// Whether the module that owns the section takes this value for this key.
    probe: fn(&str, &Value) -> Result<(), String>,
    /// Documentation, type and default of every key.
    schema: fn() -> Schema,
}

/// The tables of a run file.
pub const RUN: &[Section] = &[
    section::<train::Run>("run"),
    section::<model::Config>("model"),
    section::<data::Config>("data"),
    section::<train::Numerics>("numerics"),
    section::<backend::Config>("device"),
    section::<shard::Config>("parallel"),
    section::<train::Config>("train"),
    section::<optim::Config>("optim"),
    section::<metrics::Config>("metrics"),
];

/// The table that `T` owns, called `name`.
pub const fn section<T: DeserializeOwned + JsonSchema>(name: &'static str) -> Section {
    Section {
        name,
        is_list: false,
        fields: fields_of::<T>,
        probe: probe::<T>,
        schema: schema_of::<T>,
    }
}

/// The tables that `T` owns, any number of them, each called `name`.
pub const fn list_of<T: DeserializeOwned + JsonSchema>(name: &'static str) -> Section {
    Section { is_list: true, ..section::<T>(name) }
}

/// The values of `document` that can be; adds a complaint for every other.
pub fn checked(
    document: &Document,
    sections: &[Section],
    complaints: &mut Vec<Complaint>,
) -> Table {
    complaints.extend_from_slice(document.malformed());
    let (mut table, mut lists) = (Table::new(), BTreeMap::new());
    for (name, key, entry) in document.entries() {
        let (plain, place) = match name.split_once('.') {
            Some((plain, index)) => (plain, index.parse::<usize>().ok()),
            None => (name, None),
        };
        let section = sections.iter().find(|s| s.name == plain && s.is_list == place.is_some());
        let keys = match place {
            None => table.entry(name).or_insert_with(|| Value::Table(Table::new())),
            Some(place) => {
                let list: &mut BTreeMap<usize, Value> = lists.entry(plain).or_default();
                list.entry(place).or_insert_with(|| Value::Table(Table::new()))
            }
        };
        let outcome = match section {
            None => Err(unknown_section(sections, name, key)),
            Some(_) if key.is_empty() && entry.value.is_table() => continue,
            Some(_) if key.is_empty() => Err(format!("is a table: write [{name}] on a line")),
            Some(section) => accept(sections, section, key, entry),
        };
        let path = if key.is_empty() { name.to_owned() } else { format!("{name}.{key}") };
        match (outcome, keys) {
            (Err(why), _) => complaints.push(document.complaint(&path, why)),
            (Ok(value), Value::Table(keys)) => drop(keys.insert(key.to_owned(), value)),
            (Ok(_), _) => {}
        }
    }
    table.retain(|name, _| sections.iter().any(|s| s.name == name && !s.is_list));
    for (name, list) in lists {
        if !sections.iter().any(|s| s.name == name && s.is_list) {
            continue;
        }
        if let Some((gap, (place, _))) = list.iter().enumerate().find(|(i, (at, _))| i != *at) {
            let why = format!("there are only {gap}: the next is {name}.{gap}");
            complaints.push(document.complaint(&format!("{name}.{place}"), why));
        }
        table.insert(name.to_owned(), Value::Array(list.into_values().collect()));
    }
    table
}

/// The value as the section takes it, or why it does not.
fn accept(
    sections: &[Section],
    section: &Section,
    key: &str,
    entry: &Entry,
) -> Result<Value, String> {
    if !(section.fields)().contains(&key) {
        return Err(unknown_key(sections, section, key));
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

/// The type as JSON Schema, every part in its place.
fn schema_of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
    settings.into_generator().into_root_schema_for::<T>()
}

/// Tries one value alone; all sections have defaults for the rest.
fn probe<T: DeserializeOwned>(key: &str, value: &Value) -> Result<(), String> {
    let table = Table::from_iter([(key.to_owned(), value.clone())]);
    let taken = T::deserialize(Value::Table(table)).map(|_| ());
    taken.map_err(|e| with_nearest(first_line(e.message())))
}

/// An unknown word with the known one that it was probably meant to be: the parser's message has all
/// of them between backticks, the unknown one first.
fn with_nearest(message: String) -> String {
    if !message.starts_with("unknown variant") {
        return message;
    }
    let mut words = message.split('`').skip(1).step_by(2);
    let near = words.next().and_then(|word| nearest(word, words));
    match near {
        Some(near) => format!("{message}; did you mean `{near}`?"),
        None => message,
    }
}

fn unknown_section(sections: &[Section], name: &str, key: &str) -> String {
    let names = sections.iter().map(|s| s.name);
    let all: Vec<_> = sections.iter().map(Section::written).collect();
    let all = all.join(" ");
    let plain = name.split('.').next().unwrap_or(name);
    if let Some(section) = sections.iter().find(|s| s.name == plain) {
        let many = if section.is_list { "many tables" } else { "one table" };
        return format!("there is {many} of this name; write {}", section.written());
    }
    match (nearest(plain, names), holders(sections, name).first()) {
        (Some(near), _) => format!("unknown section; did you mean [{near}]?"),
        (None, Some(holder)) if key.is_empty() => {
            format!("stands outside its section; write it under [{holder}]")
        }
        _ => format!("unknown section; there are {all}"),
    }
}

fn unknown_key(sections: &[Section], section: &Section, key: &str) -> String {
    let fields = (section.fields)();
    if let Some(near) = nearest(key, fields.iter().copied()) {
        return format!("unknown key; did you mean {}.{near}?", section.name);
    }
    if let Some(holder) = holders(sections, key).first() {
        return format!("unknown key; did you mean {holder}.{key}?");
    }
    format!("unknown key; [{}] has {}", section.name, fields.join(", "))
}

/// The sections that have a key of this name.
fn holders(sections: &[Section], key: &str) -> Vec<&'static str> {
    sections.iter().filter(|s| (s.fields)().contains(&key)).map(|s| s.name).collect()
}

impl Section {
    /// Its name, without brackets.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Its keys, in the order in which the type has them.
    pub fn keys(&self) -> &'static [&'static str] {
        (self.fields)()
    }

    /// Documentation, type and default of every key.
    pub fn schema(&self) -> Schema {
        (self.schema)()
    }

    /// Its heading.
    pub fn written(&self) -> String {
        let name = self.name;
        if self.is_list { format!("[[{name}]]") } else { format!("[{name}]") }
    }
}

/// That the sections of a file are the fields of `T`, in order, and each has fields.
#[cfg(test)]
pub fn assert_fields_of<T: DeserializeOwned>(sections: &[Section]) {
    let names: Vec<_> = sections.iter().map(|s| s.name).collect();
    assert_eq!(fields_of::<T>(), names);
    for section in sections {
        assert!(!(section.fields)().is_empty(), "{}", section.name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::RunConfig;
    use super::*;

    #[test]
    fn sections_are_those_of_the_run_file() {
        assert_fields_of::<RunConfig>(RUN);
    }

    #[test]
    fn unknown_words_come_with_the_nearest_known_one() {
        let of = |message: &str| with_nearest(message.to_owned());
        assert!(of("unknown variant `krumm`, expected one of `mean`, `krum`").ends_with("`krum`?"),);
        assert_eq!(
            of("unknown variant `x`, expected `mean`"),
            "unknown variant `x`, expected `mean`"
        );
        assert_eq!(of("invalid type"), "invalid type");
    }
}
