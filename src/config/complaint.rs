//! What is wrong with a run file, where, and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    /// The file, or `--set`.
    pub place: String,
    /// Line in the file, from 1; none for `--set` and for defaults.
    pub line: Option<usize>,
    /// Such as `train.steps`.
    pub key: String,
    /// What is wrong, and the remedy.
    pub why: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}: {}", self.place, self.key, self.why),
            None => write!(f, "{}: {}: {}", self.place, self.key, self.why),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the run file {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The file is not TOML.
    #[error("{place}:{line}: not TOML: {why}")]
    Syntax {
        /// The file.
        place: String,
        /// From 1.
        line: usize,
        /// The parser's words.
        why: String,
    },
    /// The file as a whole cannot be.
    #[error("{place}: {why}")]
    Whole {
        /// The file.
        place: String,
        /// What is wrong.
        why: String,
    },
    /// All that is wrong, at once.
    #[error("{}", listed(.0))]
    Complaints(Vec<Complaint>),
}

impl Error {
    /// An [`Error::Whole`].
    pub(super) fn whole(place: &str, why: String) -> Self {
        Self::Whole { place: place.to_owned(), why }
    }
}

/// One complaint a line.
fn listed(complaints: &[Complaint]) -> String {
    let lines: Vec<_> = complaints.iter().map(Complaint::to_string).collect();
    match lines.len() {
        1 => lines.concat(),
        n => format!("{n} complaints about the configuration\n  {}", lines.join("\n  ")),
    }
}
