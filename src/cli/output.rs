//! Standard output that does not panic when its reader goes away.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

use super::Failure;

/// Standard output, or nothing: of many ranks one speaks.
#[derive(Debug)]
pub struct Stdout(Option<io::Stdout>);

impl Stdout {
    /// That of this process.
    pub fn new() -> Self {
        Self(Some(io::stdout()))
    }

    /// Prints nothing.
    pub fn quiet() -> Self {
        Self(None)
    }

    /// Prints a line.
    pub fn line(&mut self, text: impl fmt::Display) -> Result<(), Failure> {
        match &mut self.0 {
            Some(out) => Ok(writeln!(out, "{text}")?),
            None => Ok(()),
        }
    }

    /// Prints a piece of a line, at once.
    pub fn piece(&mut self, text: &str) -> Result<(), Failure> {
        if let Some(out) = &mut self.0 {
            out.write_all(text.as_bytes())?;
            out.flush()?;
        }
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
