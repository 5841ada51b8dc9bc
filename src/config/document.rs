//! A parsed run file: values by section and key, each with the place it came from.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::de::{DeTable, DeValue};
use toml::{Spanned, Value};

use super::{Complaint, Error};

/// Where a value came from.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A line of the file, from 1.
    Line(usize),
    /// `--set`, with the text after the equals sign.
    Set(String),
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
        for (section, value) in table.into_inner() {
            let (line, section) = (line_of(text, &section.span()), section.into_inner());
            if !matches!(value.get_ref(), DeValue::Table(_)) {
                let value = plain(place, text, value)?;
                let origin = Origin::Line(line);
                entries.insert((section.into_owned(), String::new()), Entry { value, origin });
                continue;
            }
            let DeValue::Table(keys) = value.into_inner() else { continue };
            if keys.is_empty() {
                // An empty section is fine if it exists; recorded so that its name is checked.
                let value = Value::Table(toml::Table::new());
                let entry = Entry { value, origin: Origin::Line(line) };
                entries.insert((section.into_owned(), String::new()), entry);
                continue;
            }
            for (key, value) in keys {
                let origin = Origin::Line(line_of(text, &key.span()));
                let entry = Entry { value: plain(place, text, value)?, origin };
                entries.insert((section.to_string(), key.into_inner().into_owned()), entry);
            }
        }
        Ok(Self { place: place.to_owned(), entries, malformed: Vec::new() })
    }

    /// Lays `section.key=value` over the document.
    pub fn set(&mut self, argument: &str) {
        let parts = argument.split_once('=').and_then(|(path, text)| {
            let (section, key) = path.trim().split_once('.')?;
            let nonempty = !section.is_empty() && !key.is_empty();
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
        self.entries.insert((section, key), Entry { value, origin: Origin::Set(text) });
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
        let (section, name) = key.split_once('.').unwrap_or((key, ""));
        let entry = self.entries.get(&(section.to_owned(), name.to_owned()));
        let (place, line) = match entry.map(|e| &e.origin) {
            Some(Origin::Line(line)) => (self.place.clone(), Some(*line)),
            Some(Origin::Set(_)) => ("--set".to_owned(), None),
            None => (self.place.clone(), None),
        };
        Complaint { place, line, key: key.to_owned(), why }
    }
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
