//! A device's second stream, for exchanges with other ranks beside computation.
//!
//! Whoever exchanges works with addresses: tensors are those of the computing stream, and what they
//! hold counts from a [`Mark`] on.

use std::fmt;
use std::sync::Arc;

use super::Cuda;
use super::door::Address;
use super::door::Door;
use super::door::Fault;
use super::door::Mark;
use super::elementwise::Sum;
use crate::ops::OpError;
use crate::tensor::ViewMut;

/// A second stream of the device behind a [`Cuda`].
pub struct Beside {
    /// Tensors are its.
    computing: Cuda,
    /// The same device through the second stream.
    here: Cuda,
    /// Memory for what arrives, and its size in bytes.
    room: (Address, usize),
}

impl Beside {
    /// Opens the second stream.
    pub fn new(computing: &Cuda) -> Result<Self, Fault> {
        let here = Cuda::new(computing.door.beside()?);
        Ok(Self { computing: computing.clone(), here, room: (Address::default(), 0) })
    }

    /// The device, through the second stream.
    pub fn door(&self) -> &Arc<dyn Door> {
        &self.here.door
    }

    /// Where the elements of a tensor of the computing stream start.
    pub fn place(&self, mut view: ViewMut<'_>) -> Result<Address, OpError> {
        let dtype = view.dtype();
        self.computing.at_mut("an exchange between ranks", &mut view, dtype)
    }

    /// All `sums` in one launch, on the second stream.
    pub fn add(&self, sums: &[Sum]) -> Result<(), OpError> {
        self.here.add_parts(sums)
    }

    /// `bytes` bytes for what arrives, aligned to 256; what was asked for before is lost.
    pub fn room(&mut self, bytes: usize) -> Result<Address, Fault> {
        let (address, size) = self.room;
        if size >= bytes {
            return Ok(address);
        }
        // The device may still be reading it.
        self.here.door.synchronize()?;
        self.here.door.free(address);
        self.room = (Address::default(), 0);
        self.room = (self.here.door.alloc(bytes)?, bytes);
        Ok(self.room.0)
    }

    /// The end of what the computing stream was asked for so far.
    pub fn computed(&self) -> Result<Mark, Fault> {
        self.computing.door.mark()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        self.here.door.free(self.room.0);
    }
}

impl fmt::Debug for Beside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Beside({}, room of {} bytes)", self.computing.door.describe(), self.room.1)
    }
}
