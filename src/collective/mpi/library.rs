//! libmpi, loaded at run time: the program is built without headers, and one binary runs under
//! every MPI of a known ABI.

use std::env;
use std::error::Error;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::Path;
use std::ptr;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};

use super::abi::{Abi, Constants, Handle};
use super::calls::Calls;
use crate::collective::launcher::{self, Launcher};

macro_rules! api {
    ($($field:ident = $name:literal: fn($($argument:ty),*);)*) => {
        /// The functions of MPI in use, by their addresses in the loaded library.
        #[derive(Clone, Copy)]
        pub struct Api { $($field: unsafe extern "C" fn($($argument),*) -> c_int,)* }

        impl Api {
            /// Finds them; `Err` names the first that is missing.
            ///
            /// # Safety
            /// The library is an MPI, whose functions of these names have these signatures (all
            /// handles are passed as `usize`; see abi.rs), and it is never unloaded.
            unsafe fn find(library: &Library) -> Result<Self, String> {
                Ok(Self { $($field: {
                    // SAFETY: the caller vouches for the signature.
                    let symbol = unsafe {
                        library.get::<unsafe extern "C" fn($($argument),*) -> c_int>($name)
                    };
                    *symbol.map_err(|_| format!("it lacks `{}`", $name))?
                },)* })
            }
        }
    };
}

api! {
    init_thread = "MPI_Init_thread": fn(*mut c_int, *mut c_void, c_int, *mut c_int);
    initialized = "MPI_Initialized": fn(*mut c_int);
    finalize = "MPI_Finalize": fn();
    abort = "MPI_Abort": fn(Handle, c_int);
    version_text = "MPI_Get_library_version": fn(*mut c_char, *mut c_int);
    comm_rank = "MPI_Comm_rank": fn(Handle, *mut c_int);
    comm_size = "MPI_Comm_size": fn(Handle, *mut c_int);
    comm_get_attr = "MPI_Comm_get_attr": fn(Handle, c_int, *mut *const c_int, *mut c_int);
    set_errhandler = "MPI_Comm_set_errhandler": fn(Handle, Handle);
    error_string = "MPI_Error_string": fn(c_int, *mut c_char, *mut c_int);
    isend = "MPI_Isend": fn(*const c_void, c_int, Handle, c_int, c_int, Handle, *mut Handle);
    irecv = "MPI_Irecv": fn(*mut c_void, c_int, Handle, c_int, c_int, Handle, *mut Handle);
    test = "MPI_Test": fn(*mut Handle, *mut c_int, *mut Status);
    get_count = "MPI_Get_count": fn(*const Status, Handle, *mut c_int);
    all_reduce = "MPI_Allreduce": fn(*const c_void, *mut c_void, c_int, Handle, Handle, Handle);
}

impl Api {
    /// The version of the standard ABI that the library claims to have.
    pub fn standard_abi_major(library: &Library) -> Option<c_int> {
        type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
        let (mut major, mut minor) = (-1, -1);
        // SAFETY: the standard (MPI 5, section 20) defines this signature, and allows the call at
        // any time; both results are in scope.
        let rc = unsafe {
            let version = library.get::<Version>("MPI_Abi_get_version").ok()?;
            version(&mut major, &mut minor)
        };
        (rc == 0).then_some(major)
    }
}

/// An `MPI_Status`, whose layout differs from ABI to ABI (20 to 32 bytes): only the library looks inside.
#[repr(C, align(16))]
struct Status([u64; 16]);

/// An MPI library loaded and initialized.
pub struct Loaded {
    api: Api,
    constants: Constants,
    description: String,
}

impl Loaded {
    /// The library that [`Calls::start`] would take, in words; nothing is started.
    pub fn probe() -> Result<String, String> {
        Self::load().map(|loaded| loaded.description)
    }

    /// Loads the first library that is there, initializing nothing.
    fn load() -> Result<Self, String> {
        let mut tried = Vec::new();
        for name in candidates() {
            // SAFETY: constructors of an MPI library run here, as they would if the program were
            // linked with it. GLOBAL, because Open MPI's plug-ins look for its symbols.
            match unsafe { Library::open(Some(&name), RTLD_NOW | RTLD_GLOBAL) } {
                Ok(library) => return Self::from_library(library, &name),
                Err(error) => {
                    // The loader's own words are the cause of the error.
                    let cause = error.source().map_or_else(|| error.to_string(), |c| c.to_string());
                    tried.push(format!("  {cause}"));
                }
            }
        }
        Err(format!(
            "no MPI library could be loaded. Load the module or install the package of the MPI \
             whose launcher started this job (Debian: libopenmpi3 or libmpich12), or set \
             {LIBRARY_VARIABLE} to its libmpi.so. To do without MPI set NEUROSHARD_RENDEZVOUS, or \
             start by srun --mpi=none (ranks then connect over TCP). Tried:\n{}",
            tried.join("\n")
        ))
    }

