//! The folder of one run.

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use super::record::Record;
use super::summary::Summary;
use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::simulate::Error;
use crate::simulate::scenario::Scenario;

/// `NAME-HASH` with `scenario.toml`, `rounds.jsonl`, and `summary.json`, which is written last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The folder of `scenario` on the data with the given identity, under `out`.
    pub fn of(out: &Path, scenario: &Scenario, data: Option<Hash>) -> Self {
        let mut both = scenario.hash().as_bytes().to_vec();
        both.extend(data.iter().flat_map(|hash| hash.0));
        let hash = Hash::of(Domain::Scenario, &both).to_string();
        let name = format!("{}-{}", scenario.scenario.name, &hash[..HASH_DIGITS]);
        Self { path: out.join(name) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The summary of a finished run; none where there is none.
    pub fn summary(&self) -> Result<Option<Summary>, Error> {
        let path = self.path.join(SUMMARY);
        let size = match fs::metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::file("read", path)(error)),
        };
        let unread = |why: String| Error::Folder {
            path: path.clone(),
            why: format!("{why}; remove the folder to run it anew"),
        };
        if size > MAX_SUMMARY_BYTES {
            return Err(unread(format!("{size} bytes are no summary")));
        }
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let summary = serde_json::from_str(&text);
        summary.map(Some).map_err(|error| unread(format!("not a summary: {error}")))
    }

    /// Begins a run in it; what an unfinished one left is overwritten.
    pub fn begin(&self, scenario: &Scenario) -> Result<Rounds, Error> {
        fs::create_dir_all(&self.path).map_err(Error::file("make", &self.path))?;
        let settings = self.path.join("scenario.toml");
        fs::write(&settings, scenario.to_toml()).map_err(Error::file("write", &settings))?;
        let path = self.path.join("rounds.jsonl");
        let file = File::create(&path).map_err(Error::file("make", &path))?;
        Ok(Rounds { path, file: BufWriter::new(file) })
    }

    /// Ends a run.
    pub fn finish(&self, rounds: Rounds, summary: &Summary) -> Result<(), Error> {
        rounds.close()?;
        let (path, partial) = (self.path.join(SUMMARY), self.path.join("summary.json.partial"));
        let mut text = serde_json::to_string_pretty(summary).unwrap_or_default();
        text.push('\n');
        fs::write(&partial, text).map_err(Error::file("write", &partial))?;
        fs::rename(&partial, &path).map_err(Error::file("write", &path))
    }
}

/// `rounds.jsonl`, being written.
#[derive(Debug)]
pub struct Rounds {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Rounds {
    /// Appends a line, visible to readers at once.
    pub fn append(&mut self, record: &Record) -> Result<(), Error> {
        let written = serde_json::to_writer(&mut self.file, record).map_err(io::Error::from);
        let written = written.and_then(|()| self.file.write_all(b"\n"));
        written.and_then(|()| self.file.flush()).map_err(Error::file("write", &self.path))
    }

    fn close(mut self) -> Result<(), Error> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        synced.map_err(Error::file("write", &self.path))
    }
}

const SUMMARY: &str = "summary.json";
/// Of the hash in a folder's name.
const HASH_DIGITS: usize = 12;
const MAX_SUMMARY_BYTES: u64 = 1 << 20;
