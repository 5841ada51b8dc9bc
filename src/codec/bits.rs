//! Bits in bytes: the first bit is the lowest of the first byte.

use super::Error;

/// Appends bits to bytes.
#[derive(Debug)]
pub(super) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits that are not in `out` yet, lowest first; fewer than 8 between calls.
    held: u64,
    count: u32,
}

impl<'a> BitWriter<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, held: 0, count: 0 }
    }

    /// Appends the lowest `count` bits of `value` (at most 48, the others zero), lowest first.
    #[inline]
    pub(super) fn put(&mut self, value: u64, count: u32) {
        debug_assert!(count <= 48 && value >> count == 0, "{count} bits of {value}");
        self.held |= value << self.count;
        self.count += count;
        let bytes = self.count / 8;
        self.out.extend_from_slice(&self.held.to_le_bytes()[..bytes as usize]);
        self.held >>= 8 * bytes;
        self.count -= 8 * bytes;
    }

    /// Appends `value`: its quotient by `2^parameter` as so many ones and a zero, then the rest.
    #[inline]
    pub(super) fn rice(&mut self, value: u32, parameter: u32) {
        let mut quotient = value >> parameter;
        while quotient >= 32 {
            self.put(0xffff_ffff, 32);
            quotient -= 32;
        }
        self.put((1 << quotient) - 1, quotient + 1);
        self.put(u64::from(value) & ((1 << parameter) - 1), parameter);
    }

    /// Fills the last byte with zeros.
    pub(super) fn finish(self) {
        if self.count > 0 {
            self.out.push(self.held as u8);
        }
    }
}

/// Takes bits from bytes.
#[derive(Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Place of the next byte that is not in `held`.
    next: usize,
    held: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0, held: 0, count: 0 }
    }

    /// Takes in bytes until 56 bits are held or none are left.
    #[inline]
    fn fill(&mut self) {
        if let Some(word) = self.bytes.get(self.next..self.next + 8) {
            let word = u64::from_le_bytes(word.try_into().expect("eight bytes"));
            self.held |= word << self.count;
            let taken = (63 - self.count) / 8;
            self.next += taken as usize;
            self.count += 8 * taken;
            // What was shifted in beyond `count` will be read again.
            self.held &= u64::MAX >> (64 - self.count).min(63);
            return;
        }
        while self.count <= 48 && self.next < self.bytes.len() {
            self.held |= u64::from(self.bytes[self.next]) << self.count;
            self.next += 1;
            self.count += 8;
        }
    }

    /// The next `count` bits, at most 48, the first one lowest.
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> Result<u64, Error> {
        debug_assert!(count <= 48);
        if self.count < count {
            self.fill();
            if self.count < count {
                return Err(Error::Truncated { bytes: self.bytes.len(), place: "a block" });
            }
        }
        let value = self.held & ((1 << count) - 1);
        self.held >>= count;
        self.count -= count;
        Ok(value)
    }

    /// What [`BitWriter::rice`] wrote, if it is at most `most`.
    #[inline]
    pub(super) fn rice(&mut self, parameter: u32, most: u32) -> Result<u32, Error> {
        let mut quotient = 0;
        loop {
            if self.count < 32 {
                self.fill();
            }
            let ones = self.held.trailing_ones().min(32);
            quotient += ones;
            if quotient > most >> parameter {
                return Err(Error::NotCanonical { what: "a number beyond its bound" });
            }
            if ones < self.count.min(32) {
                self.take(ones + 1)?;
                break;
            }
            if self.count == 0 {
                return Err(Error::Truncated { bytes: self.bytes.len(), place: "a block" });
            }
            self.take(ones)?;
        }
        let value = quotient << parameter | self.take(parameter)? as u32;
        match value <= most {
            true => Ok(value),
            false => Err(Error::NotCanonical { what: "a number beyond its bound" }),
        }
    }

    /// Nothing may follow but the zeros that fill the last byte.
    pub(super) fn finish(mut self) -> Result<(), Error> {
        self.fill();
        let bytes = self.bytes.len() - self.next + (self.count / 8) as usize;
        if bytes > 0 {
            return Err(Error::Excess { bytes, place: "a block" });
        }
        match self.held {
            0 => Ok(()),
            _ => Err(Error::NotCanonical { what: "bits after the end of a block" }),
        }
    }
}
