//! The run file: one table per module, each owned by that module.
//!
//! A file and any number of `--set section.key=value` are laid over the defaults. Everything that
//! is wrong is reported at once, each complaint with its file, line and key. Nothing below this
//! module sees more than its own table.

mod complaint;
mod document;
mod fields;
mod nearest;
mod reference;
mod scenario;
mod sections;

pub use complaint::{Complaint, Error};
pub use reference::reference;
pub use scenario::{Setting, scenario};

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::backend;
use crate::data;
use crate::metrics;
use crate::model;
use crate::optim;
use crate::shard;
use crate::train;
use document::Document;

/// What a run file says: `[run] [model] [data] [numerics] [device] [parallel] [train] [optim] [metrics]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RunConfig {
    /// Where the run is kept, and its seed.
    pub run: train::Run,
    /// The model's extents, or a preset.
    pub model: model::Config,
    /// The text to train on.
    pub data: data::Config,
    /// The arithmetic.
    pub numerics: train::Numerics,
    /// What to compute on. Never changes results.
    pub device: backend::Config,
    /// How the training is spread over ranks.
    pub parallel: shard::Config,
    /// Length and rhythm of training.
    pub train: train::Config,
    /// The optimizer.
    pub optim: optim::Config,
    /// What is recorded.
    pub metrics: metrics::Config,
}

impl RunConfig {
    /// The defaults, overlaid by the run file at `path`, overlaid by `sets` (`section.key=value`).
    pub fn load(path: Option<&Path>, sets: &[String]) -> Result<Self, Error> {
        let Some(path) = path else { return Self::from_text("the defaults", "", sets) };
        let text = read(path)?;
        Self::from_text(&path.display().to_string(), &text, sets)
    }

    /// As [`Self::load`], with the text of a file called `name`.
    pub fn from_text(name: &str, text: &str, sets: &[String]) -> Result<Self, Error> {
        let mut document = Document::parse(name, text)?;
        for set in sets {
            document.set(set);
        }
        let mut complaints = Vec::new();
        let table = sections::checked(&document, sections::RUN, &mut complaints);
        // Every entry was tried alone; whatever is left wrong concerns the whole.
        let config = Self::deserialize(toml::Value::Table(table))
            .map_err(|e| Error::whole(name, e.message().to_owned()))?;
        for complaint in train::complaints(&config.parts()) {
            let (key, why) = complaint.split_once(": ").unwrap_or(("", &complaint));
            complaints.push(document.complaint(key, why.to_owned()));
        }
        match complaints.is_empty() {
            true => Ok(config),
            false => Err(Error::Complaints(complaints)),
        }
    }

    /// All settings, as the text of a run file.
    pub fn to_toml(&self) -> Result<String, Error> {
        toml::to_string(self).map_err(|e| Error::whole("the configuration", e.to_string()))
    }

    /// The tables that decide the training.
    pub fn parts(&self) -> train::Parts<'_> {
        train::Parts {
            run: &self.run,
            model: &self.model,
            numerics: &self.numerics,
            parallel: &self.parallel,
            train: &self.train,
            optim: &self.optim,
        }
    }
}

/// The text of a run file.
fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let size_bytes = std::fs::metadata(path).map_err(failed)?.len();
    if size_bytes > MAX_BYTES {
        let why = format!("{size_bytes} bytes; a run file has at most {MAX_BYTES}");
        return Err(Error::whole(&path.display().to_string(), why));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// Longer files are no run files.
const MAX_BYTES: u64 = 1 << 20;
