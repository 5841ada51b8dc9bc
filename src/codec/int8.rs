//! All values of a chunk as integers of 8 bits, -127 to 127, times the chunk's power of two.
//!
//! The power of two is the smallest that reaches the largest magnitude, or half of it where that
//! has the smaller squared error: clipping one peak can cost less than coarser steps for all. A
//! quarter never has: it clips by at least 31.75 steps, whose square, 1,008, is more than 4,096
//! elements can lose by rounding, 341 on average.

use super::CHUNK;
use super::Codec;
use super::Codes;
use super::Error;
use super::MAX_EXPONENT;
use super::MIN_EXPONENT;
use super::codes::flushed;
use super::codes::largest_bits;
use super::codes::power_of_two;
use super::config::Kind;
use super::error::expect_length;
use super::error::read_exponent;

/// Eight bits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Int8;

const LARGEST: f32 = 127.0;

/// Added and taken away, rounds magnitudes below 2^22 to whole numbers, ties to even; the sum's
/// bits are those of this plus the whole number.
const WHOLE: f32 = (3 << 22) as f32;

impl Codec for Int8 {
    fn spec(&self) -> Vec<u8> {
        vec![Kind::Int8.number()]
    }

    fn encode(&self, values: &[f32], codes: &mut Codes, out: &mut Vec<u8>) {
        codes.clear();
        for chunk in values.chunks(CHUNK) {
            let exponent = exponent(chunk);
            let inverse = power_of_two(-exponent);
            let code = |x: &f32| {
                let sum = bounded(flushed(*x) * inverse) + WHOLE;
                sum.to_bits() as i32 - WHOLE.to_bits() as i32
            };
            let values = codes.push_dense(exponent, chunk.iter().map(code));
            out.push(exponent as i8 as u8);
            out.extend(values.iter().map(|code| *code as i8 as u8));
        }
    }

    fn decode(&self, bytes: &[u8], elements: usize, codes: &mut Codes) -> Result<(), Error> {
        codes.clear();
        expect_length(bytes, self.max_bytes(elements))?;
        for chunk in bytes.chunks(1 + CHUNK) {
            let exponent = read_exponent(chunk[0])?;
            let values = codes.push_dense(exponent, chunk[1..].iter().map(|&b| i32::from(b as i8)));
            let (least, most) = values
                .iter()
                .fold((0, 0), |(least, most): (i32, i32), &v| (least.min(v), most.max(v)));
            if least < -127 {
                return Err(Error::NotCanonical { what: "the integer -128" });
            }
            if most.max(-least) < 64 && exponent > MIN_EXPONENT {
                return Err(Error::NotCanonical { what: "an exponent that could be smaller" });
            }
        }
        Ok(())
    }

    fn max_bytes(&self, elements: usize) -> usize {
        elements + elements.div_ceil(CHUNK)
    }
}

/// The exponent with the smaller squared error, the larger one where they are equal.
fn exponent(chunk: &[f32]) -> i32 {
    let largest = flushed(f32::from_bits(largest_bits(chunk))).to_bits();
    // 127 is 1.984375 times 64.
    let reach = (largest >> 23) as i32 - 127 - 6 + i32::from(largest & 0x7f_ffff > 0x7e_0000);
    let bounded = |exponent: i32| exponent.clamp(MIN_EXPONENT, MAX_EXPONENT);
    let [whole, half] = [bounded(reach), bounded(reach - 1)];
    let (whole_error, half_error) = (error(chunk, whole), error(chunk, half));
    // In steps of either: those of `half` are half as large.
    let ratio = if half < whole { 0.25 } else { 1.0 };
    if half_error * ratio < whole_error { half } else { whole }
}

/// Squared error in squared steps: 16 interleaved sums of f32, added in order as f64.
fn error(chunk: &[f32], exponent: i32) -> f64 {
    let inverse = power_of_two(-exponent);
    let mut sums = [0.0f32; 16];
    let mut add = |lane: &[f32]| {
        for (sum, x) in sums.iter_mut().zip(lane) {
            let units = flushed(*x) * inverse;
            // Exact, as is every difference of neighbouring numbers.
            let missed = units - ((bounded(units) + WHOLE) - WHOLE);
            *sum += missed * missed;
        }
    };
    let (lanes, rest) = chunk.as_chunks::<16>();
    lanes.iter().for_each(|lane| add(lane));
    add(rest);
    sums.iter().map(|&sum| f64::from(sum)).sum()
}

fn bounded(units: f32) -> f32 {
    let upper = if units < LARGEST { units } else { LARGEST };
    if upper > -LARGEST { upper } else { -LARGEST }
}
