//! JSON lines: an object on every line, one field of which is the text of a document.

use std::fmt;
use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::path::Path;

use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::Visitor;

use super::Item;
use super::visit_document;
use crate::data::DataError;

/// Reads the texts of `field`. Lines of white space are passed over; a field that is null counts
/// as a text of no bytes.
pub fn read(
    path: &Path,
    source: impl Read,
    field: &str,
    visit: &mut dyn FnMut(Item) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut source = BufReader::with_capacity(256 << 10, source);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = source.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line);
        if read.map_err(DataError::read(path))? == 0 {
            return Ok(());
        }
        let fail = |reason| DataError::Row { path: path.into(), row: "line", number, reason };
        if line.len() as u64 > MAX_LINE_BYTES {
            return Err(fail(format!("longer than {MAX_LINE_BYTES} bytes; cut its text")));
        }
        let text = std::str::from_utf8(&line).map_err(|e| {
            let at = e.valid_up_to();
            fail(format!("not UTF-8: invalid byte at offset {at} of the line; convert the file"))
        })?;
        let text = text.trim();
        if !text.is_empty() {
            let text = field_of(text, field).map_err(fail)?;
            visit_document(path, text, visit)?;
        }
    }
    Ok(())
}

/// The text of `field` of an object.
fn field_of(line: &str, field: &str) -> Result<String, String> {
    let mut reader = serde_json::Deserializer::from_str(line);
    let found = Field(field).deserialize(&mut reader).and_then(|f| reader.end().map(|()| f));
    match found {
        Ok(Some(text)) => Ok(text),
        Ok(None) => Err(format!("no field {field:?}; it has {}", names(line))),
        // A line by itself: "at line 1" would mislead.
        Err(e) => {
            let (text, column) = (e.to_string(), e.column());
            let text = text.split(" at line ").next().unwrap_or_default();
            Err(format!("field {field:?}: {text} at column {column}"))
        }
    }
}

/// The fields that an object has, for people.
fn names(line: &str) -> String {
    let object: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(line).unwrap_or_default();
    let mut names: Vec<_> = object.keys().take(MAX_NAMES).map(|k| format!("{k:?}")).collect();
    if object.len() > MAX_NAMES {
        names.push("more".into());
    }
    if names.is_empty() { "none".into() } else { names.join(", ") + " (--field names one)" }
}

/// Takes the text of one field out of an object.
struct Field<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Option<String>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Option<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a text")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if key != self.0 {
                map.next_value::<IgnoredAny>()?;
            } else if found.is_some() {
                return Err(serde::de::Error::custom("it stands twice in the object"));
            } else {
                found = Some(map.next_value::<Option<String>>()?.unwrap_or_default());
            }
        }
        Ok(found)
    }
}

/// A line may have so many bytes: what is held in memory.
const MAX_LINE_BYTES: u64 = 64 << 20;
/// Fields that an error names.
const MAX_NAMES: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(bytes: &[u8]) -> Result<Vec<String>, String> {
        let mut texts = vec![String::new()];
        let mut visit = |item| {
            match item {
                Item::Text(text) => texts.last_mut().unwrap().push_str(&text),
                Item::Tokens(_) => unreachable!(),
                Item::End => texts.push(String::new()),
            }
            Ok(())
        };
        read(Path::new("x.jsonl"), bytes, "text", &mut visit).map_err(|e| e.to_string())?;
        texts.pop();
        Ok(texts)
    }

    #[test]
    fn texts_come_out_as_they_went_in() {
        let long = "word ".repeat(50_000);
        let lines = format!(
            "{{\"id\": [1, {{}}], \"text\": \"a\\u00e9\\n\\ud83d\\ude00\"}}\r\n\n  \n{{\"text\":null}}\n{}",
            serde_json::json!({"text": long, "n": 1.5e300})
        );
        assert_eq!(texts(lines.as_bytes()).unwrap(), ["a\u{e9}\n\u{1f600}", "", &long]);
        assert!(texts(b"").unwrap().is_empty());
    }

    #[test]
    fn faults_name_the_line_and_the_field() {
        let check = |line: &[u8], want: &str| {
            let error = texts(&[b"{\"text\": \"good\"}\n", line].concat()).unwrap_err();
            assert!(error.contains("x.jsonl") && error.contains("line 2"), "{error}");
            assert!(error.contains(want), "{error}");
        };
        check(b"{\"txt\": \"a\", \"id\": 3}", "\"id\", \"txt\"");
        check(b"{}", "none");
        check(b"{\"text\": 3}", "field \"text\": invalid type: integer");
        check(b"{\"text\": \"a\", \"text\": \"b\"}", "twice");
        check(b"{\"text\": \"a\"", "EOF");
        check(b"{\"text\": \"a\"} x", "trailing");
        check(b"[\"text\"]", "an object");
        check(b"{\"text\": \"\\ud800\"}", "column");
        check(b"{\"text\": \"caf\xe9\"}", "invalid byte at offset 13");
    }
}
