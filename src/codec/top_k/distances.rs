//! How the distances between the places of a block are written.
//!
//! A distance counts the elements that were passed over. Either all have the Rice code of one
//! parameter, which suits places that are uniformly random, or each has the Huffman code of its
//! class and then its offset in the class: supports of real updates are clustered, in a way that a
//! code of one parameter cannot follow. The shorter one is taken, so there is no choice to make.

use super::super::CHUNK;
use super::super::Error;
use super::super::bits::BitReader;
use super::super::bits::BitWriter;

/// Classes of distances: two to an octave of `distance + 2`.
pub(super) const CLASSES: usize = class(CHUNK as u32 - 1).0 + 1;

/// Bits of the longest Huffman code.
pub(super) const LONGEST: u32 = 11;

/// Bits of the length of a Huffman code.
const LENGTH_BITS: u32 = 4;

/// Class of a distance, and bits of its offset in the class.
const fn class(distance: u32) -> (usize, u32) {
    let number = distance + 2;
    let octave = number.ilog2() - 1;
    ((2 * octave + (number >> octave & 1)) as usize, octave)
}

/// What a block's distances are like.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Census {
    counts: [u32; CLASSES],
    /// Quotients by `2^parameter`, summed.
    quotients: u64,
}

impl Census {
    #[inline]
    pub(super) fn add(&mut self, distance: u32, parameter: u32) {
        self.counts[class(distance).0] += 1;
        self.quotients += u64::from(distance >> parameter);
    }

    /// The shorter code, the Rice code where both are alike.
    pub(super) fn code(&self, parameter: u32) -> Code {
        let lengths = huffman(&self.counts);
        let total = |bits: &dyn Fn(usize) -> u64| -> u64 {
            self.counts.iter().enumerate().map(|(c, &n)| u64::from(n) * bits(c)).sum()
        };
        let rice = total(&|_| u64::from(parameter + 1)) + self.quotients;
        let by_class = total(&|c| u64::from(lengths[c]) + c as u64 / 2);
        match by_class + CLASSES as u64 * u64::from(LENGTH_BITS) < rice {
            true => Code::Classes(lengths),
            false => Code::Rice,
        }
    }
}

/// How a block's distances are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Code {
    Rice,
    /// Bits of every class's Huffman code, 0 if there is none.
    Classes([u8; CLASSES]),
}

impl Code {
    pub(super) fn write(&self, bits: &mut BitWriter) {
        match self {
            Self::Rice => bits.put(0, 1),
            Self::Classes(lengths) => {
                bits.put(1, 1);
                lengths.iter().for_each(|&length| bits.put(u64::from(length), LENGTH_BITS));
            }
        }
    }

    pub(super) fn read(bits: &mut BitReader) -> Result<Self, Error> {
        if bits.take(1)? == 0 {
            return Ok(Self::Rice);
        }
        let mut lengths = [0; CLASSES];
        for length in &mut lengths {
            *length = bits.take(LENGTH_BITS)? as u8;
        }
        // Each code takes its part of all words of the longest length.
        let parts = lengths.iter().filter(|&&l| l > 0).map(|&l| (1 << LONGEST) >> l);
        let too_long = lengths.iter().any(|&l| u32::from(l) > LONGEST);
        match !too_long && parts.sum::<u32>() <= 1 << LONGEST {
            true => Ok(Self::Classes(lengths)),
            false => Err(Error::NotCanonical { what: "lengths that no Huffman code has" }),
        }
    }

    /// Codes of the classes, their first bit lowest.
    fn words(lengths: &[u8; CLASSES]) -> [u16; CLASSES] {
        let (mut words, mut next) = ([0; CLASSES], 0u16);
        for length in 1..=LONGEST as u8 {
            next <<= 1;
            for class in (0..CLASSES).filter(|&c| lengths[c] == length) {
                words[class] = next.reverse_bits() >> (16 - length);
                next += 1;
            }
        }
        words
    }

