//! All values of a chunk as a sign and a power of two out of seven, or zero: four bits.
//!
//! The format of Streaming DiLoCo (arXiv:2501.18512), with powers of two as scales. Every run of
//! [`RUN`] elements has its own, up to 15 binades above the chunk's, so codes stay small integers.

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

/// Four bits: sign and exponent.
#[derive(Clone, Copy, Debug)]
pub(super) struct E3m0;

/// Elements that share a scale.
const RUN: usize = 256;

/// Binades between the smallest and the largest power of two of a run.
const LEVELS: i32 = 6;

/// Binades that a run's scale can be above its chunk's: what four bits say.
const MOST_SHIFT: i32 = 15;

/// Exponents of a chunk, and of its runs above it.
struct Scales {
    exponent: i32,
    shifts: [u8; CHUNK / RUN],
}

impl Codec for E3m0 {
    fn spec(&self) -> Vec<u8> {
        vec![Kind::E3m0.number()]
    }

    fn encode(&self, values: &[f32], codes: &mut Codes, out: &mut Vec<u8>) {
        codes.clear();
        let mut nibbles = [0u8; CHUNK];
        for chunk in values.chunks(CHUNK) {
            let scales = scales(chunk);
            for (i, run) in chunk.chunks(RUN).enumerate() {
                let inverse = power_of_two(-(scales.exponent + i32::from(scales.shifts[i])));
                let nibbles = &mut nibbles[i * RUN..];
                run.iter().zip(nibbles).for_each(|(x, n)| *n = nibble(flushed(*x) * inverse));
            }
            let nibbles = &nibbles[..chunk.len()];
            out.push(scales.exponent as i8 as u8);
            pack(&scales.shifts[..chunk.len().div_ceil(RUN)], out);
            pack(nibbles, out);
            push(&scales, nibbles, codes);
        }
    }

    fn decode(&self, bytes: &[u8], elements: usize, codes: &mut Codes) -> Result<(), Error> {
        codes.clear();
        expect_length(bytes, self.max_bytes(elements))?;
        let mut rest = bytes;
        let mut nibbles = [0u8; CHUNK];
        for first in (0..elements).step_by(CHUNK) {
            let elements = CHUNK.min(elements - first);
            let runs = elements.div_ceil(RUN);
            let (chunk, others) = rest.split_at(size(elements));
            rest = others;
            let (shifts, packed) = chunk[1..].split_at(runs.div_ceil(2));
            let exponent = read_exponent(chunk[0])?;
            let mut scales = Scales { exponent, shifts: [0; CHUNK / RUN] };
            unpack(shifts, &mut scales.shifts[..runs])?;
            let nibbles = &mut nibbles[..elements];
            unpack(packed, nibbles)?;
            check(&scales, nibbles)?;
            push(&scales, nibbles, codes);
        }
        Ok(())
    }

    fn max_bytes(&self, elements: usize) -> usize {
        elements / CHUNK * size(CHUNK)
            + if !elements.is_multiple_of(CHUNK) { size(elements % CHUNK) } else { 0 }
    }
}

/// Bytes of a chunk: its exponent, the shifts of its runs, its elements.
fn size(elements: usize) -> usize {
    1 + elements.div_ceil(RUN).div_ceil(2) + elements.div_ceil(2)
}

/// The largest magnitude of a run, rounded to a power of two, has the largest code. Runs too far
/// below the largest one share the smallest scale, and those that vanish there do not count.
fn scales(chunk: &[f32]) -> Scales {
    let mut largest = [0.0f32; CHUNK / RUN];
    for (largest, run) in largest.iter_mut().zip(chunk.chunks(RUN)) {
        *largest = flushed(f32::from_bits(largest_bits(run)));
    }
    let own = |x: f32| (rounded_binade(x) - LEVELS).clamp(MIN_EXPONENT, MAX_EXPONENT);
    let most = largest.iter().filter(|x| **x > 0.0).map(|x| own(*x)).max();
    let floor = most.map_or(MIN_EXPONENT, |most| (most - MOST_SHIFT).max(MIN_EXPONENT));
    let counts = |x: &&f32| **x > 0.5 * power_of_two(floor);
    let least = largest.iter().filter(counts).map(|x| own(*x)).min().unwrap_or(MIN_EXPONENT);
    let exponent = least.max(floor);
    let mut shifts = [0; CHUNK / RUN];
    for (shift, x) in shifts.iter_mut().zip(&largest) {
        if counts(&x) {
            *shift = (own(*x) - exponent).max(0) as u8;
        }
    }
    Scales { exponent, shifts }
}

