//! A folder that is there as a whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::path::PathBuf;

use super::Error;

/// A folder beside the one that it becomes; removed if it does not.
#[derive(Debug)]
pub struct Staging {
    dir: PathBuf,
    out: PathBuf,
}

impl Staging {
    /// An empty folder that is to become `out`, which must not exist or be empty.
    pub fn create(out: &Path) -> Result<Self, Error> {
        let occupied = match fs::read_dir(out) {
            Ok(mut entries) => entries.next().is_some(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => false,
            Err(e) if e.kind() == io::ErrorKind::NotADirectory => true,
            Err(e) => return Err(Error::io("read", out)(e)),
        };
        let Some(last) = out.file_name().filter(|_| !occupied) else {
            return Err(Error::Occupied { path: out.to_owned() });
        };
        let mut name = OsString::from(".");
        name.push(last);
        name.push(format!(".partial-{}", std::process::id()));
        let dir = out.with_file_name(name);
        fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
        Ok(Self { dir, out: out.to_owned() })
    }

    /// The folder, as long as it is not published.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a whole file of the folder and waits until the disk has it.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), Error> {
        let path = self.dir.join(name);
        let write = || {
            let mut file = File::create_new(&path)?;
            file.write_all(bytes)?;
            file.sync_all()
        };
        write().map_err(Error::io("write", &path))
    }

    /// Renames the folder to what it was to become.
    pub fn publish(self) -> Result<(), Error> {
        let parent = match self.out.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let publish = || {
            File::open(&self.dir)?.sync_all()?;
            fs::rename(&self.dir, &self.out)?;
            File::open(parent)?.sync_all()
        };
        publish().map_err(Error::io("make", &self.out))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // After a rename there is nothing to remove; else the error that led here is the news.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_whole_or_not_there() {
        let temp = tempfile::tempdir().unwrap();
        let out = temp.path().join("model");
        let staging = Staging::create(&out).unwrap();
        staging.write("a", b"b").unwrap();
        assert!(staging.write("a", b"c").is_err());
        drop(staging);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);

        fs::create_dir(&out).unwrap();
        let staging = Staging::create(&out).unwrap();
        staging.write("a", b"b").unwrap();
        staging.publish().unwrap();
        assert_eq!(fs::read(out.join("a")).unwrap(), b"b");
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);

        assert!(matches!(Staging::create(&out), Err(Error::Occupied { .. })));
        assert!(matches!(Staging::create(&out.join("a")), Err(Error::Occupied { .. })));
        assert!(matches!(Staging::create(Path::new("/")), Err(Error::Occupied { .. })));
    }
}
