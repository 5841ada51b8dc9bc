//! Contiguous row-major arrays: bytes with a type and a shape. Knows nothing of kernels.
//!
//! A [`Tensor`] owns its elements; operations take [`View`]s and [`ViewMut`]s of whole tensors or
//! of ranges of rows. Host memory is reachable as slices; a device's memory is opaque outside the
//! backend that made it.

mod buffer;
mod dtype;
mod shape;
mod view;

pub use buffer::{Buffer, DeviceBuffer, HostBuffer};
pub use dtype::{DType, Element};
pub use shape::Shape;
pub use view::{Mem, MemMut, View, ViewMut};

/// A contiguous row-major array that owns its elements.
#[derive(Debug)]
pub struct Tensor {
    buffer: Buffer,
    dtype: DType,
    shape: Shape,
}

impl Tensor {
    /// A host tensor of zeros.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Self {
        let shape = Shape::new(shape);
        let buffer = Buffer::Host(HostBuffer::zeroed(shape.len() * dtype.size_bytes()));
        Self { buffer, dtype, shape }
    }

    /// A host tensor holding a copy of `data`.
    ///
    /// # Panics
    /// If `data` has another length than `shape` (a bug of the caller).
    pub fn from_slice<E: Element>(data: &[E], shape: &[usize]) -> Self {
        let mut tensor = Self::zeros(E::DTYPE, shape);
        assert_eq!(data.len(), tensor.shape.len(), "elements for shape {:?}", tensor.shape);
        tensor.host_mut::<E>().copy_from_slice(data);
        tensor
    }

    /// A tensor over memory of a device; for backends.
    pub fn from_device(buffer: Box<dyn DeviceBuffer>, dtype: DType, shape: &[usize]) -> Self {
        Self { buffer: Buffer::Device(buffer), dtype, shape: Shape::new(shape) }
    }

    /// The extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Size of the elements in bytes.
    pub fn size_bytes(&self) -> usize {
        self.shape.len() * self.dtype.size_bytes()
    }

    /// The whole tensor, to read.
    pub fn view(&self) -> View<'_> {
        let mem = match &self.buffer {
            Buffer::Host(b) => Mem::Host(&b.bytes()[..self.size_bytes()]),
            Buffer::Device(b) => Mem::Device { buffer: b.as_ref(), offset: 0 },
        };
        View::new(mem, self.dtype, self.shape)
    }

    /// The whole tensor, to write.
    pub fn view_mut(&mut self) -> ViewMut<'_> {
        let size_bytes = self.size_bytes();
        let mem = match &mut self.buffer {
            Buffer::Host(b) => MemMut::Host(&mut b.bytes_mut()[..size_bytes]),
            Buffer::Device(b) => MemMut::Device { buffer: b.as_mut(), offset: 0 },
        };
        ViewMut::new(mem, self.dtype, self.shape)
    }

    /// The elements as a host slice.
    ///
    /// # Panics
    /// If the tensor lives on a device or has another element type (a bug of the caller).
    pub fn host<E: Element>(&self) -> &[E] {
        assert_eq!(self.dtype, E::DTYPE, "element type");
        let Buffer::Host(b) = &self.buffer else { panic!("tensor lives on a device") };
        bytemuck::cast_slice(&b.bytes()[..self.size_bytes()])
    }

    /// The elements as a mutable host slice.
    ///
    /// # Panics
    /// As [`Self::host`].
    pub fn host_mut<E: Element>(&mut self) -> &mut [E] {
        assert_eq!(self.dtype, E::DTYPE, "element type");
        let size_bytes = self.size_bytes();
        let Buffer::Host(b) = &mut self.buffer else { panic!("tensor lives on a device") };
        bytemuck::cast_slice_mut(&mut b.bytes_mut()[..size_bytes])
    }
}

impl Clone for Tensor {
    /// Copies a host tensor.
    ///
    /// # Panics
    /// If the tensor lives on a device: its backend copies it.
    fn clone(&self) -> Self {
        let Buffer::Host(b) = &self.buffer else { panic!("tensor lives on a device") };
        Self { buffer: Buffer::Host(b.clone()), dtype: self.dtype, shape: self.shape }
    }
}
