//! Host memory aligned to a cache line, or a device's opaque memory.

use std::any::Any;
use std::fmt::{self, Debug};

/// Where a tensor's elements live.
#[derive(Debug)]
pub enum Buffer {
    /// Host memory.
    Host(HostBuffer),
    /// Memory of an accelerator.
    Device(Box<dyn DeviceBuffer>),
}

/// Memory of some device, opaque outside the backend that made it.
pub trait DeviceBuffer: Any + Debug + Send + Sync {
    /// For the owning backend's downcast.
    fn as_any(&self) -> &dyn Any;
    /// For the owning backend's downcast.
    fn as_any_mut(&mut self) -> &mut dyn Any;
}

/// Host memory in whole cache lines, aligned to one, so that vector loads never straddle two.
#[derive(Clone)]
pub struct HostBuffer {
    lines: Vec<Line>,
}

/// One cache line.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([u8; 64]);

impl HostBuffer {
    /// At least `size_bytes` zero bytes. Pages are touched only when first used.
    pub fn zeroed(size_bytes: usize) -> Self {
        Self { lines: bytemuck::zeroed_vec(size_bytes.div_ceil(size_of::<Line>())) }
    }

    /// All bytes, whole lines.
    pub fn bytes(&self) -> &[u8] {
        bytemuck::cast_slice(&self.lines)
    }

    /// All bytes, whole lines.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        bytemuck::cast_slice_mut(&mut self.lines)
    }
}

impl Debug for HostBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostBuffer({} bytes)", self.bytes().len())
    }
}
