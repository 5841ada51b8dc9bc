//! The calls of MPI that the owner thread makes, in whichever way the library came in.

use std::ffi::c_int;

/// An MPI that has been initialized by this thread, which alone uses it. Failures come in the
/// library's words.
pub trait Calls: Sized {
    /// A transfer under way.
    type Pending;

    /// Loads the library (or takes the one linked in) and initializes it. `Err` says what to do.
    fn start() -> Result<Self, String>;
    /// What it is, for logs: `Open MPI 4.1.4 (libmpi.so.40)`.
    fn describe(&self) -> String;
    /// This process' rank in the world.
    fn rank(&self) -> Result<usize, String>;
    /// Processes in the world.
    fn size(&self) -> Result<usize, String>;
    /// The largest tag that may be used.
    fn largest_tag(&self) -> Result<c_int, String>;
    /// Starts to send `len` bytes from `at` to rank `to`.
    ///
    /// # Safety
    /// The bytes stay where they are, unchanged, until `test` reports the end.
    unsafe fn send(
        &self,
        at: *const u8,
        len: c_int,
        to: c_int,
        tag: c_int,
    ) -> Result<Self::Pending, String>;
    /// Starts to receive up to `len` bytes to `at` from rank `from`.
    ///
    /// # Safety
    /// The bytes stay where they are, touched by nobody, until `test` reports the end.
    unsafe fn receive(
        &self,
        at: *mut u8,
        len: c_int,
        from: c_int,
        tag: c_int,
    ) -> Result<Self::Pending, String>;
    /// Lets the library work, and tells how many bytes were received once the transfer has ended
    /// (any number for a send). Not to be called again after that.
    fn test(&self, pending: &mut Self::Pending) -> Result<Option<usize>, String>;
    /// In place: the sum over the world in the library's own order, at most 2^31 - 1 elements.
    fn all_reduce(&self, data: &mut [f32]) -> Result<(), String>;
    /// Ends MPI in this process, when all ranks have come here.
    fn finalize(&self) -> Result<(), String>;
    /// Something that ends all ranks with an exit code, and that other threads may call when the
    /// owner does not answer any more.
    fn aborter(&self) -> Box<dyn Fn(c_int) + Send + Sync>;
}
