//! The largest magnitudes of every chunk, with two bits each.
//!
//! Of a chunk of [`CHUNK`] elements the `k` with the largest magnitudes are sent: their places,
//! signs, and which of two levels stands for their magnitude (SparseLoCo, arXiv:2508.15706). A
//! chunk's levels are small integers times a power of two. All is written in Golomb-Rice codes.

mod levels;
mod select;

use super::CHUNK;
use super::Codec;
use super::Codes;
use super::Error;
use super::MAX_EXPONENT;
use super::bits::BitReader;
use super::bits::BitWriter;
use levels::Levels;
use levels::MAX_LEVEL;
use levels::MIN_LEVEL;

/// Top-k of every chunk.
#[derive(Clone, Copy, Debug)]
pub struct TopK {
    /// Of a whole chunk; shorter ones have proportionally fewer, rounded up.
    k: u16,
    /// Rice parameter of the distances between places.
    parameter: u32,
}

/// Magnitudes less than the largest by more than this many binades are not sent.
const BINADES: u32 = 16;

/// Rice parameters of the distances between high values, of a chunk's low level less the one
/// before, and of its high level less its low one.
const HIGH: u32 = 1;
const LOW_LEVEL: u32 = 1;
const HIGH_LEVEL: u32 = 2;

/// What a chunk says.
#[derive(Debug, Default)]
struct Chunk {
    picked: Vec<(u16, f32)>,
    magnitudes: Vec<f32>,
}

impl TopK {
    /// With `k` elements of [`CHUNK`], `1..=CHUNK`.
    pub(super) fn new(k: u16) -> Self {
        // The mean distance, times the natural logarithm of two.
        let mean = CHUNK as f64 / f64::from(k);
        Self { k, parameter: (mean * 0.7).max(1.0).log2().round() as u32 }
    }

    /// How many elements of a chunk of `elements` are sent, at most.
    fn most(&self, elements: usize) -> usize {
        (usize::from(self.k) * elements).div_ceil(CHUNK)
    }
}

impl Codec for TopK {
    fn spec(&self) -> Vec<u8> {
        let [low, high] = self.k.to_le_bytes();
        vec![5, low, high]
    }

    fn encode(&self, values: &[f32], codes: &mut Codes, out: &mut Vec<u8>) {
        codes.clear();
        let mut bits = BitWriter::new(out);
        let (mut chunk, mut last) = (Chunk::default(), MIN_LEVEL);
        for values in values.chunks(CHUNK) {
            let most = self.most(values.len());
            let largest = select::largest_bits(values);
            let floor = (u32::from(MIN_LEVEL) << 20).max(largest.saturating_sub(BINADES << 23));
            select::largest(values, most, floor, &mut chunk.picked);
            let picked = &chunk.picked;
            bits.rice((most - picked.len()) as u32, 0);
            if picked.is_empty() {
                codes.push_sparse(values.len(), 0, []);
                continue;
            }
            chunk.magnitudes.clear();
            chunk.magnitudes.extend(picked.iter().map(|(_, x)| x.abs()));
            chunk.magnitudes.sort_unstable_by(f32::total_cmp);
            let levels = levels::fit(&chunk.magnitudes);
            self.write(picked, levels, &mut last, &mut bits);
            let (exponent, [low, high]) = integers(levels);
            let threshold = levels::threshold(levels);
            let code = |x: f32| {
                let code = if x.abs() > threshold { high } else { low };
                if x < 0.0 { -code } else { code }
            };
            codes.push_sparse(values.len(), exponent, picked.iter().map(|&(i, x)| (i, code(x))));
        }
        bits.finish();
    }

    fn decode(&self, bytes: &[u8], elements: usize, codes: &mut Codes) -> Result<(), Error> {
        codes.clear();
        let mut bits = BitReader::new(bytes);
        let (mut last, mut places, mut values) = (MIN_LEVEL, Vec::new(), Vec::new());
        for first in (0..elements).step_by(CHUNK) {
            let elements = CHUNK.min(elements - first);
            let most = self.most(elements);
            let count = most - bits.rice(0, most as u32)? as usize;
            if count == 0 {
                codes.push_sparse(elements, 0, []);
                continue;
            }
            let levels = self.read(&mut bits, elements, count, &mut last, &mut places)?;
            let (exponent, codes_of) = integers(levels);
            self.read_values(&mut bits, count, levels, codes_of, &mut values)?;
            let support = places.iter().copied().zip(values.iter().copied());
            codes.push_sparse(elements, exponent, support);
        }
        bits.finish()
    }

    fn max_bytes(&self, elements: usize) -> usize {
        // A place has at most `elements >> parameter` ones in all.
        let chunks = elements.div_ceil(CHUNK);
        let bits = chunks * 4096 + self.most(elements) * (self.parameter as usize + 5) + elements;
        bits.div_ceil(8) + chunks * CHUNK
    }
}

