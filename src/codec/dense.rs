//! All values of a chunk, each with 24 bits below the largest.
//!
//! A block is its elements as f32, little-endian. The largest magnitude of a chunk gives the grid: a
//! multiple of the chunk's `2^exponent`, to which values are rounded (nearest, ties to even).

use super::CHUNK;
use super::Codec;
use super::Codes;
use super::Error;
use super::MAX_CODE;
use super::MIN_EXPONENT;
use super::codes::power_of_two;

/// Dense f32.
#[derive(Clone, Copy, Debug)]
pub struct F32;

impl Codec for F32 {
    fn spec(&self) -> Vec<u8> {
        vec![0]
    }

    fn encode(&self, values: &[f32], codes: &mut Codes, out: &mut Vec<u8>) {
        codes.clear();
        for chunk in values.chunks(CHUNK) {
            let exponent = grid(chunk);
            let scale = power_of_two(exponent);
            // Exact, or below the grid: the quotient of a power of two only loses what is rounded.
            let code = |x: &f32| (f64::from(*x) / f64::from(scale)).round_ties_even() as i32;
            codes.push_dense(exponent, chunk.iter().map(code));
            out.extend(chunk.iter().flat_map(|x| (code(x) as f32 * scale).to_le_bytes()));
        }
    }

    fn decode(&self, bytes: &[u8], elements: usize, codes: &mut Codes) -> Result<(), Error> {
        codes.clear();
        if bytes.len() < 4 * elements {
            return Err(Error::Truncated { bytes: bytes.len(), place: "a block" });
        }
        if bytes.len() > 4 * elements {
            let bytes = bytes.len() - 4 * elements;
            return Err(Error::Excess { bytes, place: "a block" });
        }
        let mut chunk = Vec::with_capacity(CHUNK.min(elements));
        for bytes in bytes.chunks(4 * CHUNK) {
            chunk.clear();
            let (words, _) = bytes.as_chunks::<4>();
            chunk.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
            let exponent = grid(&chunk);
            let scale = power_of_two(exponent);
            let code = |x: &f32| (*x / scale) as i32;
            // NaN, infinities, subnormals, minus zero and what lies off the grid all differ here.
            let written = |x: &f32| (code(x) as f32 * scale).to_bits() == x.to_bits();
            if !chunk.iter().all(|x| written(x) && code(x).abs() <= MAX_CODE) {
                return Err(Error::NotCanonical { what: "a value off its chunk's grid" });
            }
            codes.push_dense(exponent, chunk.iter().map(code));
        }
        Ok(())
    }

    fn max_bytes(&self, elements: usize) -> usize {
        4 * elements
    }
}

/// Exponent of the grid on which the largest magnitude of `values` has 24 bits.
fn grid(values: &[f32]) -> i32 {
    let largest = values.iter().fold(0, |max, x| max.max(x.to_bits() & 0x7fff_ffff));
    ((largest >> 23) as i32 - 127 - 23).clamp(MIN_EXPONENT, super::MAX_EXPONENT)
}