    fn from_library(library: Library, name: &str) -> Result<Self, String> {
        let refuse = |why: String| {
            format!("{name} cannot be used: {why}; set {LIBRARY_VARIABLE} to another libmpi.so")
        };
        // SAFETY: the library has one of MPI's names or the user vouched for it, and it is not
        // unloaded, because `library` is leaked below.
        let api = unsafe { Api::find(&library) }.map_err(refuse)?;
        let version = api.version();
        let Some(abi) = Abi::detect(&library, &version) else {
            return Err(refuse(format!("its ABI is unknown ({})", short(&version))));
        };
        let constants = abi.constants(&library).map_err(refuse)?;
        // An MPI library does not survive being unloaded, not even after Finalize.
        let _: *mut c_void = library.into_raw();
        let file = Path::new(name).file_name().map_or(name.into(), |f| f.to_string_lossy());
        let description = format!("{} ({file}, {abi})", short(&version));
        Ok(Self { api, constants, description })
    }

    fn check(&self, rc: c_int) -> Result<(), String> {
        if rc == 0 { Ok(()) } else { Err(self.words(rc)) }
    }

    /// What the library says about a return code.
    fn words(&self, rc: c_int) -> String {
        let (mut text, mut len) = ([0 as c_char; TEXT_BYTES], 0);
        // SAFETY: the buffer is larger than every MPI_MAX_ERROR_STRING (256 to 1024).
        let known = unsafe { (self.api.error_string)(rc, text.as_mut_ptr(), &mut len) } == 0;
        if known { format!("{} (code {rc})", c_text(&text)) } else { format!("MPI error {rc}") }
    }

    fn initialize(&self) -> Result<(), String> {
        let mut already = 0;
        // SAFETY: allowed at any time; the result is in scope.
        self.check(unsafe { (self.api.initialized)(&mut already) })?;
        if already != 0 {
            return Err("MPI was already started in this process, and starts only once".into());
        }
        let (want, mut level) = (self.constants.funneled, 0);
        // SAFETY: MPI accepts null for both arguments of main; no other thread uses MPI.
        self.check(unsafe {
            (self.api.init_thread)(ptr::null_mut(), ptr::null_mut(), want, &mut level)
        })?;
        // Failures come back as codes instead of ending the process.
        // SAFETY: both handles are this ABI's constants.
        self.check(unsafe {
            (self.api.set_errhandler)(self.constants.world, self.constants.errors_return)
        })?;
        if level < want {
            let _ = Calls::finalize(self);
            let library = &self.description;
            return Err(format!("{library} offers no MPI_THREAD_FUNNELED (level {level})"));
        }
        Ok(())
    }
}

impl Calls for Loaded {
    type Pending = Handle;

