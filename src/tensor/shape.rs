//! Extents of a row-major array.

use std::fmt;
use std::ops::Deref;

/// Extents, outermost first; at most four. Dereferences to a slice of them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 4],
    rank: usize,
}

impl Shape {
    /// The shape with extents `dims`.
    ///
    /// # Panics
    /// If there are more than four, or if the number of elements exceeds `isize::MAX` (bugs of
    /// the caller: shapes read from files are checked where they are read).
    pub fn new(dims: &[usize]) -> Self {
        assert!(dims.len() <= 4, "at most four extents, got {dims:?}");
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
        assert!(count.is_some_and(|n| n <= isize::MAX as usize / 8), "too many elements: {dims:?}");
        let mut all = [1; 4];
        all[..dims.len()].copy_from_slice(dims);
        Self { dims: all, rank: dims.len() }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Deref for Shape {
    type Target = [usize];
    fn deref(&self) -> &[usize] {
        &self.dims[..self.rank]
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
