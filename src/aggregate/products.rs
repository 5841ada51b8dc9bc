//! Inner products of the chunks of several vectors, in integers.
//!
//! A product of two codes has 48 bits and a chunk 2^12 of them, so every inner product of two
//! chunks fits i64, whatever an update says. Three ways give the same integers; the cheapest one
//! is taken:
//!
//! * sparse chunks that meet seldom: a list per position of who spoke there, walked by the next who
//!   does; the work is that of the pairs that really meet;
//! * sparse chunks that meet often, and dense ones: rows over the union of their supports, and dot
//!   products, with 16-bit factors and 32-bit sums where codes are small enough;
//! * a sparse chunk and a dense one: the dense one, looked up at the positions of the other.

use super::ExactSum;
use super::gram::at;
use crate::codec::CHUNK;
use crate::codec::Chunk;
use crate::codec::Support;

/// Which inner products are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pairs {
    /// Each vector's with itself.
    Own,
    /// All.
    All,
}

/// Scratch of one thread.
pub(super) struct Products {
    n: usize,
    /// Row-major `(n, n)`, lower triangle: the chunk's inner products.
    sums: Vec<i64>,
    /// By position of a chunk: number of its newest entry, from 1; 0 is none. Or its slot, from 1.
    heads: Vec<u32>,
    entries: Vec<Entry>,
    /// Rows of codes of equal length.
    wide: Vec<i32>,
    narrow: Vec<i16>,
}

/// A code in the list of its position.
#[derive(Clone, Copy)]
struct Entry {
    value: i32,
    vector: u32,
    next: u32,
}

/// A chunk of a vector, by the vector's number.
type Numbered<'a> = (usize, Chunk<'a>);

impl Products {
    pub fn new(n: usize) -> Self {
        Self {
            n,
            sums: vec![0; n * n],
            heads: vec![0; CHUNK],
            entries: Vec::new(),
            wide: Vec::new(),
            narrow: Vec::new(),
        }
    }

