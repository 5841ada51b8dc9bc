//! All values of a chunk as floating-point numbers, f32 or bf16, on the chunk's grid.
//!
//! The largest magnitude of a chunk gives the grid, 24 bits below it: so every value is an integer
//! of 24 bits times the chunk's power of two. A value is rounded once (nearest, ties to even), to
//! the coarser of the grid and what the format resolves.

use super::CHUNK;
use super::Codec;
use super::Codes;
use super::Error;
use super::MAX_CODE;
use super::MAX_EXPONENT;
use super::MIN_EXPONENT;
use super::codes::flushed;
use super::codes::largest_bits;
use super::codes::power_of_two;
use super::config::Kind;
use super::error::expect_length;

/// Floating-point numbers of `BYTES` bytes, the upper ones of an f32: 4 (f32) or 2 (bf16).
#[derive(Clone, Copy, Debug)]
pub(super) struct Dense<const BYTES: usize>;

impl<const BYTES: usize> Dense<BYTES> {
    /// Bits of an f32 that are not sent.
    const DROPPED: u32 = 32 - 8 * BYTES as u32;
    const DROPPED_MASK: u32 = (1u32 << Self::DROPPED).wrapping_sub(1);

    /// The largest code: all bits that are sent.
    const LARGEST: f32 = (MAX_CODE as u32 & !Self::DROPPED_MASK) as f32;

    /// Rounds to the bits that are sent, ties to even. Not for the largest numbers of all.
    fn shortened(x: f32) -> f32 {
        if Self::DROPPED == 0 {
            return x;
        }
        let bits = x.to_bits();
        let up = (Self::DROPPED_MASK >> 1) + (bits >> Self::DROPPED & 1);
        f32::from_bits(bits.wrapping_add(up) & !Self::DROPPED_MASK)
    }

    /// Exponent of the grid of a chunk whose largest magnitude has these bits.
    fn grid(largest: u32) -> i32 {
        let largest = Self::shortened(f32::from_bits(largest.min(f32::MAX.to_bits()))).to_bits();
        ((largest >> 23) as i32 - 127 - 23).clamp(MIN_EXPONENT, MAX_EXPONENT)
    }

    /// The code of a value in units of the grid.
    #[inline]
    fn code(units: f32) -> i32 {
        const WHOLE: f32 = (1 << 23) as f32;
        let magnitude = units.abs();
        // Below this, the grid is the coarser one. Adding and taking away rounds to whole numbers.
        let on_grid = (magnitude + WHOLE) - WHOLE;
        let is_fine = magnitude < (1u32 << (23 - Self::DROPPED)) as f32;
        let rounded = if is_fine { on_grid } else { Self::shortened(magnitude) };
        let bounded = if rounded < Self::LARGEST { rounded } else { Self::LARGEST };
        bounded.copysign(units) as i32
    }
}

impl<const BYTES: usize> Codec for Dense<BYTES> {
    fn spec(&self) -> Vec<u8> {
        vec![if BYTES == 4 { Kind::F32 } else { Kind::Bf16 }.number()]
    }

    fn encode(&self, values: &[f32], codes: &mut Codes, out: &mut Vec<u8>) {
        codes.clear();
        for chunk in values.chunks(CHUNK) {
            let exponent = Self::grid(largest_bits(chunk));
            let (scale, inverse) = (power_of_two(exponent), power_of_two(-exponent));
            let values =
                codes.push_dense(exponent, chunk.iter().map(|x| Self::code(flushed(*x) * inverse)));
            let first = out.len();
            out.resize(first + BYTES * chunk.len(), 0);
            let (words, _) = out[first..].as_chunks_mut::<BYTES>();
            for (word, code) in words.iter_mut().zip(values) {
                let upper = (*code as f32 * scale).to_bits() >> Self::DROPPED;
                word.copy_from_slice(&upper.to_le_bytes()[..BYTES]);
            }
        }
    }

    fn decode(&self, bytes: &[u8], elements: usize, codes: &mut Codes) -> Result<(), Error> {
        codes.clear();
        expect_length(bytes, self.max_bytes(elements))?;
        let mut chunk = Vec::with_capacity(CHUNK.min(elements));
        let (words, _) = bytes.as_chunks::<BYTES>();
        for words in words.chunks(CHUNK) {
            chunk.clear();
            chunk.extend(words.iter().map(|word| {
                let mut bits = [0; 4];
                bits[..BYTES].copy_from_slice(word);
                f32::from_bits(u32::from_le_bytes(bits) << Self::DROPPED)
            }));
            let exponent = Self::grid(largest_bits(&chunk));
            let (scale, inverse) = (power_of_two(exponent), power_of_two(-exponent));
            let values = codes.push_dense(exponent, chunk.iter().map(|x| Self::code(*x * inverse)));
            // NaN, infinities, subnormals, minus zero and what lies off the grid all differ here.
            let differs = |(x, code): (&f32, &i32)| {
                u32::from((*code as f32 * scale).to_bits() != x.to_bits())
            };
            if chunk.iter().zip(values).map(differs).sum::<u32>() > 0 {
                return Err(Error::NotCanonical { what: "a value off its chunk's grid" });
            }
        }
        Ok(())
    }

    fn max_bytes(&self, elements: usize) -> usize {
        BYTES * elements
    }
}
