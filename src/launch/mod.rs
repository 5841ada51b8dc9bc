//! Jobs for a cluster's scheduler, written from a configuration.

mod quote;
mod slurm;

pub use slurm::{Job, Sweep, script};

use std::io;
use std::process::ExitStatus;

/// Why a job could not be written or submitted.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An argument that cannot stand in a job script.
    #[error("{field}: `{value}` {why}")]
    Field {
        /// The option of the command line.
        field: &'static str,
        /// What was given.
        value: String,
        /// What is wrong with it, and what would do.
        why: String,
    },
    /// The scheduler's program could not be started.
    #[error(
        "cannot start sbatch: run this on a login node of the cluster, or use --dry-run and submit the script there"
    )]
    NoScheduler {
        /// Why not.
        source: io::Error,
    },
    /// The scheduler said no.
    #[error("sbatch refused the job ({status}): {words}")]
    Refused {
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        words: String,
    },
    /// Talking to the scheduler failed.
    #[error("cannot talk to sbatch")]
    Talk(#[from] io::Error),
}

/// Submits `script`; the scheduler's number of the job.
pub fn submit(script: &str) -> Result<String, Error> {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut sbatch = Command::new("sbatch")
        .arg("--parsable")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|source| Error::NoScheduler { source })?;
    if let Some(mut stdin) = sbatch.stdin.take() {
        stdin.write_all(script.as_bytes())?;
    }
    let output = sbatch.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        return Err(Error::Refused { status: output.status, words: text(&output.stderr) });
    }
    // `JOB` or `JOB;CLUSTER`.
    let answer = text(&output.stdout);
    Ok(answer.split(';').next().unwrap_or_default().to_owned())
}
