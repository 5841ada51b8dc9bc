//! Device memory that an operation uses between its kernels.

use std::sync::Mutex;

use super::Cuda;
use super::buffer::Buffer;
use super::door::Address;
use crate::ops::OpError;

/// One allocation, as large as the largest wish so far. All kernels run in one stream, so an
/// operation may use it while the last one's kernels have yet to run.
#[derive(Debug, Default)]
pub(super) struct Scratch(Mutex<Option<(usize, Buffer)>>);

impl Cuda {
    /// Runs `launches`, which launch all kernels of `op`, with `bytes` bytes of scratch memory at
    /// the address they are given. They must not ask for scratch memory again.
    pub(super) fn with_scratch<R>(
        &self,
        op: &'static str,
        bytes: usize,
        launches: impl FnOnce(Address) -> Result<R, OpError>,
    ) -> Result<R, OpError> {
        // A panic elsewhere left the allocation as it was.
        let mut kept = self.scratch.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let address = match &*kept {
            Some((room, buffer)) if *room >= bytes => buffer.address(),
            _ => {
                // Given back first, so that both never exist at once.
                *kept = None;
                let address = self.door.alloc(bytes).map_err(|fault| self.failed(op, fault))?;
                *kept = Some((bytes, Buffer::new(self.door.clone(), address)));
                address
            }
        };
        launches(address)
    }
}
