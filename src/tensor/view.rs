//! Borrowed tensors: a whole one, or a range of its rows.

use std::ops::Range;

use super::{DType, DeviceBuffer, Element, Shape};

/// Memory behind a [`View`].
#[derive(Clone, Copy, Debug)]
pub enum Mem<'a> {
    /// Host bytes, exactly those of the view.
    Host(&'a [u8]),
    /// A device's buffer.
    Device {
        /// The buffer.
        buffer: &'a dyn DeviceBuffer,
        /// Where the view starts in it, in bytes.
        offset: usize,
    },
}

/// Memory behind a [`ViewMut`].
#[derive(Debug)]
pub enum MemMut<'a> {
    /// Host bytes, exactly those of the view.
    Host(&'a mut [u8]),
    /// A device's buffer.
    Device {
        /// The buffer.
        buffer: &'a mut dyn DeviceBuffer,
        /// Where the view starts in it, in bytes.
        offset: usize,
    },
}

/// A borrowed tensor, to read.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    mem: Mem<'a>,
    dtype: DType,
    shape: Shape,
}

/// A borrowed tensor, to write.
#[derive(Debug)]
pub struct ViewMut<'a> {
    mem: MemMut<'a>,
    dtype: DType,
    shape: Shape,
}

impl<'a> View<'a> {
    /// A view of `mem`.
    pub fn new(mem: Mem<'a>, dtype: DType, shape: Shape) -> Self {
        Self { mem, dtype, shape }
    }

    /// Size of the elements in bytes.
    pub fn size_bytes(&self) -> usize {
        self.shape.len() * self.dtype.size_bytes()
    }

    /// The bytes of the elements, if they live on the host.
    pub fn host_bytes(&self) -> Option<&'a [u8]> {
        match self.mem {
            Mem::Host(bytes) => Some(bytes),
            Mem::Device { .. } => None,
        }
    }

    /// Host elements as a tensor of `shape`.
    ///
    /// # Panics
    /// If the number of elements differs from the shape's (a bug of the caller).
    pub fn of<E: Element>(data: &'a [E], shape: &[usize]) -> Self {
        let shape = Shape::new(shape);
        assert_eq!(data.len(), shape.len(), "elements for shape {shape:?}");
        Self::new(Mem::Host(bytemuck::cast_slice(data)), E::DTYPE, shape)
    }

    /// The extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The memory; for backends.
    pub fn mem(&self) -> Mem<'a> {
        self.mem
    }

    /// The elements, if they live on the host with type `E`.
    pub fn host<E: Element>(&self) -> Option<&'a [E]> {
        match self.mem {
            Mem::Host(bytes) if self.dtype == E::DTYPE => Some(bytemuck::cast_slice(bytes)),
            _ => None,
        }
    }

    /// The rows (outermost index) in `range`.
    ///
    /// # Panics
    /// If the range passes the end (a bug of the caller).
    pub fn rows(&self, range: Range<usize>) -> View<'a> {
        let (shape, start, end) = row_range(self.shape, self.dtype, range);
        let mem = match self.mem {
            Mem::Host(bytes) => Mem::Host(&bytes[start..end]),
            Mem::Device { buffer, offset } => Mem::Device { buffer, offset: offset + start },
        };
        View::new(mem, self.dtype, shape)
    }

    /// The same elements with other extents.
    ///
    /// # Panics
    /// If the number of elements differs (a bug of the caller).
    pub fn reshape(&self, shape: &[usize]) -> View<'a> {
        let shape = Shape::new(shape);
        assert_eq!(shape.len(), self.shape.len(), "{:?} as {shape:?}", self.shape);
        View::new(self.mem, self.dtype, shape)
    }
}

impl<'a> ViewMut<'a> {
    /// A view of `mem`.
    pub fn new(mem: MemMut<'a>, dtype: DType, shape: Shape) -> Self {
        Self { mem, dtype, shape }
    }

    /// Host elements as a tensor of `shape`.
    ///
    /// # Panics
    /// If the number of elements differs from the shape's (a bug of the caller).
    pub fn of<E: Element>(data: &'a mut [E], shape: &[usize]) -> Self {
        let shape = Shape::new(shape);
        assert_eq!(data.len(), shape.len(), "elements for shape {shape:?}");
        Self::new(MemMut::Host(bytemuck::cast_slice_mut(data)), E::DTYPE, shape)
    }

    /// The extents.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The memory; for backends.
    pub fn mem(&mut self) -> MemMut<'_> {
        match &mut self.mem {
            MemMut::Host(bytes) => MemMut::Host(bytes),
            MemMut::Device { buffer, offset } => {
                MemMut::Device { buffer: &mut **buffer, offset: *offset }
            }
        }
    }

    /// The memory for as long as the view would live; for backends.
    pub fn into_mem(self) -> MemMut<'a> {
        self.mem
    }

    /// The elements, if they live on the host with type `E`.
    pub fn host<E: Element>(self) -> Option<&'a mut [E]> {
        match self.mem {
            MemMut::Host(bytes) if self.dtype == E::DTYPE => Some(bytemuck::cast_slice_mut(bytes)),
            _ => None,
        }
    }

    /// The same view, to read.
    pub fn as_view(&self) -> View<'_> {
        let mem = match &self.mem {
            MemMut::Host(bytes) => Mem::Host(bytes),
            MemMut::Device { buffer, offset } => Mem::Device { buffer: &**buffer, offset: *offset },
        };
        View::new(mem, self.dtype, self.shape)
    }

    /// The same view for a shorter time.
    pub fn reborrow(&mut self) -> ViewMut<'_> {
        let (dtype, shape) = (self.dtype, self.shape);
        ViewMut::new(self.mem(), dtype, shape)
    }

    /// The rows (outermost index) in `range`.
    ///
    /// # Panics
    /// If the range passes the end (a bug of the caller).
    pub fn rows(self, range: Range<usize>) -> ViewMut<'a> {
        let (shape, start, end) = row_range(self.shape, self.dtype, range);
        let mem = match self.mem {
            MemMut::Host(bytes) => MemMut::Host(&mut bytes[start..end]),
            MemMut::Device { buffer, offset } => MemMut::Device { buffer, offset: offset + start },
        };
        ViewMut::new(mem, self.dtype, shape)
    }

    /// The same elements with other extents.
    ///
    /// # Panics
    /// If the number of elements differs (a bug of the caller).
    pub fn reshape(self, shape: &[usize]) -> ViewMut<'a> {
        let shape = Shape::new(shape);
        assert_eq!(shape.len(), self.shape.len(), "{:?} as {shape:?}", self.shape);
        ViewMut::new(self.mem, self.dtype, shape)
    }
}

/// Shape of the rows in `range`, and where their bytes start and end.
fn row_range(shape: Shape, dtype: DType, range: Range<usize>) -> (Shape, usize, usize) {
    let (&rows, inner) = shape.split_first().expect("a scalar has no rows");
    assert!(range.start <= range.end && range.end <= rows, "rows {range:?} of {rows}");
    let row_bytes = inner.iter().product::<usize>() * dtype.size_bytes();
    let mut dims = shape.to_vec();
    dims[0] = range.len();
    (Shape::new(&dims), range.start * row_bytes, range.end * row_bytes)
}
