//! Where rank 0 waits for the others: a TCP address, or a file that tells one.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::handshake::Token;
use crate::collective::Error;
use crate::collective::hosts::host_name;

/// A place to meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Rank 0 listens here: `host:port`.
    Address(String),
    /// Rank 0 writes its addresses to this file, on a file system that all ranks see. Without the
    /// job's name, which is appended (see [`Rendezvous::file`]).
    File(PathBuf),
}

/// All that a rank knows before it has met the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rendezvous {
    /// Where.
    pub place: Place,
    /// The job's name, which no other job or attempt has, where something names it: of Slurm's job, step and
    /// restart count, or NEUROSHARD_JOB.
    pub job: Option<String>,
    /// This rank.
    pub rank: usize,
    /// Number of ranks.
    pub ranks: usize,
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contents {
    version: u32,
    job: Option<String>,
    ranks: usize,
    /// In hexadecimal digits.
    token: String,
    /// The name of rank 0's host, for error messages.
    pub host: String,
    /// Where rank 0 listens: several, because not each can be reached from everywhere.
    pub addresses: Vec<SocketAddr>,
}

impl Place {
    /// Of `tcp://host:port` or `file:///path`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(address) = text.strip_prefix("tcp://") {
            let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            if port.is_some_and(|port| port > 0) {
                return Ok(Self::Address(address.to_owned()));
            }
        } else if let Some(path) = text.strip_prefix("file://")
            && path.starts_with('/')
        {
            return Ok(Self::File(path.into()));
        }
        Err(format!("{text}: neither tcp://host:port nor file:///absolute/path"))
    }
}

impl Rendezvous {
    /// The file of this very job and attempt: the place's name and the job's.
    pub fn file(&self, place: &Path) -> PathBuf {
        let Some(job) = &self.job else { return place.to_owned() };
        let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        let mut name = place.as_os_str().to_owned();
        name.push(format!("-{}", job.chars().map(safe).collect::<String>()));
        name.into()
    }

    /// The token of a job that meets at an address, where nothing can be handed around first.
    pub fn address_token(&self) -> Token {
        let named = blake3::hash(self.job.as_deref().unwrap_or_default().as_bytes());
        let mut token = [0; 16];
        token.copy_from_slice(&named.as_bytes()[..16]);
        token
    }

    /// Rank 0 tells where it listens: all at once, by a rename.
    pub fn publish(
        &self,
        path: &Path,
        token: &Token,
        addresses: Vec<SocketAddr>,
    ) -> Result<(), Error> {
        let fail = |why: String| Error::File { path: path.to_owned(), why };
        if let Some(old) = read(path)? {
            self.check_job(path, &old)?;
        }
        let contents = Contents {
            version: VERSION,
            job: self.job.clone(),
            ranks: self.ranks,
            token: token.iter().map(|byte| format!("{byte:02x}")).collect(),
            host: host_name(),
            addresses,
        };
        let text = serde_json::to_string_pretty(&contents).map_err(|e| fail(e.to_string()))?;
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(|e| fail(format!("cannot make its folder: {e}")))?;
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let draft = PathBuf::from(name);
        let written = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .and_then(|mut file| {
                file.write_all(text.as_bytes())?;
                file.sync_all()
            })
            .and_then(|()| fs::rename(&draft, path));
        written.map_err(|e| {
            let _ = fs::remove_file(&draft);
            fail(format!("cannot be written: {e}"))
        })
    }

    /// What rank 0 has told, if it has.
    pub fn look(&self, path: &Path) -> Result<Option<(Token, Contents)>, Error> {
        let fail = |why: String| Error::File { path: path.to_owned(), why };
        // Reading the folder makes a network file system look for new files now.
        if let Some(parent) = path.parent() {
            let _ = fs::read_dir(parent).map(Iterator::count);
        }
        let Some(contents) = read(path)? else { return Ok(None) };
        self.check_job(path, &contents)?;
        if contents.ranks != self.ranks {
            let (theirs, ours) = (contents.ranks, self.ranks);
            return Err(fail(format!("it is for {theirs} ranks, this job has {ours}")));
        }
        let token = parse_token(&contents.token)
            .ok_or_else(|| fail(format!("its token is not 32 hexadecimal digits; {REMOVE}")))?;
        Ok(Some((token, contents)))
    }

    fn check_job(&self, path: &Path, contents: &Contents) -> Result<(), Error> {
        if contents.job == self.job {
            return Ok(());
        }
        let name = |job: &Option<String>| job.clone().unwrap_or_else(|| "without a name".into());
        let (theirs, ours) = (name(&contents.job), name(&self.job));
        let host = &contents.host;
        let why = format!(
            "it belongs to job {theirs} (rank 0 on {host}), not to this job {ours}; if that job has \
             ended, remove the file, else name another by NEUROSHARD_RENDEZVOUS"
        );
        Err(Error::File { path: path.to_owned(), why })
    }
}

