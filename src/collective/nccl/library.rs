//! libnccl, loaded at run time: the program is built without CUDA, and runs where there is none.

use std::env;
use std::error::Error as _;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::fmt;
use std::path::PathBuf;

use super::calls::{Calls, Comm, IN_PROGRESS, SUCCESS};
use super::error::Error;

/// A version: major, minor, patch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u32, pub u32, pub u32);

impl Version {
    /// From NCCL's number, 10000 * major + 100 * minor + patch since 2.9.
    pub(super) fn of(code: c_int) -> Self {
        let code = u32::try_from(code).unwrap_or(0);
        match code {
            0..10_000 => Self(code / 1000, code / 100 % 10, code % 100),
            _ => Self(code / 10_000, code / 100 % 100, code % 100),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// NCCL, loaded.
#[derive(Clone)]
pub struct Library {
    pub(super) calls: Calls,
    version: Version,
    /// Where it was found.
    path: String,
}

impl Library {
    /// Loads the first libnccl that is there and new enough; nothing of CUDA is initialized.
    pub fn load() -> Result<Self, Error> {
        let mut tried = Vec::new();
        for path in candidates(&|name| env::var(name).ok()) {
            // SAFETY: constructors of NCCL run here, as they would if the program were linked with it.
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
        // SAFETY: the library has NCCL's name or the user vouched for it; what it lacks of 2.18 is
        // found out here, and signatures have not changed since. It is leaked below.
        let calls = unsafe { Calls::find(&library) }.map_err(refuse)?;
        // NCCL has threads and GPU memory of its own, which do not survive its code.
        std::mem::forget(library);
        Self::from_calls(calls, path)
    }

    /// NCCL by its functions.
    pub(super) fn from_calls(calls: Calls, path: String) -> Result<Self, Error> {
        let mut code = 0;
        // SAFETY: allowed at any time; the result is in scope.
        let rc = unsafe { (calls.get_version)(&mut code) };
        let library = Self { calls, version: Version::of(code), path };
        library.check("ncclGetVersion", std::ptr::null_mut(), rc)?;
        if library.version < OLDEST {
            return Err(Error::TooOld { have: library.version, want: OLDEST, path: library.path });
        }
        Ok(library)
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Where it was found: a path, or a name that the loader knows.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `Ok` for success and for a call that goes on in the background.
    pub(super) fn check(&self, call: &'static str, comm: Comm, rc: c_int) -> Result<(), Error> {
        if rc == SUCCESS || rc == IN_PROGRESS {
            return Ok(());
        }
        Err(Error::Call { call, cause: self.words(comm, rc) })
    }

    /// What NCCL says about a return code: its meaning, and the last message of its log.
    fn words(&self, comm: Comm, rc: c_int) -> String {
        // SAFETY: any number is allowed; the text is NCCL's and lives as long as the library.
        let meaning = text(unsafe { (self.calls.get_error_string)(rc) });
        // SAFETY: null or a communicator that is not destroyed (`comm` is the caller's); the text
        // is copied before the next call can change it.
        let last = text(unsafe { (self.calls.get_last_error)(comm) });
        match last.trim() {
            "" => format!("{meaning} (code {rc})"),
            last => format!("{meaning} (code {rc}): {last}"),
        }
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NCCL {} ({})", self.version, self.path)
    }
}

fn text(at: *const c_char) -> String {
    if at.is_null() {
        return String::new();
    }
    // SAFETY: not null, and NCCL's texts end with a zero.
    unsafe { CStr::from_ptr(at) }.to_string_lossy().into_owned()
}

/// Names to try: the one the user gives alone, else what the loader knows, then where Python keeps it.
fn candidates(environment: &dyn Fn(&str) -> Option<String>) -> Vec<String> {
    let given = |name| environment(name).filter(|value| !value.is_empty());
    if let Some(path) = given(LIBRARY_VARIABLE) {
        let path = PathBuf::from(path);
        let file = if path.is_dir() { path.join(NAME) } else { path };
        return vec![file.to_string_lossy().into_owned()];
    }
    let mut names = vec![NAME.to_owned()];
    let homes = ["NCCL_HOME", "CONDA_PREFIX"].into_iter().filter_map(given);
    names.extend(homes.map(|home| format!("{home}/lib/{NAME}")));
    // `pip install nvidia-nccl-cu13`, which PyTorch's wheels bring too.
    if let Some(home) = given("VIRTUAL_ENV") {
        let pythons = std::fs::read_dir(format!("{home}/lib")).into_iter().flatten().flatten();
        let mut found: Vec<_> = pythons
            .map(|python| python.path().join("site-packages/nvidia/nccl/lib").join(NAME))
            .filter(|path| path.exists())
            .map(|path| path.to_string_lossy().into_owned())
            .collect();
        found.sort();
        names.append(&mut found);
    }
    names
}

/// The address of a pointer that NCCL takes as a handle.
pub(super) fn pointer(address: u64) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(address as usize)
}

/// Names a libnccl.so.2 or its folder, past all guessing.
pub const LIBRARY_VARIABLE: &str = "NEUROSHARD_NCCL";
const NAME: &str = "libnccl.so.2";
/// The first with calls that do not wait for the GPU in all that is used here, and `Config` as it is.
const OLDEST: Version = Version(2, 18, 0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_nccl_writes_them() {
        assert_eq!(Version::of(23_203), Version(2, 32, 3));
        assert_eq!(Version::of(21_800), Version(2, 18, 0));
        assert_eq!(Version::of(2_804), Version(2, 8, 4));
        assert!(Version::of(22_907) < Version(2, 30, 0));
        assert_eq!(Version::of(23_003).to_string(), "2.30.3");
    }

    #[test]
    fn a_named_library_is_the_only_one_tried() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().to_string_lossy().into_owned();
        let named = |name: &str| (name == LIBRARY_VARIABLE).then(|| folder.clone());
        assert_eq!(candidates(&named), [format!("{folder}/{NAME}")]);
        let file = |name: &str| (name == LIBRARY_VARIABLE).then(|| "/opt/nccl.so".to_owned());
        assert_eq!(candidates(&file), ["/opt/nccl.so"]);
    }

    #[test]
    fn python_packages_are_found_in_a_virtual_environment() {
        let dir = tempfile::tempdir().unwrap();
        let lib = dir.path().join("lib/python3.12/site-packages/nvidia/nccl/lib");
        std::fs::create_dir_all(&lib).unwrap();
        std::fs::write(lib.join(NAME), "").unwrap();
        let home = dir.path().to_string_lossy().into_owned();
        let environment = |name: &str| (name == "VIRTUAL_ENV").then(|| home.clone());
        let want = lib.join(NAME).to_string_lossy().into_owned();
        assert_eq!(candidates(&environment), [NAME.to_owned(), want]);
        assert_eq!(candidates(&|_| None), [NAME]);
    }
}
