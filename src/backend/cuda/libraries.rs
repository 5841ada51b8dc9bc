//! NVIDIA's libraries beside the driver: whether they are there. Nothing of CUDA is started.

use libloading::Library;

/// A library that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The name it was found by.
    pub name: String,
    /// Its version, in its own way of counting.
    pub version: String,
}

/// cuBLASLt, or the loader's words.
pub fn cublaslt() -> Result<Found, String> {
    let mut words = String::new();
    for name in CUBLASLT {
        // SAFETY: constructors of NVIDIA's library run, as if the program were linked with it.
        let library = match unsafe { Library::new(*name) } {
            Ok(library) => library,
            Err(e) => {
                words = e.to_string();
                continue;
            }
        };
        // SAFETY: `size_t cublasLtGetVersion(void)`, in every version of the library.
        let number = unsafe {
            library.get::<unsafe extern "C" fn() -> usize>(b"cublasLtGetVersion\0").map(|f| f())
        };
        // 10000 * major + 100 * minor + patch since version 12.
        let version = number.map_or("of unknown version".into(), |n| {
            format!("{}.{}.{}", n / 10_000, n / 100 % 100, n % 100)
        });
        return Ok(Found { name: (*name).into(), version });
    }
    Err(words)
}

const CUBLASLT: &[&str] = &["libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"];
