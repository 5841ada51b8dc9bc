//! What can be wrong with an attacker's table.

use thiserror::Error;

/// Why there is no such attack.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Error {
    /// A parameter that the attack has no use for.
    #[error("attack.{field}: {kind} does not read it; it reads {}", reads(.allowed))]
    Unread {
        /// Which parameter.
        field: &'static str,
        /// The attack.
        kind: &'static str,
        /// What it reads.
        allowed: Vec<&'static str>,
    },
    /// A value that cannot be.
    #[error("attack.{field}: {value} cannot be; {bounds}")]
    OutOfRange {
        /// Which parameter.
        field: &'static str,
        /// What it says.
        value: String,
        /// What could be.
        bounds: &'static str,
    },
}

fn reads(allowed: &[&str]) -> String {
    if allowed.is_empty() { "no parameter".to_owned() } else { allowed.join(", ") }
}
