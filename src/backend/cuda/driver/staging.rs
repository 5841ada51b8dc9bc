//! Copies between host and device through two pinned buffers: while the one is on its way, the
//! other is filled.

use std::ffi::c_void;

use cudarc::driver::result;
use cudarc::driver::sys;

use super::Event;
use super::context::Context;
use crate::backend::cuda::door::Address;
use crate::backend::cuda::door::Fault;

/// The two buffers of a stream, made when first needed.
#[derive(Debug, Default)]
pub(super) struct Staging {
    halves: Vec<Half>,
    next: usize,
}

/// A pinned buffer, and the end of the copy that uses it.
#[derive(Debug)]
struct Half {
    memory: *mut c_void,
    used: Event,
}

// SAFETY: plain memory of this buffer's own, reached through the mutex around `Staging` alone.
unsafe impl Send for Half {}

impl Staging {
    /// Copies `from` to the device; what it needs of `from` is read when this returns.
    pub fn write(
        &mut self,
        context: &Context,
        stream: sys::CUstream,
        to: Address,
        from: &[u8],
    ) -> Result<(), Fault> {
        for (i, piece) in from.chunks(HALF_BYTES).enumerate() {
            let half = self.turn(context)?;
            // SAFETY: the last copy out of this buffer is over (`turn` waited), the piece fits, and
            // the device's range is inside a live allocation, as the views of a tensor are.
            let copied = unsafe {
                std::ptr::copy_nonoverlapping(piece.as_ptr(), half.memory.cast(), piece.len());
                let pinned = std::slice::from_raw_parts(half.memory.cast::<u8>(), piece.len());
                result::memcpy_htod_async(to.plus(i * HALF_BYTES).0, pinned, stream)
            };
            copied.map_err(|e| context.fault("cuMemcpyHtoDAsync", e))?;
            half.used.record(context, stream)?;
        }
        Ok(())
    }

    /// Copies to `to`, and waits.
    pub fn read(
        &mut self,
        context: &Context,
        stream: sys::CUstream,
        to: &mut [u8],
        from: Address,
    ) -> Result<(), Fault> {
        let mut waiting: Option<(usize, &mut [u8])> = None;
        for (i, piece) in to.chunks_mut(HALF_BYTES).enumerate() {
            let half = self.turn(context)?;
            // SAFETY: nothing else uses this buffer (`turn` waited), the piece fits, and the
            // device's range is inside a live allocation, as the views of a tensor are.
            let copied = unsafe {
                let pinned = std::slice::from_raw_parts_mut(half.memory.cast::<u8>(), piece.len());
                result::memcpy_dtoh_async(pinned, from.plus(i * HALF_BYTES).0, stream)
            };
            copied.map_err(|e| context.fault("cuMemcpyDtoHAsync", e))?;
            half.used.record(context, stream)?;
            let now = self.last();
            if let Some((before, piece)) = waiting.replace((now, piece)) {
                self.halves[before].take(context, piece)?;
            }
        }
        match waiting {
            Some((last, piece)) => self.halves[last].take(context, piece),
            None => Ok(()),
        }
    }

    /// The buffer whose turn it is, once nothing uses it.
    fn turn(&mut self, context: &Context) -> Result<&mut Half, Fault> {
        if self.halves.len() < 2 {
            // SAFETY: plain memory, written before it is read.
            let memory = unsafe { result::malloc_host(HALF_BYTES, 0) };
            let memory = memory.map_err(|e| context.fault("cuMemAllocHost", e))?;
            self.halves.push(Half { memory, used: Event::new(context)? });
            self.next = self.halves.len() % 2;
            let newest = self.halves.len() - 1;
            return Ok(&mut self.halves[newest]);
        }
        let half = &mut self.halves[self.next];
        self.next = 1 - self.next;
        half.used.wait(context)?;
        Ok(half)
    }

    /// The buffer that [`Self::turn`] gave last.
    fn last(&self) -> usize {
        1 - self.next
    }

    /// Gives the buffers back; nothing is under way.
    pub fn free(&mut self) {
        for half in self.halves.drain(..) {
            // SAFETY: allocated by `turn`, and not used again.
            let _ = unsafe { result::free_host(half.memory) };
        }
    }
}

impl Half {
    /// Copies out what has come.
    fn take(&self, context: &Context, to: &mut [u8]) -> Result<(), Fault> {
        self.used.wait(context)?;
        // SAFETY: the copy into this buffer is over, and was of as many bytes.
        unsafe {
            std::ptr::copy_nonoverlapping(self.memory.cast(), to.as_mut_ptr(), to.len());
        }
        Ok(())
    }
}

/// Bytes of a buffer: large enough that a copy runs at the bus's speed.
const HALF_BYTES: usize = 4 << 20;
