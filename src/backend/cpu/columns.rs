//! A matrix that several threads write at once, each its own part.

use std::marker::PhantomData;

/// A matrix whose columns are written by several threads, each its own.
pub(super) struct Columns<'a, E = f32> {
    data: *mut E,
    len: usize,
    width: usize,
    _owner: PhantomData<&'a mut [E]>,
}

// SAFETY: `row` and `tile` hand out disjoint pieces under their contracts.
unsafe impl<E: Send> Sync for Columns<'_, E> {}
// SAFETY: the slice behind it may move between threads.
unsafe impl<E: Send> Send for Columns<'_, E> {}

impl<'a, E> Columns<'a, E> {
    /// Over `data`, rows of `width`.
    pub fn new(data: &'a mut [E], width: usize) -> Self {
        Self { data: data.as_mut_ptr(), len: data.len(), width, _owner: PhantomData }
    }

    /// Distance between rows.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Whole rows.
    pub fn rows(&self) -> usize {
        self.len.checked_div(self.width).unwrap_or(0)
    }

    /// Columns `first..first + count` of `row`.
    ///
    /// # Safety
    /// No two threads hold the same columns of a row at once.
    #[allow(clippy::mut_from_ref, reason = "disjointness is the contract")]
    pub unsafe fn row(&self, row: usize, first: usize, count: usize) -> &mut [E] {
        let start = row * self.width + first;
        assert!(first + count <= self.width && start + count <= self.len, "columns");
        // SAFETY: within the slice by the line above; unshared by this function's contract.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(start), count) }
    }

    /// The first of `rows` by `columns` elements, whose rows are [`Self::width`] apart.
    ///
    /// What it points to may be used while no other thread uses any of these elements.
    pub fn tile(&self, (row, rows): (usize, usize), (first, columns): (usize, usize)) -> *mut E {
        let start = row * self.width + first;
        let last = (row + rows.max(1) - 1) * self.width + first + columns;
        assert!(first + columns <= self.width && last <= self.len, "tile");
        // SAFETY: within the slice by the line above.
        unsafe { self.data.add(start) }
    }
}
