//! The sign of every value, times a power of two: one bit.
//!
//! The magnitude of least squared error is the mean magnitude (signSGD with scale, Karimireddy et
//! al. 2019, arXiv:1901.09847); of the powers of two it is the one nearest to that.

use super::CHUNK;
use super::Codec;
use super::Codes;
use super::Error;
use super::MAX_EXPONENT;
use super::MIN_EXPONENT;
use super::codes::flushed;
use super::config::Kind;
use super::error::expect_length;
use super::error::read_exponent;

/// Signs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sign;

/// In place of the exponent of a chunk of zeros.
const ZEROS: u8 = 0x80;

impl Codec for Sign {
    fn spec(&self) -> Vec<u8> {
        vec![Kind::Sign.number()]
    }

    fn encode(&self, values: &[f32], codes: &mut Codes, out: &mut Vec<u8>) {
        codes.clear();
        for chunk in values.chunks(CHUNK) {
            let first = out.len();
            out.resize(first + 1 + chunk.len().div_ceil(8), 0);
            let Some(exponent) = exponent(chunk) else {
                out[first] = ZEROS;
                codes.push_dense(MIN_EXPONENT, std::iter::repeat_n(0, chunk.len()));
                continue;
            };
            out[first] = exponent as i8 as u8;
            let is_negative = |x: &f32| flushed(*x) < 0.0;
            for (byte, eight) in out[first + 1..].iter_mut().zip(chunk.chunks(8)) {
                let bits = eight.iter().enumerate();
                *byte = bits.fold(0, |byte, (i, x)| byte | u8::from(is_negative(x)) << i);
            }
            codes.push_dense(exponent, chunk.iter().map(|x| if is_negative(x) { -1 } else { 1 }));
        }
    }

    fn decode(&self, bytes: &[u8], elements: usize, codes: &mut Codes) -> Result<(), Error> {
        codes.clear();
        expect_length(bytes, self.max_bytes(elements))?;
        for (i, chunk) in bytes.chunks(1 + CHUNK / 8).enumerate() {
            let elements = CHUNK.min(elements - i * CHUNK);
            let (first, signs) = (chunk[0], &chunk[1..]);
            let after = signs
                .last()
                .filter(|_| !elements.is_multiple_of(8))
                .map_or(0, |b| b >> (elements % 8));
            if after > 0 {
                return Err(Error::NotCanonical { what: "bits after the end of a chunk" });
            }
            if first == ZEROS {
                if signs.iter().any(|&byte| byte > 0) {
                    return Err(Error::NotCanonical { what: "minus zero" });
                }
                codes.push_dense(MIN_EXPONENT, std::iter::repeat_n(0, elements));
                continue;
            }
            let code = |i: usize| 1 - 2 * i32::from(signs[i / 8] >> (i % 8) & 1);
            codes.push_dense(read_exponent(first)?, (0..elements).map(code));
        }
        Ok(())
    }

    fn max_bytes(&self, elements: usize) -> usize {
        elements / CHUNK * (1 + CHUNK / 8)
            + if !elements.is_multiple_of(CHUNK) { 1 + (elements % CHUNK).div_ceil(8) } else { 0 }
    }
}

/// Of the power of two nearest to the mean magnitude (8 interleaved sums of f64, added in order),
/// the lower one on a tie; none where that is below all exponents.
fn exponent(chunk: &[f32]) -> Option<i32> {
    let mut sums = [0.0f64; 8];
    let mut add = |lane: &[f32]| {
        sums.iter_mut().zip(lane).for_each(|(sum, x)| *sum += f64::from(flushed(*x).abs()));
    };
    let (lanes, rest) = chunk.as_chunks::<8>();
    lanes.iter().for_each(|lane| add(lane));
    add(rest);
    let mean = sums.iter().sum::<f64>() / chunk.len() as f64;
    let binade = ((mean.to_bits() + ((1 << 51) - 1)) >> 52) as i32 - 1023;
    (binade >= MIN_EXPONENT).then_some(binade.min(MAX_EXPONENT))
}
