//! The folder of a run: `config.toml`, `device.json`, `metrics.jsonl`, `checkpoints/`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::path::PathBuf;

use serde::Serialize;

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

    /// What the first rank computes on, and what its kernels have decided: `DeviceRecord`.
    pub fn device(&self) -> PathBuf {
        self.path.join("device.json")
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

    /// Writes the settings.
    pub(super) fn write_config(&self, text: &str) -> Result<(), Error> {
        self.replace(&self.config(), text)
    }

    /// Writes what the first rank computes on.
    pub(super) fn write_device(&self, record: &DeviceRecord) -> Result<(), Error> {
        let path = self.device();
        let text = serde_json::to_string_pretty(record);
        let text = text.map_err(io::Error::from).map_err(Error::file("write", &path))?;
        self.replace(&path, &format!("{text}\n"))
    }

    /// Writes a file of the folder: the old one or the new one is there, never half of any.
    fn replace(&self, path: &Path, text: &str) -> Result<(), Error> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unfinished = self.path.join(format!(".{name}.unfinished"));
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&unfinished)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&unfinished, path)
        };
        write().map_err(Error::file("write", path))
    }
}

/// What a rank computes on. It tells of the machine: no result depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeviceRecord {
    /// As the device describes itself.
    pub device: String,
    /// Profile of its products.
    pub profile: String,
    /// Version of this program.
    pub version: String,
    /// What was decided by measuring: who computes which product.
    pub decisions: Vec<String>,
}