/// Exponent of the power of two nearest to a positive normal number, the lower one on a tie.
fn rounded_binade(x: f32) -> i32 {
    ((x.to_bits() + 0x3f_ffff) >> 23) as i32 - 127
}

/// Sign and level of a value in units of its run: the nearest of 0, 1, 2, 4, ... 64, the lower one
/// on a tie. Zero has no sign.
#[inline]
fn nibble(units: f32) -> u8 {
    let magnitude = units.abs();
    let level = ((magnitude.to_bits() + 0x3f_ffff) >> 23) as i32 - 126;
    let level = level.max(i32::from(magnitude > 0.5)).min(LEVELS + 1);
    let sign = u32::from(level > 0) & units.to_bits() >> 31;
    level as u8 | (sign as u8) << 3
}

fn push(scales: &Scales, nibbles: &[u8], codes: &mut Codes) {
    let mut values = [0; CHUNK];
    for (i, run) in nibbles.chunks(RUN).enumerate() {
        let shift = scales.shifts[i];
        for (value, nibble) in values[i * RUN..].iter_mut().zip(run) {
            let magnitude = (1i32 << (nibble & 7)) >> 1 << shift;
            let sign = -i32::from(nibble >> 3);
            *value = (magnitude ^ sign) - sign;
        }
    }
    codes.push_dense(scales.exponent, values[..nibbles.len()].iter().copied());
}

/// Whether the encoder would have chosen these scales for what they decode to.
fn check(scales: &Scales, nibbles: &[u8]) -> Result<(), Error> {
    let wrong = |what| Err(Error::NotCanonical { what });
    let at_floor = scales.exponent == MIN_EXPONENT
        || scales.shifts.iter().any(|&shift| i32::from(shift) == MOST_SHIFT);
    let mut has_unshifted = false;
    for (run, &shift) in nibbles.chunks(RUN).zip(&scales.shifts) {
        if run.contains(&8) {
            return wrong("minus zero");
        }
        let most = run.iter().fold(0, |most, nibble| most.max(nibble & 7));
        let is_full = i32::from(most) == LEVELS + 1;
        if most == 0 && shift > 0 {
            return wrong("a scale of zeros");
        }
        if most > 0 && !is_full && (shift > 0 || !at_floor) {
            return wrong("a scale that could be smaller");
        }
        if scales.exponent + i32::from(shift) > MAX_EXPONENT {
            return wrong("a scale beyond its bound");
        }
        has_unshifted |= most > 0 && shift == 0;
    }
    if !has_unshifted && scales.exponent > MIN_EXPONENT {
        return wrong("an exponent that could be larger");
    }
    if !has_unshifted && scales.shifts.iter().any(|&shift| shift > 0) {
        return wrong("an exponent that could be larger");
    }
    Ok(())
}

/// Two to a byte, the first one low.
fn pack(nibbles: &[u8], out: &mut Vec<u8>) {
    let (pairs, rest) = nibbles.as_chunks::<2>();
    out.extend(pairs.iter().map(|[low, high]| low | high << 4));
    out.extend(rest);
}

fn unpack(bytes: &[u8], nibbles: &mut [u8]) -> Result<(), Error> {
    let (pairs, rest) = nibbles.as_chunks_mut::<2>();
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = [byte & 15, byte >> 4];
    }
    if let ([last], [.., byte]) = (rest, bytes) {
        *last = byte & 15;
        if byte >> 4 > 0 {
            return Err(Error::NotCanonical { what: "bits after the end of a chunk" });
        }
    }
    Ok(())
}
