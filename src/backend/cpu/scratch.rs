//! Working memory of kernels. It holds nothing between two kernels but its capacity.

use crate::tensor::HostBuffer;

/// Memory for packed operands and tiles, kept by its thread for the next kernel.
pub(super) struct Scratch(Option<HostBuffer>);

impl Scratch {
    /// At least `elements` elements of any value.
    pub fn take(elements: usize) -> Self {
        let size_bytes = elements * size_of::<f32>();
        let kept = KEPT.with_borrow_mut(|kept| {
            let fits = kept.iter().position(|b| b.bytes().len() >= size_bytes);
            fits.or(kept.len().checked_sub(1)).map(|i| kept.swap_remove(i))
        });
        match kept.filter(|b| b.bytes().len() >= size_bytes) {
            Some(buffer) => Self(Some(buffer)),
            None => Self(Some(HostBuffer::zeroed(size_bytes))),
        }
    }

    /// All elements.
    pub fn elements(&mut self) -> &mut [f32] {
        self.0.as_mut().map_or(&mut [], |b| bytemuck::cast_slice_mut(b.bytes_mut()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        KEPT.with_borrow_mut(|kept| kept.extend(self.0.take()));
    }
}

/// Scratch of this thread with room for several arrays, dealt out in order.
pub(super) struct Arrays(Scratch);

impl Arrays {
    /// Room for `elements` elements of any value.
    pub fn new(elements: usize) -> Self {
        Self(Scratch::take(elements))
    }

    /// One array per entry of `sizes`, each of that many elements (of any value).
    pub fn deal<const N: usize>(&mut self, sizes: [usize; N]) -> [&mut [f32]; N] {
        let mut rest = self.0.elements();
        sizes.map(|size| {
            let (array, tail) = std::mem::take(&mut rest).split_at_mut(size);
            rest = tail;
            array
        })
    }
}

thread_local! {
    static KEPT: std::cell::RefCell<Vec<HostBuffer>> = const { std::cell::RefCell::new(Vec::new()) };
}
