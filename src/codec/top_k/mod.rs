//! The largest magnitudes of every chunk, with two bits each.
//!
//! Of a chunk of [`CHUNK`] elements the `k` with the largest magnitudes are sent: their places,
//! signs, and which of two levels stands for their magnitude (SparseLoCo, arXiv:2508.15706). A
//! chunk's levels are small integers times a power of two. Places are written as distances, in the
//! shorter of a Huffman and a Rice code; docs/WIRE.md has the bits.

mod distances;
mod levels;
mod select;

use super::CHUNK;
use super::Codec;
use super::Codes;
use super::Error;
use super::bits::BitReader;
use super::bits::BitWriter;
use super::config::Kind;
use distances::Census;
use distances::Code;
use levels::LEAST;
use levels::Levels;
use levels::MAX_LEVEL;
use levels::MIN_LEVEL;
use select::Selector;

/// Top-k of every chunk.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopK {
    /// Of a whole chunk; shorter ones have proportionally fewer, rounded up.
    k: u16,
    /// Rice parameter of the distances between places.
    parameter: u32,
}

/// Magnitudes less than the largest of their chunk by more than this many binades are not sent,
/// so that the codes of both levels fit.
const BINADES: u32 = 16;

/// Bits of a level.
const LEVEL_BITS: u32 = 11;

/// Rice parameters of a low level less the one before, of a high level less its low one, and of
/// the runs of low values between high ones: each the shortest, or nearly, for normal, Laplacian and
/// real pseudo-gradients.
const LOW_STEP: u32 = 2;
const HIGH_STEP: u32 = 2;
const RUN: u32 = 1;

/// What is sent of a block, as the encoder selects it.
#[derive(Debug, Default)]
struct Picks {
    places: Vec<u16>,
    values: Vec<f32>,
    /// Of every chunk: elements, end of its part of `places`, levels (none if nothing is sent).
    chunks: Vec<(usize, usize, Option<Levels>)>,
}

impl TopK {
    /// With `k` elements of [`CHUNK`], `1..=CHUNK`.
    pub(super) fn new(k: u16) -> Self {
        debug_assert!((1..=CHUNK).contains(&usize::from(k)));
        // The shortest for a mean distance of 4096/k is the binary logarithm of 0.69 times it:
        // in integers, of 2839/k, rounded at the geometric middle.
        let doubled = (2839 * 2839 * 2 / (u32::from(k) * u32::from(k))).max(1);
        Self { k, parameter: doubled.ilog2() / 2 }
    }

    /// How many elements of a chunk of `elements` are sent, at most.
    fn most(&self, elements: usize) -> usize {
        (usize::from(self.k) * elements).div_ceil(CHUNK)
    }

    fn pick(&self, values: &[f32]) -> (Picks, Census) {
        let (mut picks, mut census) = (Picks::default(), Census::default());
        let mut selector = Selector::default();
        for chunk in values.chunks(CHUNK) {
            let first = picks.places.len();
            let rule = (self.most(chunk.len()), LEAST, BINADES << 23);
            selector.select(chunk, rule, &mut picks.places, &mut picks.values);
            let mut next = 0;
            for &place in &picks.places[first..] {
                census.add(u32::from(place) - next, self.parameter);
                next = u32::from(place) + 1;
            }
            let levels = (!selector.sorted.is_empty()).then(|| Levels::fit(&selector.sorted));
            picks.chunks.push((chunk.len(), picks.places.len(), levels));
        }
        (picks, census)
    }
}

impl Codec for TopK {
    fn spec(&self) -> Vec<u8> {
        let [low, high] = self.k.to_le_bytes();
        vec![Kind::TopK.number(), low, high]
    }

    fn encode(&self, values: &[f32], codes: &mut Codes, out: &mut Vec<u8>) {
        codes.clear();
        let (picks, census) = self.pick(values);
        let mut bits = BitWriter::new(out);
        let code = census.code(self.parameter);
        code.write(&mut bits);
        let encoder = code.encoder(self.parameter);
        let (mut first, mut last, mut magnitudes) = (0, None, Vec::new());
        for &(elements, end, levels) in &picks.chunks {
            let (places, values) = (&picks.places[first..end], &picks.values[first..end]);
            first = end;
            bits.rice((self.most(elements) - places.len()) as u32, 0);
            let Some(levels) = levels else {
                codes.push_sparse(elements, 0, []);
                continue;
            };
            write_levels(levels, &mut last, &mut bits);
            let mut next = 0;
            for &place in places {
                encoder.write(u32::from(place) - next, &mut bits);
                next = u32::from(place) + 1;
            }
            write_signs(values, &mut bits);
            let (exponent, [low, high]) = levels.integers();
            let threshold = levels.threshold();
            magnitudes.clear();
            magnitudes.extend(values.iter().map(|x| if x.abs() > threshold { high } else { low }));
            if high > low {
                write_runs(&magnitudes, high, &mut bits);
            }
            let signed = magnitudes.iter().zip(values).map(|(&m, x)| if *x < 0.0 { -m } else { m });
            codes.push_sparse(elements, exponent, places.iter().copied().zip(signed));
        }
        bits.finish();
    }

