//! libcublasLt, loaded at run time: the program is built without CUDA, and runs where there is none.

use std::env;
use std::error::Error as _;
use std::ffi::CStr;
use std::ffi::c_int;
use std::fmt;
use std::path::PathBuf;

use super::calls::{Calls, SUCCESS};
use super::error::Error;

/// A version: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub usize, pub usize, pub usize);

impl Version {
    /// From cuBLASLt's number: 10000 * major + 100 * minor + patch.
    fn of(code: usize) -> Self {
        Self(code / 10_000, code / 100 % 100, code % 100)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// cuBLASLt, loaded.
#[derive(Clone)]
pub struct Library {
    pub(super) calls: Calls,
    version: Version,
    /// Where it was found.
    path: String,
}

impl Library {
    /// Loads the first libcublasLt that is there; nothing of CUDA is started.
    pub fn load() -> Result<Self, Error> {
        let mut tried = Vec::new();
        for path in candidates(&|name| env::var(name).ok()) {
            // SAFETY: constructors of the library run here, as they would if the program were linked
            // with it.
            match unsafe { libloading::Library::new(&path) } {
                Ok(library) => return Self::from_library(library, path),
                Err(error) => {
                    // The loader's own words are the cause of the error.
                    tried.push(error.source().map_or_else(|| error.to_string(), |c| c.to_string()));
                }
            }
        }
        Err(Error::NotFound { tried: tried.join("; ") })
    }

    fn from_library(library: libloading::Library, path: String) -> Result<Self, Error> {
        let refuse = |why: String| Error::Unusable { path: path.clone(), why };
        // SAFETY: the library has cuBLASLt's name or the user vouched for it; what it lacks is found
        // out here, and signatures have not changed since 11.4. It is leaked below.
        let calls = unsafe { Calls::find(&library) }.map_err(refuse)?;
        // It has kernels loaded into devices, which do not survive its code.
        std::mem::forget(library);
        Self::from_calls(calls, path)
    }

    /// cuBLASLt by its functions.
    pub(super) fn from_calls(calls: Calls, path: String) -> Result<Self, Error> {
        // SAFETY: allowed at any time, and without a driver.
        let version = Version::of(unsafe { (calls.get_version)() });
        if version < OLDEST {
            return Err(Error::TooOld { have: version, want: OLDEST, path });
        }
        Ok(Self { calls, version, path })
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where it was found: a path, or a name that the loader knows.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `Ok` for success.
    pub(super) fn check(&self, call: &'static str, status: c_int) -> Result<(), Error> {
        if status == SUCCESS {
            return Ok(());
        }
        // SAFETY: any number is allowed.
        let words = unsafe { (self.calls.get_status_string)(status) };
        let cause = if words.is_null() {
            "no words".into()
        } else {
            // SAFETY: not null, a constant of the library's that ends with a zero.
            unsafe { CStr::from_ptr(words) }.to_string_lossy().into_owned()
        };
        Err(Error::Call { call, status, cause })
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuBLASLt {} ({})", self.version, self.path)
    }
}

/// Names to try: the one the user gives alone, else what the loader knows, then where toolkits and
/// Python keep it.
fn candidates(environment: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let given = |name| environment(name).filter(|value| !value.is_empty());
    if let Some(path) = given(LIBRARY_VARIABLE) {
        let path = PathBuf::from(path);
        let file = if path.is_dir() { path.join(NAMES[0]) } else { path };
        return vec![file.to_string_lossy().into_owned()];
    }
    let mut names: Vec<String> = NAMES.map(str::to_owned).into();
    let mut folders = Vec::new();
    folders.extend(given("CUDA_HOME").map(|home| format!("{home}/lib64")));
    folders.extend(given("CONDA_PREFIX").map(|home| format!("{home}/lib")));
    if let Some(home) = given("VIRTUAL_ENV") {
        let pythons = std::fs::read_dir(format!("{home}/lib")).into_iter().flatten().flatten();
        let mut found: Vec<_> = pythons.map(|python| python.path()).collect();
        found.sort();
        for python in found {
            // `pip install nvidia-cublas` and `nvidia-cublas-cu12`; PyTorch's wheels bring one.
            for wheel in ["cu13", "cublas"] {
                let folder = python.join("site-packages/nvidia").join(wheel).join("lib");
                folders.push(folder.to_string_lossy().into_owned());
            }
        }
    }
    let files = folders.iter().flat_map(|folder| NAMES.map(|name| format!("{folder}/{name}")));
    names.extend(files.filter(|file| std::path::Path::new(file).exists()));
    names
}

/// Names a libcublasLt.so or its folder, past all guessing.
pub const LIBRARY_VARIABLE: &str = "NEUROSHARD_CUBLASLT";
const NAMES: [&str; 3] = ["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"];
/// The first that knows Hopper.
const OLDEST: Version = Version(12, 0, 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_the_library_writes_them() {
        assert_eq!(Version::of(130_002), Version(13, 0, 2));
        assert_eq!(Version::of(120_805).to_string(), "12.8.5");
        assert!(Version::of(111_103) < OLDEST);
    }

    #[test]
    fn a_named_library_is_the_only_one_tried() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_string_lossy().into_owned();
        let named = |name: &str| (name == LIBRARY_VARIABLE).then(|| folder.clone());
        assert_eq!(candidates(&named), [format!("{folder}/libcublasLt.so.13")]);
        let file = |name: &str| (name == LIBRARY_VARIABLE).then(|| "/opt/lt.so".to_owned());
        assert_eq!(candidates(&file), ["/opt/lt.so"]);
    }

    #[test]
    fn python_packages_and_toolkits_are_found() {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join("lib/python3.12/site-packages/nvidia/cu13/lib");
        std::fs::create_dir_all(&lib).unwrap();
        std::fs::write(lib.join("libcublasLt.so.13"), "").unwrap();
        let home = dir.path().to_string_lossy().into_owned();
        let environment = |name: &str| (name == "VIRTUAL_ENV").then(|| home.clone());
        let want = lib.join("libcublasLt.so.13").to_string_lossy().into_owned();
        assert_eq!(candidates(&environment).last(), Some(&want));
        assert_eq!(candidates(&|_| None), NAMES);
    }
}
