//! A parsed run file: values by section and key, each with the place it came from.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Table, Value};

use super::{Complaint, Error};

/// Where a value came from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A line of the file, from 1.
    Line(usize),
    /// `--set`, with the text after the equals sign.
    Set(String),
    /// `--set` of a value inside an inline table.
    Inside,
}

/// One value.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What it is; for `--set` the text read as TOML if it can be, else as a string.
    pub value: Value,
    /// Where it came from.
    pub origin: Origin,
}

/// Values by (section, key). A value outside any section has an empty key.
#[derive(Debug)]
pub struct Document {
    place: String,
    entries: BTreeMap<(String, String), Entry>,
    /// `--set` arguments of no such form.
    malformed: Vec<Complaint>,
}

impl Document {
    /// Parses the text of the file called `place`.
    pub fn parse(place: &str, text: &str) -> Result<Self, Error> {
        let table = DeTable::parse(text).map_err(|e| syntax(place, text, &e))?;
        let mut entries = BTreeMap::new();
        let mut read = Reader { place, text, entries: &mut entries };
        for (name, value) in table.into_inner() {
            let (line, name) = (line_of(text, &name.span()), name.into_inner());
            match value.get_ref() {
                DeValue::Array(all) if is_list_of_tables(all) => {
                    let DeValue::Array(all) = value.into_inner() else { continue };
                    for (i, one) in all.into_iter().enumerate() {
                        // A table's own line is not known where it stands in a list.
                        read.section(format!("{name}.{i}"), line, one)?;
                    }
                }
                _ => read.section(name.into_owned(), line, value)?,
            }
        }
        Ok(Self { place: place.to_owned(), entries, malformed: Vec::new() })
    }

    /// Lays `section.key=value` over the document. In a list of tables the section is `name.0` and
    /// so on; `section.key.inner=value` sets one value of an inline table.
    pub fn set(&mut self, argument: &str) {
        let parts = argument.split_once('=').and_then(|(path, text)| {
            let (section, key) = split(path.trim())?;
            let nonempty = !section.is_empty() && key.split('.').all(|part| !part.is_empty());
            nonempty.then(|| (section.to_owned(), key.to_owned(), text.trim().to_owned()))
        });
        let Some((section, key, text)) = parts else {
            self.malformed.push(Complaint {
                place: "--set".into(),
                line: None,
                key: argument.to_owned(),
                why: "write section.key=value, such as train.steps=100".into(),
            });
            return;
        };
        let value = value_of(&text);
        let Some((key, inner)) = key.split_once('.') else {
            self.entries.insert((section, key), Entry { value, origin: Origin::Set(text) });
            return;
        };
        let empty = || Entry { value: Value::Table(Table::new()), origin: Origin::Inside };
        let entry = self.entries.entry((section, key.to_owned())).or_insert_with(empty);
        entry.origin = Origin::Inside;
        insert(&mut entry.value, inner, value);
    }

    /// All values.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str, &Entry)> {
        self.entries.iter().map(|((section, key), entry)| (&section[..], &key[..], entry))
    }

    /// Arguments of `--set` that could not be read.
    pub fn malformed(&self) -> &[Complaint] {
        &self.malformed
    }

    /// A complaint about `section.key`, with the place where it was set, if it was.
    pub fn complaint(&self, key: &str, why: String) -> Complaint {
        let (section, name) = split(key).unwrap_or((key, ""));
        let entry = self.entries.get(&(section.to_owned(), name.to_owned()));
        let (place, line) = match entry.map(|e| &e.origin) {
            Some(Origin::Line(line)) => (self.place.clone(), Some(*line)),
            Some(Origin::Set(_) | Origin::Inside) => ("--set".to_owned(), None),
            None => (self.place.clone(), None),
        };
        Complaint { place, line, key: key.to_owned(), why }
    }
}

/// Where values of a file go.
struct Reader<'a> {
    place: &'a str,
    text: &'a str,
    entries: &'a mut BTreeMap<(String, String), Entry>,
}

impl Reader<'_> {
    /// The values of a section that begins on `line`.
    fn section(
        &mut self,
        name: String,
        line: usize,
        value: Spanned<DeValue<'_>>,
    ) -> Result<(), Error> {
        if !matches!(value.get_ref(), DeValue::Table(_)) {
            let value = plain(self.place, self.text, value)?;
            let entry = Entry { value, origin: Origin::Line(line) };
            self.entries.insert((name, String::new()), entry);
            return Ok(());
        }
        let DeValue::Table(keys) = value.into_inner() else { return Ok(()) };
        if keys.is_empty() {
            // An empty section is fine if it exists; recorded so that its name is checked.
            let entry = Entry { value: Value::Table(Table::new()), origin: Origin::Line(line) };
            self.entries.insert((name.clone(), String::new()), entry);
        }
        for (key, value) in keys {
            let origin = Origin::Line(line_of(self.text, &key.span()));
            let entry = Entry { value: plain(self.place, self.text, value)?, origin };
            self.entries.insert((name.clone(), key.into_inner().into_owned()), entry);
        }
        Ok(())
    }
}

/// Section and key of a path: `name.key`, or `name.0.key` in a list of tables.
fn split(path: &str) -> Option<(&str, &str)> {
    let (name, rest) = path.split_once('.')?;
    match rest.split_once('.') {
        Some((index, key)) if index.parse::<usize>().is_ok() => {
            Some((&path[..name.len() + 1 + index.len()], key))
        }
        _ => Some((name, rest)),
    }
}

/// Sets the value at `path` inside a table; what is in the way is replaced.
fn insert(table: &mut Value, path: &str, value: Value) {
    if !table.is_table() {
        *table = Value::Table(Table::new());
    }
    let Value::Table(keys) = table else { return };
    match path.split_once('.') {
        None => drop(keys.insert(path.to_owned(), value)),
        Some((key, rest)) => {
            let inner = keys.entry(key).or_insert_with(|| Value::Table(Table::new()));
            insert(inner, rest, value);
        }
    }
}

fn is_list_of_tables(all: &[Spanned<DeValue<'_>>]) -> bool {
    !all.is_empty() && all.iter().all(|one| matches!(one.get_ref(), DeValue::Table(_)))
}

/// The text after `--set key=`: a TOML value if it is one, else a string.
fn value_of(text: &str) -> Value {
    let parsed = toml::de::ValueDeserializer::parse(text).and_then(Value::deserialize);
    parsed.unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// A value without the places of its parts.
fn plain(place: &str, text: &str, value: Spanned<DeValue<'_>>) -> Result<Value, Error> {
    let span = value.span();
    Value::deserialize(value.into_deserializer()).map_err(|e| Error::Syntax {
        place: place.to_owned(),
        line: line_of(text, &span),
        why: first_line(e.message()),
    })
}

fn syntax(place: &str, text: &str, error: &toml::de::Error) -> Error {
    let line = error.span().map_or(1, |span| line_of(text, &span));
    Error::Syntax { place: place.to_owned(), line, why: error.message().replace('\n', "; ") }
}

/// Line of a position, from 1.
fn line_of(text: &str, span: &Range<usize>) -> usize {
    1 + text.bytes().take(span.start).filter(|&b| b == b'\n').count()
}

/// Parsers explain over several lines; complaints have one.
pub fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().to_owned()
}