    fn decode(&self, bytes: &[u8], elements: usize, codes: &mut Codes) -> Result<(), Error> {
        codes.clear();
        let mut bits = BitReader::new(bytes);
        let code = Code::read(&mut bits)?;
        let decoder = code.decoder(self.parameter);
        let mut census = Census::default();
        let (mut last, mut places, mut values) = (None, Vec::new(), Vec::new());
        for first in (0..elements).step_by(CHUNK) {
            let elements = CHUNK.min(elements - first);
            let most = self.most(elements);
            let count = most - bits.rice(0, most as u32)? as usize;
            if count == 0 {
                codes.push_sparse(elements, 0, []);
                continue;
            }
            let levels = read_levels(&mut last, &mut bits)?;
            places.clear();
            let mut next = 0;
            for _ in 0..count {
                let distance = decoder.read(&mut bits)?;
                // At most `count` times a few thousand.
                next += distance + 1;
                if next > elements as u32 {
                    return Err(Error::NotCanonical { what: "a place beyond its chunk" });
                }
                census.add(distance, self.parameter);
                places.push((next - 1) as u16);
            }
            let (exponent, [low, high]) = levels.integers();
            read_signs(count, low, &mut bits, &mut values)?;
            if high > low {
                read_runs(&mut values, high, &mut bits)?;
            }
            let support = places.iter().copied().zip(values.iter().copied());
            codes.push_sparse(elements, exponent, support);
        }
        bits.finish()?;
        match census.code(self.parameter) == code {
            true => Ok(()),
            false => Err(Error::NotCanonical { what: "distances that have a shorter code" }),
        }
    }

    fn max_bytes(&self, elements: usize) -> usize {
        let (chunks, most) = (elements.div_ceil(CHUNK), self.most(elements));
        // Distances take no more than in the Rice code: quotients sum to `elements >> parameter`.
        let distances = most * (self.parameter as usize + 1) + (elements >> self.parameter);
        // Signs, runs, and of every chunk its count and levels.
        let levels = ((2 * usize::from(MAX_LEVEL)) >> LOW_STEP) + 8 * (BINADES as usize + 2);
        let others = most * (1 + 1 + 2) + chunks * (levels + LEVEL_BITS as usize + 8);
        (1 + distances + others).div_ceil(8)
    }
}

/// Levels, the low one as its distance to that of the chunk before in `last`.
fn write_levels(levels: Levels, last: &mut Option<u16>, bits: &mut BitWriter) {
    match last.replace(levels.low) {
        None => bits.put(u64::from(levels.low), LEVEL_BITS),
        Some(last) => {
            let step = i32::from(levels.low) - i32::from(last);
            // Signs in the last bit: 0, -1, 1, -2, ...
            bits.rice(((step << 1) ^ (step >> 31)) as u32, LOW_STEP);
        }
    }
    bits.rice(u32::from(levels.high - levels.low), HIGH_STEP);
}

fn read_levels(last: &mut Option<u16>, bits: &mut BitReader) -> Result<Levels, Error> {
    let low = match *last {
        None => bits.take(LEVEL_BITS)? as i32,
        Some(last) => {
            let step = bits.rice(LOW_STEP, 2 * u32::from(MAX_LEVEL))?;
            i32::from(last) + ((step >> 1) as i32 ^ -((step & 1) as i32))
        }
    };
    // Means of magnitudes within `BINADES` of each other, rounded.
    let high = low + bits.rice(HIGH_STEP, 8 * (BINADES + 1))? as i32;
    if low < i32::from(MIN_LEVEL) || high > i32::from(MAX_LEVEL) {
        return Err(Error::NotCanonical { what: "a level beyond its bound" });
    }
    *last = Some(low as u16);
    Ok(Levels { low: low as u16, high: high as u16 })
}

fn write_signs(values: &[f32], bits: &mut BitWriter) {
    for values in values.chunks(32) {
        let word = values.iter().rev().fold(0, |word, x| word << 1 | u64::from(*x < 0.0));
        bits.put(word, values.len() as u32);
    }
}

/// Overwrites `values` with `low`, signed.
fn read_signs(
    count: usize,
    low: i32,
    bits: &mut BitReader,
    values: &mut Vec<i32>,
) -> Result<(), Error> {
    values.clear();
    values.resize(count, low);
    for values in values.chunks_mut(32) {
        let word = bits.take(values.len() as u32)? as u32;
        for (i, value) in values.iter_mut().enumerate() {
            // Negated where the bit is set.
            let mask = -((word >> i & 1) as i32);
            *value = (*value ^ mask) - mask;
        }
    }
    Ok(())
}

/// How many low values stand before every high one, and how many after the last.
fn write_runs(magnitudes: &[i32], high: i32, bits: &mut BitWriter) {
    let mut run = 0;
    for &magnitude in magnitudes {
        if magnitude == high {
            bits.rice(run, RUN);
            run = 0;
        } else {
            run += 1;
        }
    }
    bits.rice(run, RUN);
}

fn read_runs(values: &mut [i32], high: i32, bits: &mut BitReader) -> Result<(), Error> {
    let (mut next, mut highs) = (0, 0);
    loop {
        next += bits.rice(RUN, (values.len() - next) as u32)? as usize;
        let Some(value) = values.get_mut(next) else { break };
        *value = if *value < 0 { -high } else { high };
        highs += 1;
        next += 1;
    }
    match highs > 0 && highs < values.len() {
        true => Ok(()),
        false => Err(Error::NotCanonical { what: "a level that nothing has" }),
    }
}
