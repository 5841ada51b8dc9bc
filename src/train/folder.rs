//! The folder of a run: `config.toml`, `metrics.jsonl`, `checkpoints/`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::path::PathBuf;

use super::Error;

/// Where a run is kept.
#[derive(Clone, Debug)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// The folder at `path`, which may not exist yet.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The settings in force, with defaults written out.
    pub fn config(&self) -> PathBuf {
        self.path.join("config.toml")
    }

    /// One line a step and evaluation.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// One folder a checkpoint.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Whether there is a run here.
    pub fn is_taken(&self) -> bool {
        [self.config(), self.metrics(), self.checkpoints()].iter().any(|p| p.exists())
    }

    /// Makes the folder for a new run; refuses one that holds a run.
    pub(super) fn create(&self) -> Result<(), Error> {
        if self.is_taken() {
            return Err(Error::Taken { path: self.path.clone() });
        }
        fs::create_dir_all(&self.path).map_err(Error::file("create", &self.path))
    }

    /// Writes the settings: the old ones or the new ones are there, never half of any.
    pub(super) fn write_config(&self, text: &str) -> Result<(), Error> {
        let (path, unfinished) = (self.config(), self.path.join(".config.toml.unfinished"));
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&unfinished)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)
        };
        write().map_err(Error::file("write", &path))
    }
}