    fn start() -> Result<Self, String> {
        let loaded = Self::load()?;
        loaded.initialize().map_err(|why| format!("MPI_Init_thread: {why}"))?;
        Ok(loaded)
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn rank(&self) -> Result<usize, String> {
        let mut rank = 0;
        // SAFETY: MPI is initialized (so for all calls below), the result is in scope.
        self.check(unsafe { (self.api.comm_rank)(self.constants.world, &mut rank) })?;
        usize::try_from(rank).map_err(|_| format!("the library says rank {rank}"))
    }

    fn size(&self) -> Result<usize, String> {
        let mut size = 0;
        // SAFETY: as in `rank`.
        self.check(unsafe { (self.api.comm_size)(self.constants.world, &mut size) })?;
        usize::try_from(size).map_err(|_| format!("the library says {size} ranks"))
    }

    fn largest_tag(&self) -> Result<c_int, String> {
        let (mut value, mut found) = (ptr::null(), 0);
        let (world, key) = (self.constants.world, self.constants.tag_bound_key);
        // SAFETY: the value of this attribute is a pointer to an int, which lives as long as MPI.
        self.check(unsafe { (self.api.comm_get_attr)(world, key, &mut value, &mut found) })?;
        if found == 0 || value.is_null() {
            return Err("the library does not tell its largest tag".into());
        }
        // SAFETY: found and not null; see above.
        Ok(unsafe { *value })
    }

    unsafe fn send(
        &self,
        at: *const u8,
        len: c_int,
        to: c_int,
        tag: c_int,
    ) -> Result<Handle, String> {
        let (Constants { byte, world, .. }, mut request) = (self.constants, 0);
        // SAFETY: the caller keeps the bytes in place until the end of the request.
        self.check(unsafe {
            (self.api.isend)(at.cast(), len, byte, to, tag, world, &mut request)
        })?;
        Ok(request)
    }

    unsafe fn receive(
        &self,
        at: *mut u8,
        len: c_int,
        from: c_int,
        tag: c_int,
    ) -> Result<Handle, String> {
        let (Constants { byte, world, .. }, mut request) = (self.constants, 0);
        // SAFETY: the caller keeps the bytes in place, untouched, until the end of the request.
        self.check(unsafe {
            (self.api.irecv)(at.cast(), len, byte, from, tag, world, &mut request)
        })?;
        Ok(request)
    }

    fn test(&self, pending: &mut Handle) -> Result<Option<usize>, String> {
        let (mut ended, mut status) = (0, Status([0; 16]));
        // SAFETY: a request of this library that has not ended; the status is larger than any ABI's.
        self.check(unsafe { (self.api.test)(pending, &mut ended, &mut status) })?;
        if ended == 0 {
            return Ok(None);
        }
        let mut count = 0;
        // SAFETY: the library filled in the status, or left it empty (a send), which it may read.
        let rc = unsafe { (self.api.get_count)(&status, self.constants.byte, &mut count) };
        self.check(rc)?;
        Ok(Some(usize::try_from(count).unwrap_or(0)))
    }

    fn all_reduce(&self, data: &mut [f32]) -> Result<(), String> {
        let len = c_int::try_from(data.len()).map_err(|_| "more than 2^31 - 1 elements")?;
        let Constants { in_place, float, sum, world, .. } = self.constants;
        let at = data.as_mut_ptr().cast();
        // SAFETY: `len` floats lie there, borrowed for the time of this blocking call.
        self.check(unsafe { (self.api.all_reduce)(in_place, at, len, float, sum, world) })
    }

    fn finalize(&self) -> Result<(), String> {
        // SAFETY: the owner makes no call after this one.
        self.check(unsafe { (self.api.finalize)() })
    }

    fn aborter(&self) -> Box<dyn Fn(c_int) + Send + Sync> {
        let (abort, world) = (self.api.abort, self.constants.world);
        // SAFETY: MPI is initialized. From another thread than the owner it is the last resort of a
        // process that is about to end; the libraries tried allow it.
        Box::new(move |code| _ = unsafe { abort(world, code) })
    }
}

impl Api {
    /// The library's name and version, in some lines.
    fn version(&self) -> String {
        let (mut text, mut len) = ([0 as c_char; TEXT_BYTES], 0);
        // SAFETY: allowed before MPI_Init; the buffer has every ABI's MPI_MAX_LIBRARY_VERSION_STRING.
        let rc = unsafe { (self.version_text)(text.as_mut_ptr(), &mut len) };
        if rc == 0 { c_text(&text) } else { "an MPI without a name".into() }
    }
}

/// File names to try, the family of the launcher first.
fn candidates() -> Vec<String> {
    if let Ok(path) = env::var(LIBRARY_VARIABLE) {
        return vec![path];
    }
    let open_mpi = ["libmpi.so.40"].as_slice();
    let mpich = ["libmpi_abi.so.1", "libmpi.so.12", "libmpich.so.12"].as_slice();
    let families = match launcher::detect(&|name| env::var(name).ok()) {
        Some(Launcher::Pmi) => [mpich, open_mpi],
        _ => [open_mpi, mpich],
    };
    let names = families.concat().into_iter().chain(["libmpi.so"]);
    names.map(String::from).collect()
}

/// `Open MPI v4.1.4` or `MPICH 4.0.2`, of a text that goes on for lines.
fn short(version: &str) -> String {
    let first = version.lines().next().unwrap_or_default().split(',').next().unwrap_or_default();
    let words: Vec<_> = first.split_whitespace().filter(|w| !w.starts_with("Version")).collect();
    words.join(" ")
}

/// The text up to its terminating zero.
fn c_text(buffer: &[c_char; TEXT_BYTES]) -> String {
    // SAFETY: same size and alignment; every bit pattern is a u8.
    let bytes: &[u8; TEXT_BYTES] = unsafe { &*ptr::from_ref(buffer).cast() };
    let text = CStr::from_bytes_until_nul(bytes).unwrap_or_default();
    text.to_string_lossy().trim().to_owned()
}

/// More than any ABI's longest text (MPICH's version: 8192).
const TEXT_BYTES: usize = 8192 + 1;
/// Names a libmpi.so, past all guessing.
const LIBRARY_VARIABLE: &str = "NEUROSHARD_MPI_LIB";