    pub(super) fn encoder(&self, parameter: u32) -> Encoder {
        match self {
            Self::Rice => Encoder::Rice(parameter),
            Self::Classes(lengths) => {
                Encoder::Classes { words: Self::words(lengths), lengths: *lengths }
            }
        }
    }

    pub(super) fn decoder(&self, parameter: u32) -> Decoder {
        let Self::Classes(lengths) = self else { return Decoder::Rice(parameter) };
        let words = Self::words(lengths);
        let mut table = vec![Entry::default(); 1 << LONGEST];
        for class in (0..CLASSES).filter(|&c| lengths[c] > 0) {
            let (first, step) = (usize::from(words[class]), 1 << lengths[class]);
            let base = (2 + (class as u32 & 1)) << (class / 2);
            let entry = Entry {
                bits: lengths[class],
                offset_bits: class as u8 / 2,
                base: (base - 2) as u16,
            };
            table[first..].iter_mut().step_by(step).for_each(|e| *e = entry);
        }
        Decoder::Classes(table)
    }
}

/// Writes distances.
pub(super) enum Encoder {
    Rice(u32),
    Classes { words: [u16; CLASSES], lengths: [u8; CLASSES] },
}

impl Encoder {
    #[inline]
    pub(super) fn write(&self, distance: u32, bits: &mut BitWriter) {
        match self {
            Self::Rice(parameter) => bits.rice(distance, *parameter),
            Self::Classes { words, lengths } => {
                let (class, offset_bits) = class(distance);
                let length = u32::from(lengths[class]);
                let offset = u64::from(distance + 2) & ((1 << offset_bits) - 1);
                bits.put(offset << length | u64::from(words[class]), length + offset_bits);
            }
        }
    }
}

/// Reads distances.
pub(super) enum Decoder {
    Rice(u32),
    /// By the next [`LONGEST`] bits.
    Classes(Vec<Entry>),
}

/// The class whose code stands first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    /// Of the code; 0 if no code stands there.
    bits: u8,
    offset_bits: u8,
    /// The smallest distance of the class.
    base: u16,
}

impl Decoder {
    #[inline]
    pub(super) fn read(&self, bits: &mut BitReader) -> Result<u32, Error> {
        match self {
            Self::Rice(parameter) => bits.rice(*parameter, CHUNK as u32),
            Self::Classes(table) => {
                let next = bits.peek();
                let entry = table[next as usize & ((1 << LONGEST) - 1)];
                if entry.bits == 0 {
                    return Err(Error::NotCanonical { what: "a code of no class" });
                }
                let offset = next >> entry.bits & ((1 << entry.offset_bits) - 1);
                bits.skip(u32::from(entry.bits + entry.offset_bits))?;
                Ok(u32::from(entry.base) + offset as u32)
            }
        }
    }
}

/// Lengths of a Huffman code (Huffman 1952) for classes of the given counts; a class alone has one
/// bit. If one is longer than [`LONGEST`], counts are halved, rounded up, and all is done again.
fn huffman(counts: &[u32; CLASSES]) -> [u8; CLASSES] {
    let mut counts = *counts;
    loop {
        let lengths = unbounded(&counts);
        if lengths.iter().all(|&l| u32::from(l) <= LONGEST) {
            return lengths;
        }
        counts.iter_mut().for_each(|n| *n = n.div_ceil(2));
    }
}

