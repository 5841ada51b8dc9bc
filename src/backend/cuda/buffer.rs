//! Tensors in a device's memory, and where their elements are.

use std::any::Any;
use std::sync::Arc;

use super::Cuda;
use super::door::Address;
use super::door::Door;
use crate::ops::OpError;
use crate::tensor::DType;
use crate::tensor::DeviceBuffer;
use crate::tensor::Mem;
use crate::tensor::MemMut;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Memory of a device, given back when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    door: Arc<dyn Door>,
    address: Address,
}

impl Buffer {
    /// Takes over `address`, which `door` allocated.
    pub fn new(door: Arc<dyn Door>, address: Address) -> Self {
        Self { door, address }
    }

    /// Where it starts.
    pub fn address(&self) -> Address {
        self.address
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.door.free(self.address);
    }
}

impl DeviceBuffer for Buffer {
    fn as_any(&self) -> &dyn Any {
        self
    }
    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }
}

impl Cuda {
    /// Where the elements of an argument start, if they are of type `want` in this device's memory.
    pub(super) fn at(
        &self,
        what: &'static str,
        view: View<'_>,
        want: DType,
    ) -> Result<Address, OpError> {
        let elsewhere = OpError::Place { what, want, got: view.dtype() };
        match view.mem() {
            Mem::Device { buffer, offset } if view.dtype() == want => {
                self.address(buffer, offset).ok_or(elsewhere)
            }
            _ => Err(elsewhere),
        }
    }

    /// As [`Self::at`], to write.
    pub(super) fn at_mut(
        &self,
        what: &'static str,
        view: &mut ViewMut<'_>,
        want: DType,
    ) -> Result<Address, OpError> {
        let dtype = view.dtype();
        let elsewhere = OpError::Place { what, want, got: dtype };
        match view.mem() {
            MemMut::Device { buffer, offset } if dtype == want => {
                self.address(buffer, offset).ok_or(elsewhere)
            }
            _ => Err(elsewhere),
        }
    }

    /// The address of `buffer`, `offset` bytes on, if this device allocated it.
    pub(super) fn address(&self, buffer: &dyn DeviceBuffer, offset: usize) -> Option<Address> {
        let buffer = buffer.as_any().downcast_ref::<Buffer>()?;
        Arc::ptr_eq(&buffer.door, &self.door).then(|| buffer.address().plus(offset))
    }
}
