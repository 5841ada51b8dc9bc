//! MPI linked in by the `mpi` crate (cargo feature `mpi`): for libraries whose binary interface
//! library.rs does not know. Needs the MPI's headers, its mpicc and libclang to build.
//!
//! Only the crate's foreign functions are used: its safe layer throws return codes away.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;

use ::mpi::ffi;

use super::calls::Calls;

/// The MPI that the program was built with, initialized.
pub struct Linked;

impl Linked {
    /// The library linked in, in words; nothing is started (MPI_Get_library_version may be called before
    /// MPI_Init).
    pub fn probe() -> Result<String, String> {
        Ok(Self.describe())
    }

    fn check(rc: c_int) -> Result<(), String> {
        if rc == 0 {
            return Ok(());
        }
        let (mut text, mut len) = ([0 as c_char; TEXT_BYTES], 0);
        // SAFETY: the buffer is larger than every MPI_MAX_ERROR_STRING.
        let known = unsafe { ffi::MPI_Error_string(rc, text.as_mut_ptr(), &mut len) } == 0;
        Err(if known {
            format!("{} (code {rc})", c_text(&text))
        } else {
            format!("MPI error {rc}")
        })
    }
}

impl Calls for Linked {
    type Pending = ffi::MPI_Request;

    fn start() -> Result<Self, String> {
        let mut already = 0;
        // SAFETY: allowed at any time; the result is in scope.
        Self::check(unsafe { ffi::MPI_Initialized(&mut already) })?;
        if already != 0 {
            return Err("MPI was already started in this process, and starts only once".into());
        }
        let mut level = 0;
        // SAFETY: MPI accepts null for both arguments of main; no other thread uses MPI.
        let (rc, want) = unsafe {
            let want = ffi::RSMPI_THREAD_FUNNELED;
            (ffi::MPI_Init_thread(ptr::null_mut(), ptr::null_mut(), want, &mut level), want)
        };
        Self::check(rc).map_err(|why| format!("MPI_Init_thread: {why}"))?;
        // Failures come back as codes instead of ending the process.
        // SAFETY: MPI is initialized (so for all calls below); the handles are its constants.
        Self::check(unsafe {
            ffi::MPI_Comm_set_errhandler(ffi::RSMPI_COMM_WORLD, ffi::RSMPI_ERRORS_RETURN)
        })?;
        if level < want {
            let _ = Self.finalize();
            return Err(format!("the MPI linked in offers no MPI_THREAD_FUNNELED (level {level})"));
        }
        Ok(Self)
    }

    fn describe(&self) -> String {
        let (mut text, mut len) = ([0 as c_char; TEXT_BYTES], 0);
        // SAFETY: the buffer has every MPI_MAX_LIBRARY_VERSION_STRING.
        let rc = unsafe { ffi::MPI_Get_library_version(text.as_mut_ptr(), &mut len) };
        let text = if rc == 0 { c_text(&text) } else { "MPI".into() };
        format!("{} (linked in)", text.split([',', '\n']).next().unwrap_or_default())
    }

    fn rank(&self) -> Result<usize, String> {
        let mut rank = 0;
        // SAFETY: the result is in scope.
        Self::check(unsafe { ffi::MPI_Comm_rank(ffi::RSMPI_COMM_WORLD, &mut rank) })?;
        usize::try_from(rank).map_err(|_| format!("the library says rank {rank}"))
    }

    fn size(&self) -> Result<usize, String> {
        let mut size = 0;
        // SAFETY: the result is in scope.
        Self::check(unsafe { ffi::MPI_Comm_size(ffi::RSMPI_COMM_WORLD, &mut size) })?;
        usize::try_from(size).map_err(|_| format!("the library says {size} ranks"))
    }