impl TopK {
    fn write(&self, picked: &[(u16, f32)], levels: Levels, last: &mut u16, bits: &mut BitWriter) {
        let step = i32::from(levels.low) - i32::from(*last);
        bits.rice(((step << 1) ^ (step >> 31)) as u32, LOW_LEVEL);
        *last = levels.low;
        bits.rice(u32::from(levels.high - levels.low), HIGH_LEVEL);
        let mut next = 0;
        for &(place, _) in picked {
            bits.rice(u32::from(place) - next, self.parameter);
            next = u32::from(place) + 1;
        }
        picked.iter().for_each(|(_, x)| bits.put(u64::from(*x < 0.0), 1));
        if levels.high > levels.low {
            let threshold = levels::threshold(levels);
            let mut run = 0;
            for (_, x) in picked {
                match x.abs() > threshold {
                    true => {
                        bits.rice(run, HIGH);
                        run = 0;
                    }
                    false => run += 1,
                }
            }
            // The run of low values after the last high one, told apart by its end.
            bits.rice(run, HIGH);
        }
    }

    fn read(
        &self,
        bits: &mut BitReader,
        elements: usize,
        count: usize,
        last: &mut u16,
        places: &mut Vec<u16>,
    ) -> Result<Levels, Error> {
        let beyond = Error::NotCanonical { what: "a level beyond its bound" };
        let step = bits.rice(LOW_LEVEL, 2 * u32::from(MAX_LEVEL))?;
        let low = i32::from(*last) + ((step >> 1) as i32 ^ -((step & 1) as i32));
        if !(i32::from(MIN_LEVEL)..=i32::from(MAX_LEVEL)).contains(&low) {
            return Err(beyond);
        }
        let low = low as u16;
        *last = low;
        let high = low + bits.rice(HIGH_LEVEL, 8 * (BINADES + 2))? as u16;
        if high > MAX_LEVEL {
            return Err(beyond);
        }
        places.clear();
        let mut next = 0;
        for left in (0..count).rev() {
            let Some(most) = (elements - left).checked_sub(next as usize + 1) else {
                return Err(Error::NotCanonical { what: "a place beyond the chunk" });
            };
            let place = next + bits.rice(self.parameter, most as u32)?;
            places.push(place as u16);
            next = place + 1;
        }
        Ok(Levels { low, high })
    }

    fn read_values(
        &self,
        bits: &mut BitReader,
        count: usize,
        levels: Levels,
        [low, high]: [i32; 2],
        values: &mut Vec<i32>,
    ) -> Result<(), Error> {
        values.clear();
        for _ in 0..count {
            values.push(if bits.take(1)? == 1 { -low } else { low });
        }
        if levels.high == levels.low {
            return Ok(());
        }
        let (mut next, mut highs) = (0, 0);
        loop {
            next += bits.rice(HIGH, (count - next) as u32)? as usize;
            if next == count {
                break;
            }
            values[next] = values[next].signum() * high;
            highs += 1;
            next += 1;
        }
        match highs > 0 && highs < count {
            true => Ok(()),
            false => Err(Error::NotCanonical { what: "a level that nothing has" }),
        }
    }
}

/// Exponent of a chunk, and the codes of its levels.
fn integers(levels: Levels) -> (i32, [i32; 2]) {
    let binade = |level: u16| i32::from(level >> 3) - 130;
    let exponent = binade(levels.low).min(MAX_EXPONENT);
    let code = |level: u16| i32::from(level & 7 | 8) << (binade(level) - exponent);
    (exponent, [code(levels.low), code(levels.high)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_decoded_is_what_the_encoder_said() {
        let sizes = [1, 2, 63, 64, 65, 4095, 4096, 4097, 3 * 4096 + 5];
        for (k, elements) in [1, 3, 64, 1000, 4096].into_iter().flat_map(|k| sizes.map(|n| (k, n)))
        {
            let codec = TopK::new(k);
            let value = |i: usize| ((i * 7919 % 10007) as f32 - 5000.0).powi(3) * 1e-9;
            let values: Vec<f32> = (0..elements).map(value).collect();
            let (mut codes, mut decoded, mut bytes) = (Codes::default(), Codes::default(), vec![]);
            codec.encode(&values, &mut codes, &mut bytes);
            assert!(bytes.len() <= codec.max_bytes(elements), "{k} {elements}");
            codec.decode(&bytes, elements, &mut decoded).expect("a block");
            assert_eq!(codes, decoded, "{k} {elements}");
            let mut floats = vec![f32::NAN; elements];
            codes.write_to(&mut floats);
            let mut again = Vec::new();
            codec.encode(&floats, &mut codes, &mut again);
            assert_eq!(bytes, again, "{k} {elements}");
        }
    }
}
