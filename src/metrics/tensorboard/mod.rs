//! Event files that TensorBoard reads: records framed as in TFRecord files, each an `Event` message of
//! protocol buffers with scalars (tensorflow's `event.proto`, `summary.proto`).

mod crc32c;
mod event;
mod record;

use std::fs;
use std::fs::File;
use std::io;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::time::SystemTime;
use std::time::UNIX_EPOCH;

/// An event file that is being written.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: BufWriter<File>,
}

impl EventFile {
    /// A new file in `folder` for the steps from `step` on. What other event files of the folder say of
    /// those steps, TensorBoard leaves out, as after a resume from an earlier step.
    pub fn create(folder: &Path, step: u64) -> io::Result<Self> {
        let path = folder.join(name(folder, seconds()? as u64)?);
        let file = BufWriter::new(File::create_new(&path)?);
        let mut new = Self { path, file };
        let time = seconds()?;
        new.write(&event::version(time))?;
        new.write(&event::start(time, step))?;
        Ok(new)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends values of `step`, by their names, visible to readers at once.
    pub fn append(&mut self, step: u64, scalars: &[(&str, f64)]) -> io::Result<()> {
        self.write(&event::scalars(seconds()?, step, scalars))
    }

    fn write(&mut self, event: &[u8]) -> io::Result<()> {
        self.file.write_all(&record::framed(event))?;
        self.file.flush()
    }
}

/// The name of a new file: TensorBoard reads the files of a folder in the order of their names, so
/// it has a later time in it than those that are there.
fn name(folder: &Path, now: u64) -> io::Result<String> {
    let mut time = now;
    for entry in fs::read_dir(folder)? {
        let found = entry?.file_name();
        let found = found.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let found = found.and_then(|rest| rest.get(..10)?.parse::<u64>().ok());
        time = time.max(found.map_or(0, |found| found + 1));
    }
    let host = rustix::system::uname();
    let host: String = host.nodename().to_string_lossy().chars().filter(is_plain).collect();
    Ok(format!("{PREFIX}{time:010}.{host}.{}", std::process::id()))
}

fn is_plain(c: &char) -> bool {
    c.is_ascii_alphanumeric() || "-._".contains(*c)
}

/// Seconds since 1970.
fn seconds() -> io::Result<f64> {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.map(|time| time.as_secs_f64()).map_err(io::Error::other)
}

const PREFIX: &str = "events.out.tfevents.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_files_have_later_names() {
        let dir = tempfile::tempdir().unwrap();
        let far = format!("{PREFIX}9000000000.other.1");
        for other in [&far[..], "events.out.tfevents.short", "metrics.jsonl"] {
            fs::write(dir.path().join(other), "").unwrap();
        }
        let first = EventFile::create(dir.path(), 1).unwrap();
        let second = EventFile::create(dir.path(), 1).unwrap();
        let names = [first.path(), second.path()].map(|p| p.file_name().unwrap().to_owned());
        assert!(names[0].to_str().unwrap() > &far[..] && names[1] > names[0], "{names:?}");
    }
}
