//! What the maker of a dataset states about its inputs: licences and sources.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;

use serde::Deserialize;

use super::DataError;
use super::shard::read_bounded;

/// Licence and source of an input.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Statement {
    pub licence: String,
    pub source: String,
}

/// Statements by input: a TOML file of tables `["NAME"]`, where NAME is an input's name in the
/// manifest or a folder of such names.
#[derive(Debug)]
pub(super) struct Statements {
    path: PathBuf,
    by_name: BTreeMap<String, Statement>,
    otherwise: Statement,
}

impl Statements {
    /// `otherwise` for all inputs, but those that the file names.
    pub fn load(path: Option<&Path>, otherwise: Statement) -> Result<Self, DataError> {
        let Some(path) = path else {
            return Ok(Self { path: PathBuf::new(), by_name: BTreeMap::new(), otherwise });
        };
        let fail = |reason| DataError::Input { path: path.to_path_buf(), reason };
        let text = String::from_utf8(read_bounded(path, MAX_FILE_BYTES)?)
            .map_err(|e| fail(format!("not UTF-8: {e}")))?;
        let by_name = toml::from_str(&text).map_err(|e| fail(e.to_string()))?;
        Ok(Self { path: path.to_path_buf(), by_name, otherwise })
    }

    /// The statements about `names`, in order; each of the file must be about some.
    pub fn about(&self, names: &[&str]) -> Result<Vec<Statement>, DataError> {
        for stated in self.by_name.keys() {
            if !names.iter().any(|name| covers(stated, name)) {
                let reason = format!("[{stated:?}] is no input; they are {names:?}");
                return Err(DataError::Input { path: self.path.clone(), reason });
            }
        }
        let about = |name: &&str| {
            let stated = self.by_name.iter().filter(|(stated, _)| covers(stated, name));
            let closest = stated.max_by_key(|(stated, _)| stated.len()).map(|(_, s)| s);
            let Statement { licence, source } = closest.unwrap_or(&self.otherwise).clone();
            let or =
                |text: String, other: &String| if text.is_empty() { other.clone() } else { text };
            Statement {
                licence: or(licence, &self.otherwise.licence),
                source: or(source, &self.otherwise.source),
            }
        };
        Ok(names.iter().map(about).collect())
    }
}

/// Whether `stated` is the name or a folder above it.
fn covers(stated: &str, name: &str) -> bool {
    name.strip_prefix(stated).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

const MAX_FILE_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_statement_counts() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("info.toml");
        let load = |text: &str| {
            std::fs::write(&path, text).unwrap();
            let otherwise = Statement { licence: "L".into(), source: "S".into() };
            Statements::load(Some(&path), otherwise)
        };
        let stated = load("[\"a\"]\nlicence = \"A\"\n[\"a/b.txt\"]\nsource = \"B\"\n").unwrap();
        let about = stated.about(&["a/b.txt", "a/c.txt", "ab"]).unwrap();
        let pairs: Vec<_> = about.iter().map(|s| (&s.licence[..], &s.source[..])).collect();
        assert_eq!(pairs, [("L", "B"), ("A", "S"), ("L", "S")]);
        let error = stated.about(&["ab"]).unwrap_err().to_string();
        assert!(error.contains("info.toml") && error.contains("\"a\""), "{error}");
        let error = load("[\"a\"]\nlicense = \"A\"").unwrap_err().to_string();
        assert!(error.contains("info.toml") && error.contains("license"), "{error}");
    }
}
