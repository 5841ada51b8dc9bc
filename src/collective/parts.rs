//! Which rank owns which elements.

use std::ops::Range;

/// A division of `0..len` among ranks: consecutive ranges, some perhaps empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// `starts[r]..starts[r + 1]` belongs to rank r.
    starts: Vec<usize>,
}

impl Parts {
    /// `len` elements in `ranks` parts as even as whole blocks of `block` elements allow; the last
    /// block may be shorter.
    ///
    /// # Panics
    /// If `ranks` or `block` is 0 (a bug of the caller).
    pub fn even(len: usize, ranks: usize, block: usize) -> Self {
        assert!(ranks > 0 && block > 0, "parts of nothing");
        let blocks = len.div_ceil(block);
        let start =
            |r: usize| ((blocks as u128 * r as u128 / ranks as u128) as usize * block).min(len);
        Self { starts: (0..=ranks).map(start).collect() }
    }

    /// The same division where every element is `count` of the new ones: from elements to bytes.
    pub fn times(&self, count: usize) -> Self {
        Self { starts: self.starts.iter().map(|start| start * count).collect() }
    }

    /// Number of ranks.
    pub fn ranks(&self) -> usize {
        self.starts.len() - 1
    }

    /// Number of elements in all.
    pub fn len(&self) -> usize {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The elements of rank `rank`.
    pub fn of(&self, rank: usize) -> Range<usize> {
        self.starts[rank]..self.starts[rank + 1]
    }

    /// The elements of the ranks `ranks`, which are consecutive.
    pub fn of_all(&self, ranks: Range<usize>) -> Range<usize> {
        self.starts[ranks.start]..self.starts[ranks.end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_everything_once_in_whole_blocks() {
        for len in [0, 1, 5, 4096, 10_000, 123_457] {
            for ranks in [1, 2, 3, 4, 8] {
                for block in [1, 16, 4096] {
                    let parts = Parts::even(len, ranks, block);
                    assert_eq!((parts.len(), parts.ranks()), (len, ranks));
                    let mut next = 0;
                    for rank in 0..ranks {
                        let part = parts.of(rank);
                        assert_eq!(part.start, next);
                        assert!(part.start.is_multiple_of(block) || part.start == len);
                        next = part.end;
                    }
                    assert_eq!(next, len);
                    let sizes = (0..ranks).map(|r| parts.of(r).len().div_ceil(block));
                    let (least, most) = (sizes.clone().min(), sizes.max());
                    assert!(most.unwrap() - least.unwrap() <= 1);
                }
            }
        }
    }
}
