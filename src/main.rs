//! The `neuroshard` binary: calls [`neuroshard::cli::run`] and reports its outcome.

use std::process::ExitCode;

fn main() -> ExitCode {
    neuroshard::cli::run()
}
