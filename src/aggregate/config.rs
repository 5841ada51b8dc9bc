//! The `[aggregate]` table.

use serde::Deserialize;
use serde::Serialize;

use super::Error;

/// How updates become one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The rule. Default `mean`.
    pub rule: Rule,
}

/// A rule's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The mean.
    #[default]
    Mean,
}

impl Config {
    /// Whether the rule can be applied to the updates of `n` peers.
    pub fn check(&self, n: usize) -> Result<(), Error> {
        if n == 0 { Err(Error::NoUpdates) } else { Ok(()) }
    }
}
