//! What is known of a run, read again and again from its folder.

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use toml::Table;
use toml::Value;

use super::Error;
use super::history::History;
use super::machine::Machine;
use super::machine::Use;
use crate::metrics::Follower;
use crate::metrics::Since;

/// A run that is being watched.
#[derive(Debug)]
pub struct Watched {
    folder: PathBuf,
    follower: Follower,
    machine: Machine,
    pub(super) now: Now,
}

/// What is known at a time.
#[derive(Clone, Debug, Default)]
pub(super) struct Now {
    /// The folder, as it was named.
    pub name: String,
    /// The device, the profile and the version that the run has written down.
    pub device: String,
    /// Steps that the run will do, and between evaluations.
    pub steps: Option<[f64; 2]>,
    /// What its lines add up to.
    pub history: History,
    /// Lines that could not be read.
    pub spoiled: usize,
    /// Since the last line was written.
    pub quiet: Option<Duration>,
    /// Name of the newest checkpoint, since when it is there, and how many there are.
    pub checkpoint: Option<(String, Duration, usize)>,
    /// This host.
    pub used: Use,
}

impl Watched {
    /// The run of `train` in `folder`, which may just have begun.
    pub fn open(folder: &Path) -> Result<Self, Error> {
        fs::metadata(folder).map_err(Error::read(folder))?;
        let has = |name: &str| folder.join(name).is_file();
        if !has("metrics.jsonl") && !has("config.toml") {
            let remedy = match has("rounds.jsonl") {
                true => "it is a simulation; `neuroshard report` shows it".to_owned(),
                false => remedy(folder),
            };
            return Err(Error::NoRun { path: folder.to_owned(), remedy });
        }
        let now = Now { name: folder.display().to_string(), ..Now::default() };
        let follower = Follower::of(&folder.join("metrics.jsonl"));
        Ok(Self { folder: folder.to_owned(), follower, machine: Machine::new(), now })
    }

    /// Reads what is new.
    pub fn refresh(&mut self) -> Result<(), Error> {
        let path = self.folder.join("metrics.jsonl");
        let news = self.follower.news().map_err(Error::read(&path))?;
        if news.since == Since::Beginning {
            (self.now.history, self.now.spoiled) = (History::default(), 0);
        }
        self.now.spoiled += news.spoiled;
        news.lines.into_iter().for_each(|line| self.now.history.add(line));
        self.now.quiet = age(&path);
        // A resume may write them anew, with other values.
        self.now.steps = steps(&self.folder.join("config.toml"));
        self.now.device = device(&self.folder.join("device.json"));
        self.now.checkpoint = checkpoint(&self.folder.join("checkpoints"));
        self.now.used = self.machine.look();
        Ok(())
    }
}

/// Which folders inside could have been meant.
fn remedy(folder: &Path) -> String {
    let inside = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut runs: Vec<_> = inside.filter(|path| path.join("metrics.jsonl").is_file()).collect();
    runs.sort();
    match runs.as_slice() {
        [] => "name the run.dir of a run".to_owned(),
        [first, ..] => format!("name one of the {} in it, such as {}", runs.len(), first.display()),
    }
}

/// How long ago a file or folder was changed.
fn age(path: &Path) -> Option<Duration> {
    let changed = fs::metadata(path).ok()?.modified().ok()?;
    // A clock of another host may be ahead.
    Some(SystemTime::now().duration_since(changed).unwrap_or_default())
}

/// Steps until the run ends, and between evaluations.
fn steps(config: &Path) -> Option<[f64; 2]> {
    let table: Table = fs::read_to_string(config).ok()?.parse().ok()?;
    let of = |key: &str| table.get("train")?.get(key)?.as_integer().map(|n| n as f64);
    let all = of("steps")?;
    let end = of("stop_after").filter(|end| *end > 0.0).unwrap_or(all);
    Some([end.min(all), of("eval_every").unwrap_or(0.0)])
}

/// What the run computes on, in its own words.
fn device(path: &Path) -> String {
    let read = || -> Option<Table> { serde_json::from_slice(&fs::read(path).ok()?).ok() };
    let table = read().unwrap_or_default();
    let of = |key: &str| table.get(key).and_then(Value::as_str).map(str::to_owned);
    let words = [of("device"), of("profile"), of("version").map(|v| format!("neuroshard {v}"))];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// The newest of the checkpoints in a folder.
fn checkpoint(folder: &Path) -> Option<(String, Duration, usize)> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    // Others are under way or on their way out.
    let mut names: Vec<_> = names.filter(|name| name.bytes().all(|c| c.is_ascii_digit())).collect();
    names.sort_by_key(|name| (name.len(), name.clone()));
    let newest = names.last()?.clone();
    let age = age(&folder.join(&newest))?;
    Some((newest, age, names.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_whole_checkpoint_counts() {
        let dir = tempfile::tempdir().unwrap();
        assert!(checkpoint(dir.path()).is_none());
        for name in ["00000900", "00001000", ".unfinished-00001100-5", "100000000"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let (name, _, count) = checkpoint(dir.path()).unwrap();
        assert_eq!((name.as_str(), count), ("100000000", 3));
    }

    #[test]
    fn a_run_ends_where_its_settings_say() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.toml");
        for (text, want) in [
            ("[train]\nsteps = 300\nstop_after = 0\neval_every = 50\n", Some([300.0, 50.0])),
            ("[train]\nsteps = 300\nstop_after = 20\n", Some([20.0, 0.0])),
            ("[train]\n", None),
            ("nonsense", None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(steps(&path), want, "{text}");
        }
    }

    #[test]
    fn other_folders_are_refused_with_a_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |path: &Path| Watched::open(path).unwrap_err().to_string();
        assert!(refused(dir.path()).contains("name the run.dir"));
        fs::create_dir(dir.path().join("a")).unwrap();
        fs::write(dir.path().join("a/metrics.jsonl"), "").unwrap();
        assert!(refused(dir.path()).contains("such as"));
        fs::write(dir.path().join("rounds.jsonl"), "").unwrap();
        assert!(refused(dir.path()).contains("simulation"));
        assert!(refused(&dir.path().join("none")).contains("cannot read"));
    }
}