    /// Adds the inner products of `chunks` (same place, ascending by vector) to `gram`.
    pub fn add_chunk(&mut self, chunks: &[Numbered<'_>], pairs: Pairs, gram: &mut [ExactSum]) {
        if pairs == Pairs::Own {
            for (i, chunk) in chunks {
                let square = dot(chunk.values, chunk.values);
                gram[at(*i, *i)].add(square, 2 * chunk.exponent);
            }
            return;
        }
        self.sums.fill(0);
        let is_dense = |chunk: &&Numbered<'_>| chunk.1.support == Support::Dense;
        let dense: Vec<_> = chunks.iter().filter(is_dense).copied().collect();
        let sparse: Vec<_> = chunks.iter().filter(|chunk| !is_dense(chunk)).copied().collect();
        self.sparse(&sparse);
        self.dense(&dense);
        for (i, a) in &sparse {
            for (j, b) in &dense {
                self.sums[i.max(j) * self.n + i.min(j)] = look_up(a, b);
            }
        }
        for (row, (i, a)) in chunks.iter().enumerate() {
            for (j, b) in &chunks[..=row] {
                let sum = self.sums[i * self.n + j];
                if sum != 0 {
                    gram[at(*i, *j)].add(sum, a.exponent + b.exponent);
                }
            }
        }
    }

    fn sparse(&mut self, chunks: &[Numbered<'_>]) {
        let Some(elements) = chunks.first().map(|(_, chunk)| chunk.elements) else { return };
        self.heads[..elements].fill(0);
        let (mut union, mut entries) = (0, 0);
        for (_, chunk) in chunks {
            entries += chunk.values.len();
            for &place in places(chunk) {
                let slot = &mut self.heads[usize::from(place)];
                if *slot == 0 {
                    union += 1;
                    *slot = union;
                }
            }
        }
        // Walking a list costs some 16 times what a dot product does for a pair, and meets
        // entries / union of the vectors where a dot product meets all: squared on both sides.
        match 6 * entries >= chunks.len() * union as usize {
            true => self.rows(chunks, union as usize),
            false => self.lists(chunks, elements),
        }
    }

    fn lists(&mut self, chunks: &[Numbered<'_>], elements: usize) {
        self.heads[..elements].fill(0);
        self.entries.clear();
        for (vector, chunk) in chunks {
            let row = &mut self.sums[vector * self.n..][..=*vector];
            for (&place, &value) in places(chunk).iter().zip(chunk.values) {
                let head = &mut self.heads[usize::from(place)];
                let mut next = *head;
                while next != 0 {
                    let entry = self.entries[next as usize - 1];
                    row[entry.vector as usize] += i64::from(entry.value) * i64::from(value);
                    next = entry.next;
                }
                row[*vector] += i64::from(value) * i64::from(value);
                self.entries.push(Entry { value, vector: *vector as u32, next: *head });
                *head = self.entries.len() as u32;
            }
        }
    }

    /// Sparse chunks as rows over the union of their supports, whose slots stand in `heads`.
    fn rows(&mut self, chunks: &[Numbered<'_>], union: usize) {
        self.wide.clear();
        self.wide.resize(chunks.len() * union, 0);
        for ((_, chunk), row) in chunks.iter().zip(self.wide.chunks_mut(union.max(1))) {
            for (&place, &value) in places(chunk).iter().zip(chunk.values) {
                row[self.heads[usize::from(place)] as usize - 1] = value;
            }
        }
        self.dots(chunks, union);
    }

    fn dense(&mut self, chunks: &[Numbered<'_>]) {
        let Some(elements) = chunks.first().map(|(_, chunk)| chunk.elements) else { return };
        self.wide.clear();
        chunks.iter().for_each(|(_, chunk)| self.wide.extend(chunk.values));
        self.dots(chunks, elements);
    }

    /// The inner products of the rows of `wide`, one per chunk, of `length` elements each.
    fn dots(&mut self, chunks: &[Numbered<'_>], length: usize) {
        let peak = self.wide.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0);
        let row = |k: usize| k * length..(k + 1) * length;
        // Sums of products stay within i32.
        let is_narrow = u64::from(peak).pow(2) * length as u64 <= i32::MAX as u64;
        if is_narrow && length > 1 {
            self.narrow.clear();
            self.narrow.extend(self.wide.iter().map(|&v| v as i16));
        }
        for (k, (i, _)) in chunks.iter().enumerate() {
            for (l, (j, _)) in chunks[..=k].iter().enumerate() {
                self.sums[i * self.n + j] = match is_narrow && length > 1 {
                    true => i64::from(dot_narrow(&self.narrow[row(k)], &self.narrow[row(l)])),
                    false => dot(&self.wide[row(k)], &self.wide[row(l)]),
                };
            }
        }
    }
}

fn places<'a>(chunk: &Chunk<'a>) -> &'a [u16] {
    match chunk.support {
        Support::Sparse(places) => places,
        Support::Dense => &[],
    }
}

fn look_up(sparse: &Chunk<'_>, dense: &Chunk<'_>) -> i64 {
    let terms = places(sparse).iter().zip(sparse.values);
    terms.map(|(&p, &v)| i64::from(v) * i64::from(dense.values[usize::from(p)])).sum()
}

/// Sums wrap only in name: see the head of the file.
fn dot(a: &[i32], b: &[i32]) -> i64 {
    a.iter().zip(b).fold(0, |s: i64, (&a, &b)| s.wrapping_add(i64::from(a) * i64::from(b)))
}

/// Sums wrap only in name: the caller has bounded them.
fn dot_narrow(a: &[i16], b: &[i16]) -> i32 {
    let product = |(&a, &b): (&i16, &i16)| i32::from(a).wrapping_mul(i32::from(b));
    a.iter().zip(b).map(product).fold(0, i32::wrapping_add)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Codes;
    use crate::codec::MAX_CODE;
    use crate::rng::Address;
    use crate::rng::Purpose;

    /// Elements of the support and largest code of every vector.
    type Shapes<'a> = &'a [(usize, i32)];

    fn random(index: u64, below: u64) -> u64 {
        Address { seed: 5, purpose: Purpose::Test, step: 0, index }.below(below)
    }

    /// Vectors of one chunk: of `support` elements out of `elements` (all: dense), codes up to
    /// `peak`.
    fn vectors(shapes: Shapes<'_>, elements: usize, common: usize) -> Vec<Codes> {
        let mut next = 0;
        let mut draw = |below: u64| {
            next += 1;
            random(next, below)
        };
        let mut all = Vec::new();
        for &(support, peak) in shapes {
            let mut codes = Codes::default();
            let value = |draw: &mut dyn FnMut(u64) -> u64| match draw(3) {
                0 => peak,
                1 => -peak,
                _ => draw(2 * peak as u64 + 1) as i32 - peak,
            };
            let exponent = draw(200) as i32 - 100;
            if support == elements {
                codes.push_dense(exponent, (0..elements).map(|_| value(&mut draw)));
            } else {
                let mut places = std::collections::BTreeSet::new();
                while places.len() < support {
                    places.insert(draw(
                        if places.len() < common { 2 * common } else { elements } as u64
                    ));
                }
                let entries: Vec<_> =
                    places.iter().map(|&p| (p as u16, value(&mut draw))).collect();
                codes.push_sparse(elements, exponent, entries);
            }
            all.push(codes);
        }
        all
    }

    fn expected(a: &Codes, b: &Codes) -> ExactSum {
        let dense = |codes: &Codes| {
            let chunk = codes.chunks().next().expect("a chunk");
            let mut all = vec![0i64; chunk.elements];
            match chunk.support {
                Support::Dense => {
                    all.iter_mut().zip(chunk.values).for_each(|(x, &v)| *x = v.into())
                }
                Support::Sparse(places) => places
                    .iter()
                    .zip(chunk.values)
                    .for_each(|(&p, &v)| all[usize::from(p)] = v.into()),
            }
            (all, chunk.exponent)
        };
        let ((a, ea), (b, eb)) = (dense(a), dense(b));
        let mut sum = ExactSum::ZERO;
        a.iter().zip(&b).for_each(|(a, b)| sum.add(a * b, ea + eb));
        sum
    }

    #[test]
    fn every_way_gives_the_same_integers() {
        let large = MAX_CODE;
        let cases: &[(Shapes<'_>, usize, usize, &str)] = &[
            (&[(64, 3); 9], CHUNK, 0, "sparse, far apart"),
            (&[(64, 3); 9], CHUNK, 60, "sparse, close together"),
            (&[(64, large); 5], CHUNK, 60, "sparse, close together, large"),
            (&[(64, large); 5], CHUNK, 0, "sparse, far apart, large"),
            (&[(CHUNK, large); 4], CHUNK, 0, "dense, all as large as can be"),
            (&[(CHUNK, 127); 4], CHUNK, 0, "dense, eight bits"),
            (&[(CHUNK, 724), (CHUNK, 724)], CHUNK, 0, "the last that is narrow"),
            (&[(CHUNK, 725), (CHUNK, 725)], CHUNK, 0, "the first that is wide"),
            (&[(64, 3), (CHUNK, 127), (64, large), (CHUNK, large), (0, 1)], CHUNK, 0, "mixed"),
            (&[(0, 1), (0, 1)], CHUNK, 0, "nothing"),
            (&[(1, large), (1, large)], 1, 0, "one element"),
            (&[(1, 40000), (1, 40000)], 3, 0, "one of three"),
            (&[(5, 7), (7, 7), (3, 7)], 7, 2, "a tail"),
        ];
        for (shapes, elements, common, what) in cases {
            let vectors = vectors(shapes, *elements, *common);
            let chunks: Vec<_> =
                vectors.iter().map(|v| v.chunks().next().expect("a chunk")).enumerate().collect();
            let n = vectors.len();
            for pairs in [Pairs::All, Pairs::Own] {
                let mut gram = vec![ExactSum::ZERO; n * (n + 1) / 2];
                Products::new(n).add_chunk(&chunks, pairs, &mut gram);
                for i in 0..n {
                    for j in 0..=i {
                        if i == j || pairs == Pairs::All {
                            let expected = expected(&vectors[i], &vectors[j]);
                            assert_eq!(gram[at(i, j)], expected, "{what}: {i} {j}");
                        }
                    }
                }
            }
        }
    }
}
