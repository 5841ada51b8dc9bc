//! What a block decodes to: integers, and a power of two for every chunk.

use super::CHUNK;

/// Largest magnitude of a code: any code times a power of two is an f32, exactly.
pub const MAX_CODE: i32 = (1 << 24) - 1;

/// Smallest exponent of a chunk: no value is subnormal.
pub const MIN_EXPONENT: i32 = -126;

/// Largest exponent of a chunk: no value is infinite.
pub const MAX_EXPONENT: i32 = 103;

/// The codes of a block, chunk by chunk. Reused from block to block to save allocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Codes {
    spans: Vec<Span>,
    positions: Vec<u16>,
    values: Vec<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    elements: usize,
    exponent: i32,
    is_dense: bool,
    /// Ends of its part of `positions` and of `values`.
    ends: [usize; 2],
}

/// A chunk of a decoded block: element `i` of its support is `values[i] * 2^exponent`, all other
/// elements are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Elements of the chunk, zeros included.
    pub elements: usize,
    /// Within [`MIN_EXPONENT`] and [`MAX_EXPONENT`].
    pub exponent: i32,
    /// Where the values stand.
    pub support: Support<'a>,
    /// One for every element of the support; magnitudes up to [`MAX_CODE`].
    pub values: &'a [i32],
}

/// Which elements of a chunk an update speaks of. An element outside is not a vote for zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support<'a> {
    /// All.
    Dense,
    /// Those at these places of the chunk, ascending.
    Sparse(&'a [u16]),
}

impl Codes {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.positions.clear();
        self.values.clear();
    }

    /// Appends a chunk of as many elements as `values`, all of which it speaks of, and returns them.
    ///
    /// # Panics
    /// In debug builds, on values, exponents or lengths out of bounds (a bug of the codec).
    pub fn push_dense(&mut self, exponent: i32, values: impl IntoIterator<Item = i32>) -> &[i32] {
        let first = self.values.len();
        self.values.extend(values);
        self.close(self.values.len() - first, exponent, true, first);
        &self.values[first..]
    }

    /// Appends a chunk of `elements` elements with the given ones at the given places.
    ///
    /// # Panics
    /// As [`Self::push_dense`], and on places that do not ascend.
    pub fn push_sparse(
        &mut self,
        elements: usize,
        exponent: i32,
        support: impl IntoIterator<Item = (u16, i32)>,
    ) {
        let (first, place) = (self.values.len(), self.positions.len());
        for (position, value) in support {
            self.positions.push(position);
            self.values.push(value);
        }
        debug_assert!(self.positions[place..].is_sorted_by(|a, b| a < b), "places ascend");
        debug_assert!(self.positions[place..].last().is_none_or(|&p| usize::from(p) < elements));
        self.close(elements, exponent, false, first);
    }

    fn close(&mut self, elements: usize, exponent: i32, is_dense: bool, first: usize) {
        debug_assert!(elements <= CHUNK, "elements of a chunk");
        debug_assert!((MIN_EXPONENT..=MAX_EXPONENT).contains(&exponent), "exponent {exponent}");
        debug_assert!(self.values[first..].iter().all(|v| v.abs() <= MAX_CODE), "codes fit");
        let ends = [self.positions.len(), self.values.len()];
        self.spans.push(Span { elements, exponent, is_dense, ends });
    }

    /// The chunks, in order.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk<'_>> {
        let mut starts = [0, 0];
        self.spans.iter().map(move |span| {
            let [places, values] = [starts[0]..span.ends[0], starts[1]..span.ends[1]];
            starts = span.ends;
            Chunk {
                elements: span.elements,
                exponent: span.exponent,
                support: match span.is_dense {
                    true => Support::Dense,
                    false => Support::Sparse(&self.positions[places]),
                },
                values: &self.values[values],
            }
        })
    }

    /// Writes the values to `out`, zeros where the update does not speak.
    ///
    /// # Panics
    /// If `out` has not as many elements as the block.
    pub fn write_to(&self, out: &mut [f32]) {
        let mut rest = out;
        for chunk in self.chunks() {
            let (mine, others) = rest.split_at_mut(chunk.elements);
            rest = others;
            let scale = power_of_two(chunk.exponent);
            match chunk.support {
                Support::Dense => {
                    mine.iter_mut().zip(chunk.values).for_each(|(x, &v)| *x = v as f32 * scale);
                }
                Support::Sparse(places) => {
                    mine.fill(0.0);
                    for (&place, &v) in places.iter().zip(chunk.values) {
                        mine[usize::from(place)] = v as f32 * scale;
                    }
                }
            }
        }
        assert!(rest.is_empty(), "elements of a block");
    }

    /// Takes the values from `out`, each element rounded once: what remains was not sent.
    ///
    /// # Panics
    /// If `out` has not as many elements as the block.
    pub fn subtract_from(&self, out: &mut [f32]) {
        let mut rest = out;
        for chunk in self.chunks() {
            let (mine, others) = rest.split_at_mut(chunk.elements);
            rest = others;
            let scale = power_of_two(chunk.exponent);
            match chunk.support {
                Support::Dense => {
                    mine.iter_mut().zip(chunk.values).for_each(|(x, &v)| *x -= v as f32 * scale);
                }
                Support::Sparse(places) => {
                    for (&place, &v) in places.iter().zip(chunk.values) {
                        mine[usize::from(place)] -= v as f32 * scale;
                    }
                }
            }
        }
        assert!(rest.is_empty(), "elements of a block");
    }
}

/// Bits of the largest magnitude of a chunk; those of NaN and infinities are larger than all others.
pub(super) fn largest_bits(chunk: &[f32]) -> u32 {
    let magnitude = |x: &f32| (x.to_bits() & 0x7fff_ffff) as i32;
    chunk.iter().map(magnitude).fold(0, i32::max) as u32
}

/// Zero in place of a subnormal number.
#[inline]
pub(super) fn flushed(x: f32) -> f32 {
    if x.abs() < f32::MIN_POSITIVE { 0.0 } else { x }
}

/// `2^exponent`, for exponents of normal numbers.
#[inline]
pub(super) fn power_of_two(exponent: i32) -> f32 {
    debug_assert!((-126..=127).contains(&exponent));
    f32::from_bits(((exponent + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_back_as_they_were_pushed() {
        let mut codes = Codes::default();
        codes.push_dense(-3, [1, -2, 3]);
        codes.push_sparse(5, MAX_EXPONENT, [(1, MAX_CODE), (4, -1)]);
        codes.push_sparse(2, MIN_EXPONENT, []);
        let chunks: Vec<_> = codes.chunks().collect();
        assert_eq!(chunks.len(), 3);
        assert_eq!((chunks[0].support, chunks[0].values), (Support::Dense, &[1, -2, 3][..]));
        assert_eq!(chunks[1].support, Support::Sparse(&[1, 4]));
        let mut out = [f32::NAN; 10];
        codes.write_to(&mut out);
        let huge = MAX_CODE as f32 * power_of_two(MAX_EXPONENT);
        assert!(huge.is_finite());
        let expected = [0.125, -0.25, 0.375, 0.0, huge, 0.0, 0.0, -power_of_two(103), 0.0, 0.0];
        assert_eq!(out, expected);
    }
}