    fn largest_tag(&self) -> Result<c_int, String> {
        let (mut value, mut found) = (ptr::null::<c_int>(), 0);
        let (key, at) = (ffi::MPI_TAG_UB as c_int, ptr::from_mut(&mut value).cast::<c_void>());
        // SAFETY: the value of this attribute is a pointer to an int, which lives as long as MPI.
        Self::check(unsafe { ffi::MPI_Comm_get_attr(ffi::RSMPI_COMM_WORLD, key, at, &mut found) })?;
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
    ) -> Result<Self::Pending, String> {
        let mut request = MaybeUninit::uninit();
        // SAFETY: the caller keeps the bytes in place until the end of the request.
        Self::check(unsafe {
            let (byte, world) = (ffi::RSMPI_UINT8_T, ffi::RSMPI_COMM_WORLD);
            ffi::MPI_Isend(at.cast(), len, byte, to, tag, world, request.as_mut_ptr())
        })?;
        // SAFETY: written by the successful call.
        Ok(unsafe { request.assume_init() })
    }

    unsafe fn receive(
        &self,
        at: *mut u8,
        len: c_int,
        from: c_int,
        tag: c_int,
    ) -> Result<Self::Pending, String> {
        let mut request = MaybeUninit::uninit();
        // SAFETY: the caller keeps the bytes in place, untouched, until the end of the request.
        Self::check(unsafe {
            let (byte, world) = (ffi::RSMPI_UINT8_T, ffi::RSMPI_COMM_WORLD);
            ffi::MPI_Irecv(at.cast(), len, byte, from, tag, world, request.as_mut_ptr())
        })?;
        // SAFETY: written by the successful call.
        Ok(unsafe { request.assume_init() })
    }

    fn test(&self, pending: &mut Self::Pending) -> Result<Option<usize>, String> {
        let (mut ended, mut status) = (0, MaybeUninit::<ffi::MPI_Status>::zeroed());
        // SAFETY: a request that has not ended; the status is in scope.
        Self::check(unsafe { ffi::MPI_Test(pending, &mut ended, status.as_mut_ptr()) })?;
        if ended == 0 {
            return Ok(None);
        }
        let mut count = 0;
        // SAFETY: the library filled in the status, or left it empty (a send), which it may read.
        Self::check(unsafe {
            ffi::MPI_Get_count(status.as_ptr(), ffi::RSMPI_UINT8_T, &mut count)
        })?;
        Ok(Some(usize::try_from(count).unwrap_or(0)))
    }

    fn all_reduce(&self, data: &mut [f32]) -> Result<(), String> {
        let len = c_int::try_from(data.len()).map_err(|_| "more than 2^31 - 1 elements")?;
        let mine = data.to_vec();
        // MPI_IN_PLACE is a macro that the crate does not see, hence the copy.
        // SAFETY: `len` floats lie in both places for the time of this blocking call.
        Self::check(unsafe {
            let (float, sum, world) = (ffi::RSMPI_FLOAT, ffi::RSMPI_SUM, ffi::RSMPI_COMM_WORLD);
            let (from, to) = (mine.as_ptr().cast(), data.as_mut_ptr().cast());
            ffi::MPI_Allreduce(from, to, len, float, sum, world)
        })
    }

    fn finalize(&self) -> Result<(), String> {
        // SAFETY: the owner makes no call after this one.
        Self::check(unsafe { ffi::MPI_Finalize() })
    }

    fn aborter(&self) -> Box<dyn Fn(c_int) + Send + Sync> {
        // SAFETY: MPI is initialized. From another thread than the owner it is the last resort of a
        // process that is about to end; the libraries tried allow it.
        Box::new(|code| _ = unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, code) })
    }
}

/// The text up to its terminating zero.
fn c_text(buffer: &[c_char; TEXT_BYTES]) -> String {
    // SAFETY: same size and alignment; every bit pattern is a u8.
    let bytes: &[u8; TEXT_BYTES] = unsafe { &*ptr::from_ref(buffer).cast() };
    let text = CStr::from_bytes_until_nul(bytes).unwrap_or_default();
    text.to_string_lossy().trim().to_owned()
}

/// More than any MPI's longest text (MPICH's version: 8192).
const TEXT_BYTES: usize = 8192 + 1;
