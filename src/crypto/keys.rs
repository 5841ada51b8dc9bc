//! Signing keys (Ed25519, RFC 8032) and their files.
//!
//! A key file is one line, `neuroshard key 1 ` and the 64 hexadecimal digits of the secret, and
//! only its owner may read it.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;

use ed25519_dalek::Signer;
use thiserror::Error;

use super::Hash;
use super::PeerId;

/// A secret key. It is wiped from memory when it is dropped, and never printed.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// What is wrong with a key file.
#[derive(Debug, Error)]
pub enum KeyError {
    /// It could not be read or written.
    #[error("key {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// It is no key, or others may read it.
    #[error("key {}: {reason}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the remedy.
        reason: &'static str,
    },
}

impl SigningKey {
    /// A new key, from the system's random numbers.
    pub fn generate() -> io::Result<Self> {
        let mut secret = [0; 32];
        File::open("/dev/urandom")?.read_exact(&mut secret)?;
        Ok(Self::from_secret(&secret))
    }

    /// The key of a secret.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// Makes a new key and its file, which must not exist.
    pub fn create(path: &Path) -> Result<Self, KeyError> {
        let fail = |source| KeyError::File { path: path.to_path_buf(), source };
        let key = Self::generate().map_err(fail)?;
        let options = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let mut file = options.map_err(fail)?;
        let line = format!("{PREFIX}{}\n", Hash(key.0.to_bytes()));
        let written = file.write_all(line.as_bytes()).and_then(|()| file.sync_all());
        written.map_err(|source| {
            // A key in part is none.
            let _ = fs::remove_file(path);
            fail(source)
        })?;
        Ok(key)
    }

    /// Reads a key's file, which only its owner may read.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let fail = |source| KeyError::File { path: path.to_path_buf(), source };
        let unfit = |reason| KeyError::Unfit { path: path.to_path_buf(), reason };
        let file = File::open(path).map_err(fail)?;
        if file.metadata().map_err(fail)?.permissions().mode() & 0o077 != 0 {
            return Err(unfit("others may read it; chmod 600 it, or make another"));
        }
        let mut text = String::new();
        file.take(MAX_FILE_BYTES).read_to_string(&mut text).map_err(fail)?;
        let secret = text.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix('\n'));
        let secret = secret.and_then(|digits| digits.parse::<Hash>().ok());
        let secret = secret.ok_or_else(|| unfit("no key file of version 1"))?;
        Ok(Self::from_secret(secret.as_bytes()))
    }

    /// The public key.
    pub fn public(&self) -> PeerId {
        PeerId(self.0.verifying_key().to_bytes())
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey of {}", self.public())
    }
}

const PREFIX: &str = "neuroshard key 1 ";
const MAX_FILE_BYTES: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_files_are_private_and_never_overwritten() {
        let dir = tempfile::TempDir::new().unwrap();
        let path = dir.path().join("key");
        let key = SigningKey::create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(SigningKey::load(&path).unwrap().public(), key.public());
        assert!(SigningKey::create(&path).is_err());
        assert_eq!(SigningKey::load(&path).unwrap().public(), key.public());
        assert_ne!(SigningKey::generate().unwrap().public(), key.public());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = SigningKey::load(&path).unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
        let bad = dir.path().join("bad");
        fs::write(&bad, "neuroshard key 2 00\n").unwrap();
        fs::set_permissions(&bad, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(SigningKey::load(&bad).unwrap_err().to_string().contains("no key file"));
        assert!(!format!("{key:?}").contains(&Hash(key.0.to_bytes()).to_string()));
    }
}
