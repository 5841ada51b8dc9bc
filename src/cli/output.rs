//! Standard output that does not panic when its reader goes away.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use super::Failure;

/// Standard output.
#[derive(Debug)]
pub struct Stdout(io::Stdout);

impl Stdout {
    /// That of this process.
    pub fn new() -> Self {
        Self(io::stdout())
    }

    /// Prints a line.
    pub fn line(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        writeln!(self.0, "{text}")?;
        Ok(())
    }

    /// Prints a piece of a line, at once.
    pub fn piece(&mut self, text: &str) -> Result<(), Failure> {
        self.0.write_all(text.as_bytes())?;
        self.0.flush()?;
        Ok(())
    }

    /// Prints a value as JSON over several lines.
    pub fn json(&mut self, value: &serde_json::Value) -> Result<(), Failure> {
        self.line(serde_json::to_string_pretty(value)?)
    }
}

/// Whether writing failed because the reader of a pipe is gone.
pub fn is_broken_pipe(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
}