/// As [`huffman`], however long. The two lightest trees are joined until one is left: of equal
/// weight, classes before joined trees, the lower class, and the tree that was joined first.
fn unbounded(counts: &[u32; CLASSES]) -> [u8; CLASSES] {
    let mut lengths = [0; CLASSES];
    let mut leaves: Vec<usize> = (0..CLASSES).filter(|&c| counts[c] > 0).collect();
    leaves.sort_by_key(|&c| counts[c]);
    if let [class] = leaves[..] {
        lengths[class] = 1;
    }
    // A tree is its weight and its classes; joined trees get ever heavier.
    let mut leaves = leaves.into_iter().map(|c| (counts[c], 1u32 << c)).peekable();
    let mut joined = std::collections::VecDeque::new();
    loop {
        let mut lightest = || match (leaves.peek(), joined.front()) {
            (Some((leaf, _)), Some((tree, _))) if tree < leaf => joined.pop_front(),
            (None, _) => joined.pop_front(),
            _ => leaves.next(),
        };
        let (Some(a), Some(b)) = (lightest(), lightest()) else { return lengths };
        let classes = a.1 | b.1;
        let members = (0..CLASSES).filter(|c| classes >> c & 1 == 1);
        members.for_each(|c| lengths[c] += 1);
        joined.push_back((a.0 + b.0, classes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_divide_the_distances() {
        let mut last = class(0);
        assert_eq!(last, (0, 0));
        for distance in 1..CHUNK as u32 {
            let now = class(distance);
            assert!(now.0 == last.0 || now.0 == last.0 + 1, "{distance}");
            assert_eq!(now.1 as usize, now.0 / 2);
            last = now;
        }
        assert_eq!(last.0, CLASSES - 1);
    }

    #[test]
    fn huffman_codes_are_whole_and_short() {
        let cost = |counts: &[u32; CLASSES], lengths: &[u8; CLASSES]| -> f64 {
            counts.iter().zip(lengths).map(|(&n, &l)| f64::from(n) * f64::from(l)).sum()
        };
        let mut fibonacci = [1u32; CLASSES];
        (2..CLASSES).for_each(|i| fibonacci[i] = fibonacci[i - 1] + fibonacci[i - 2]);
        let mut sparse = [0; CLASSES];
        (sparse[3], sparse[9], sparse[22]) = (5, 1, 5);
        let mut wavy = [0; CLASSES];
        wavy.iter_mut().enumerate().for_each(|(i, n)| *n = (i as u32 * 37 % 23) * 40);
        for counts in [[1; CLASSES], fibonacci, sparse, wavy] {
            let lengths = huffman(&counts);
            let parts = lengths.iter().filter(|&&l| l > 0).map(|&l| (1 << LONGEST) >> l);
            assert_eq!(parts.sum::<u32>(), 1 << LONGEST, "{lengths:?}");
            assert!(lengths.iter().zip(&counts).all(|(&l, &n)| (l > 0) == (n > 0)));
            let total: f64 = counts.iter().map(|&n| f64::from(n)).sum();
            let entropy: f64 = counts
                .iter()
                .filter(|&&n| n > 0)
                .map(|&n| f64::from(n) * (total / f64::from(n)).log2())
                .sum();
            let bits = cost(&counts, &lengths);
            assert!(bits >= entropy && bits <= entropy + 0.2 * total, "{bits} {entropy}");
        }
        let mut alone = [0; CLASSES];
        alone[7] = 9;
        assert_eq!(huffman(&alone)[7], 1);
        assert_eq!(huffman(&[0; CLASSES]), [0; CLASSES]);
    }

    #[test]
    fn distances_come_back() {
        let mut census = Census::default();
        let distances: Vec<u32> = (0..CHUNK as u32).chain([0; 9000]).chain([7; 90]).collect();
        distances.iter().for_each(|&d| census.add(d, 5));
        let code = census.code(5);
        assert!(matches!(code, Code::Classes(_)));
        for code in [code, Code::Rice] {
            let mut bytes = Vec::new();
            let mut bits = BitWriter::new(&mut bytes);
            code.write(&mut bits);
            let encoder = code.encoder(5);
            distances.iter().for_each(|&d| encoder.write(d, &mut bits));
            bits.finish();
            let mut bits = BitReader::new(&bytes);
            let read = Code::read(&mut bits).expect("a code");
            assert_eq!(read, code);
            let decoder = read.decoder(5);
            for d in &distances {
                assert_eq!(decoder.read(&mut bits), Ok(*d));
            }
            bits.finish().expect("the end");
        }
    }

    #[test]
    fn few_distances_have_the_rice_code() {
        let mut census = Census::default();
        (0..10).for_each(|_| census.add(40, 5));
        assert_eq!(census.code(5), Code::Rice);
    }
}
