//! A key of a table: what its type's JSON Schema says about it, in words.

use serde_json::Value;

/// What there is to say about a key.
#[derive(Debug, PartialEq)]
pub struct Key {
    /// What kind of value it takes.
    pub kind: String,
    /// The value that holds where the file has none; a sentence where that depends.
    pub default: String,
    /// What it means, its unit and its bounds.
    pub meaning: String,
    /// The words that it may be, as a file has them, and what each means.
    pub words: Vec<(String, String)>,
}

impl Key {
    /// Reads the schema of a key.
    pub fn of(schema: &Value) -> Self {
        let (mut kinds, mut words) = (Vec::new(), Vec::new());
        collect(schema, &mut kinds, &mut words);
        if !words.is_empty() {
            kinds.push("word".to_owned());
        }
        let text = described(schema);
        // Where a default is no value of the type, the last sentence of the documentation has it.
        let (meaning, said) = match text.split_once(" Default: ") {
            Some((meaning, said)) => (meaning, said.strip_suffix('.').unwrap_or(said)),
            None => (&text[..], ""),
        };
        let default = match &schema["default"] {
            Value::Null => said.to_owned(),
            value => format!("`{}`", literal(value)),
        };
        Self { kind: kinds.join(" or "), default, meaning: meaning.to_owned(), words }
    }
}

/// The documentation of a part of a schema, on one line.
pub fn described(schema: &Value) -> String {
    let text = schema["description"].as_str().unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a value of this schema may be: kinds of values, and words.
fn collect(schema: &Value, kinds: &mut Vec<String>, words: &mut Vec<(String, String)>) {
    for alternatives in ["oneOf", "anyOf"] {
        for one in schema[alternatives].as_array().into_iter().flatten() {
            collect(one, kinds, words);
        }
    }
    if !schema["const"].is_null() {
        words.push((literal(&schema["const"]), described(schema)));
        return;
    }
    let alone = schema["type"].as_str();
    let several = schema["type"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in alone.into_iter().chain(several) {
        match name {
            "boolean" => kinds.push("true or false".to_owned()),
            "integer" => kinds.push("whole number".to_owned()),
            "number" => kinds.push("number".to_owned()),
            "string" if schema["format"] == "path" => kinds.push("path".to_owned()),
            "string" => kinds.push("text".to_owned()),
            "object" => kinds.push("table".to_owned()),
            "array" => kinds.push(list(schema)),
            // A value that may be absent: TOML has no word for that.
            _ => {}
        }
    }
}

/// What a list has in it, and how many where that is fixed.
fn list(schema: &Value) -> String {
    let (mut kinds, mut words) = (Vec::new(), Vec::new());
    collect(&schema["items"], &mut kinds, &mut words);
    let one = kinds.join(" or ");
    match (schema["minItems"].as_u64(), schema["maxItems"].as_u64()) {
        (Some(least), Some(most)) if least == most => format!("list of {least} {one}s"),
        _ => format!("list of {one}s"),
    }
}

/// A value as a file has it.
fn literal(value: &Value) -> String {
    match value {
        Value::String(text) => format!("\"{text}\""),
        Value::Number(number) => {
            let text = number.to_string();
            text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
        }
        Value::Array(values) => {
            format!("[{}]", values.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use schemars::JsonSchema;
    use schemars::generate::SchemaSettings;
    use serde::Serialize;

    use super::*;

    /// A table of the kinds of keys that there are.
    #[derive(JsonSchema, Serialize, serde::Deserialize)]
    #[serde(default)]
    #[allow(dead_code, reason = "only its schema matters")]
    struct Sample {
        /// Parts of a whole,
        /// in percent; 0: none.
        parts: u32,
        /// Kept at most.
        bounds: [f64; 2],
        /// Where to. Default: beside `parts`.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schemars(extend("format" = "path"))]
        to: Option<PathBuf>,
        /// Which way. Default: `"up"`.
        way: Option<Way>,
        /// How far.
        far: Far,
        /// All of them.
        all: Vec<u8>,
        /// Whether at all.
        on: bool,
    }

    #[derive(JsonSchema, Serialize, serde::Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Way {
        /// Against the weight.
        Up,
        /// With it.
        DownHill,
    }

    #[derive(JsonSchema, Serialize, serde::Deserialize)]
    #[serde(untagged)]
    enum Far {
        Steps(f64),
        Way(Way),
    }

    impl Default for Sample {
        fn default() -> Self {
            let (to, way, far) = (None, None, Far::Steps(100_000.0));
            Self { parts: 7, bounds: [1e-8, 0.95], to, way, far, all: Vec::new(), on: true }
        }
    }

    #[test]
    fn types_defaults_and_docs_become_words() {
        let settings = SchemaSettings::draft2020_12().with(|s| s.inline_subschemas = true);
        let schema = settings.into_generator().into_root_schema_for::<Sample>().to_value();
        let key = |name: &str| Key::of(&schema["properties"][name]);
        let said = |name: &str| {
            let key = key(name);
            [key.kind, key.default, key.meaning]
        };
        assert_eq!(
            said("parts"),
            ["whole number", "`7`", "Parts of a whole, in percent; 0: none."]
        );
        assert_eq!(said("bounds"), ["list of 2 numbers", "`[1e-8, 0.95]`", "Kept at most."]);
        assert_eq!(said("to"), ["path", "beside `parts`", "Where to."]);
        assert_eq!(said("way"), ["word", "`\"up\"`", "Which way."]);
        assert_eq!(said("far"), ["number or word", "`100000`", "How far."]);
        assert_eq!(said("all"), ["list of whole numbers", "`[]`", "All of them."]);
        assert_eq!(said("on"), ["true or false", "`true`", "Whether at all."]);
        let words = [("\"up\"", "Against the weight."), ("\"down_hill\"", "With it.")];
        let words = words.map(|(word, means)| (word.to_owned(), means.to_owned()));
        assert_eq!(key("way").words, words);
        assert_eq!(key("far").words, words);
    }
}