/// The addresses that `host:port` stands for.
pub fn resolve(address: &str) -> Result<Vec<SocketAddr>, Error> {
    address.to_socket_addrs().map(Iterator::collect).map_err(|e| Error::Start {
        what: format!("NEUROSHARD_RENDEZVOUS names {address}, which is no address: {e}"),
    })
}

/// The file's contents; `None` when it is not there.
fn read(path: &Path) -> Result<Option<Contents>, Error> {
    let fail = |why: String| Error::File { path: path.to_owned(), why };
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(fail(format!("cannot be opened: {error}"))),
    };
    let mut text = String::new();
    file.take(MAX_BYTES).read_to_string(&mut text).map_err(|e| fail(format!("unreadable: {e}")))?;
    let version = serde_json::from_str::<serde_json::Value>(&text)
        .map_err(|e| fail(format!("it is no rendezvous file ({e}); {REMOVE}")))?;
    match version.get("version").and_then(serde_json::Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => {
            return Err(fail(format!("its version is {version}, not {VERSION}; {REMOVE}")));
        }
        None => return Err(fail(format!("it is no rendezvous file; {REMOVE}"))),
    }
    let contents = serde_json::from_str(&text);
    contents.map(Some).map_err(|e| fail(format!("it is no rendezvous file ({e}); {REMOVE}")))
}

fn parse_token(text: &str) -> Option<Token> {
    let mut token = [0; 16];
    if text.len() != 32 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in token.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(token)
}

const VERSION: u32 = 1;
/// Longer than any file that [`Rendezvous::publish`] writes.
const MAX_BYTES: u64 = 256 << 10;
const REMOVE: &str = "remove it and start again";

#[cfg(test)]
mod tests {
    use super::*;

    fn of_job(job: &str) -> Rendezvous {
        let place = Place::File("/r/meet".into());
        Rendezvous { place, job: Some(job.into()), rank: 1, ranks: 4 }
    }

    fn addresses() -> Vec<SocketAddr> {
        vec!["10.0.0.1:4000".parse().unwrap(), "[::1]:4000".parse().unwrap()]
    }

    #[test]
    fn places_are_parsed() {
        let tcp = Place::Address("n1:4000".into());
        assert_eq!(Place::parse("tcp://n1:4000"), Ok(tcp));
        assert_eq!(Place::parse("file:///a/b"), Ok(Place::File("/a/b".into())));
        for wrong in ["", "n1:4000", "tcp://n1", "tcp://n1:0", "tcp://n1:x", "file://a/b", "/a"] {
            assert!(Place::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_files_name_has_the_job_and_its_attempt() {
        let file = of_job("77.0.2").file(Path::new("/r/meet"));
        assert_eq!(file, Path::new("/r/meet-77.0.2"));
        assert_eq!(of_job("../x").file(Path::new("/r/meet")), Path::new("/r/meet-.._x"));
        assert_ne!(of_job("77.0.2").address_token(), of_job("77.0.3").address_token());
    }

    #[test]
    fn what_rank_0_publishes_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/meet");
        let job = of_job("1");
        assert_eq!(job.look(&path).unwrap(), None);
        job.publish(&path, &[0xa5; 16], addresses()).unwrap();
        let (token, contents) = job.look(&path).unwrap().unwrap();
        assert_eq!((token, contents.addresses), ([0xa5; 16], addresses()));
        // Again, as after a crash of the same attempt.
        job.publish(&path, &[1; 16], addresses()).unwrap();
        assert_eq!(job.look(&path).unwrap().unwrap().0, [1; 16]);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_file_of_another_job_is_refused_by_every_rank() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meet");
        of_job("1").publish(&path, &[1; 16], addresses()).unwrap();
        for error in [
            of_job("2").look(&path).unwrap_err(),
            of_job("2").publish(&path, &[2; 16], addresses()).unwrap_err(),
        ] {
            let text = error.to_string();
            assert!(text.contains("belongs to job 1") && text.contains("this job 2"), "{text}");
            assert!(text.contains("meet") && text.contains("remove the file"), "{text}");
        }
        let other_size = Rendezvous { ranks: 8, ..of_job("1") };
        let text = other_size.look(&path).unwrap_err().to_string();
        assert!(text.contains("for 4 ranks, this job has 8"), "{text}");
    }

    #[test]
    fn files_that_are_no_rendezvous_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("meet");
        let cases = [
            ("", "no rendezvous file"),
            ("[1]", "no rendezvous file"),
            ("{\"version\": 9}", "its version is 9, not 1"),
            ("{\"version\": 1, \"job\": \"1\"}", "no rendezvous file"),
        ];
        for (text, want) in cases {
            fs::write(&path, text).unwrap();
            let error = of_job("1").look(&path).unwrap_err().to_string();
            assert!(error.contains(want) && error.contains("remove it"), "{text}: {error}");
        }
    }
}
