//! Bits in bytes: the first bit is the lowest of the first byte.

use super::Error;

/// Most bits of one call.
const MOST: u32 = 48;

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

    /// Appends the lowest `count` bits of `value` (at most [`MOST`], the others zero), lowest first.
    #[inline]
    pub(super) fn put(&mut self, value: u64, count: u32) {
        debug_assert!(count <= MOST && value >> count == 0, "{count} bits of {value}");
        self.held |= value << self.count;
        self.count += count;
        let bytes = self.count / 8;
        self.out.extend_from_slice(&self.held.to_le_bytes()[..bytes as usize]);
        self.held >>= 8 * bytes;
        self.count -= 8 * bytes;
    }

    /// Appends `value` in the Rice code of `parameter` (at most 12): its quotient by
    /// `2^parameter` as so many ones and a zero, then the remainder.
    #[inline]
    pub(super) fn rice(&mut self, value: u32, parameter: u32) {
        let mut quotient = value >> parameter;
        let remainder = u64::from(value) & ((1 << parameter) - 1);
        while quotient >= 32 {
            self.put(0xffff_ffff, 32);
            quotient -= 32;
        }
        self.put(remainder << (quotient + 1) | ((1 << quotient) - 1), quotient + 1 + parameter);
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
    /// The next `count` bits; above them, zeros or what will be read again.
    held: u64,
    count: u32,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, next: 0, held: 0, count: 0 }
    }

    /// Takes in bytes until [`MOST`] bits are held or none are left.
    #[inline]
    fn fill(&mut self) {
        if self.count >= MOST {
            return;
        }
        if let Some(word) = self.bytes.get(self.next..).and_then(|rest| rest.first_chunk()) {
            self.held |= u64::from_le_bytes(*word) << self.count;
            self.next += ((63 - self.count) / 8) as usize;
            self.count |= 56;
            return;
        }
        while self.count < MOST && self.next < self.bytes.len() {
            self.held |= u64::from(self.bytes[self.next]) << self.count;
            self.next += 1;
            self.count += 8;
        }
    }

    /// The next [`MOST`] bits, with zeros after the last.
    #[inline]
    pub(super) fn peek(&mut self) -> u64 {
        self.fill();
        self.held & ((1 << MOST) - 1)
    }

    /// Goes on by `count` bits, which have been peeked at.
    #[inline]
    pub(super) fn skip(&mut self, count: u32) -> Result<(), Error> {
        if self.count < count {
            return Err(Error::Truncated { bytes: self.bytes.len(), place: "a block" });
        }
        self.held >>= count;
        self.count -= count;
        Ok(())
    }

    /// The next `count` bits, at most [`MOST`], the first one lowest.
    #[inline]
    pub(super) fn take(&mut self, count: u32) -> Result<u64, Error> {
        debug_assert!(count <= MOST);
        let value = self.peek() & ((1 << count) - 1);
        self.skip(count)?;
        Ok(value)
    }

    /// What [`BitWriter::rice`] wrote, if it is at most `most`.
    #[inline]
    pub(super) fn rice(&mut self, parameter: u32, most: u32) -> Result<u32, Error> {
        const BEYOND: Error = Error::NotCanonical { what: "a number beyond its bound" };
        let mut quotient = 0;
        loop {
            let ones = self.peek().trailing_ones();
            quotient += ones.min(32);
            if quotient > most >> parameter {
                return Err(BEYOND);
            }
            if ones < 32 {
                self.skip(ones + 1)?;
                break;
            }
            self.skip(32)?;
        }
        let value = quotient << parameter | self.take(parameter)? as u32;
        if value <= most { Ok(value) } else { Err(BEYOND) }
    }

    /// Nothing may follow but the zeros that fill the last byte.
    pub(super) fn finish(self) -> Result<(), Error> {
        let bytes = self.bytes.len() - self.next + (self.count / 8) as usize;
        if bytes > 0 {
            return Err(Error::Excess { bytes, place: "a block" });
        }
        match self.held & ((1 << self.count) - 1) {
            0 => Ok(()),
            _ => Err(Error::NotCanonical { what: "bits after the end of a block" }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of the Rice code at every parameter, around the words of the implementation.
    fn values() -> impl Iterator<Item = (u32, u32)> {
        let edges = [0, 1, 2, 31, 32, 33, 63, 64, 65, 97, 4095, 4096];
        (0..=12).flat_map(move |parameter| edges.map(|value| (value, parameter)))
    }

    #[test]
    fn bits_come_back_and_end_where_they_end() {
        let mut bytes = Vec::new();
        let mut bits = BitWriter::new(&mut bytes);
        for (i, (value, parameter)) in values().enumerate() {
            bits.rice(value, parameter);
            bits.put(u64::from(i % 49 > 0) & i as u64, i as u32 % 49);
        }
        bits.finish();
        let mut bits = BitReader::new(&bytes);
        for (i, (value, parameter)) in values().enumerate() {
            assert_eq!(bits.rice(parameter, 4096), Ok(value));
            assert_eq!(bits.take(i as u32 % 49), Ok(u64::from(i % 49 > 0) & i as u64));
        }
        bits.finish().expect("the end");
        for cut in 0..bytes.len() {
            let mut bits = BitReader::new(&bytes[..cut]);
            let read = values().enumerate().try_for_each(|(i, (_, parameter))| {
                bits.rice(parameter, 4096)?;
                bits.take(i as u32 % 49).map(drop)
            });
            assert!(matches!(read, Err(Error::Truncated { .. })), "{cut}: {read:?}");
        }
    }

    #[test]
    fn what_follows_the_end_is_refused() {
        let finish = |bytes: &[u8], count| {
            let mut bits = BitReader::new(bytes);
            bits.take(count).expect("bits");
            bits.finish()
        };
        assert_eq!(finish(&[0x1f], 5), Ok(()));
        assert!(matches!(finish(&[0x3f], 5), Err(Error::NotCanonical { .. })));
        assert_eq!(finish(&[0x1f, 0], 5), Err(Error::Excess { bytes: 1, place: "a block" }));
        assert_eq!(finish(&[0; 30], 8), Err(Error::Excess { bytes: 29, place: "a block" }));
    }

    #[test]
    fn a_number_has_its_bound() {
        let mut bytes = Vec::new();
        let mut bits = BitWriter::new(&mut bytes);
        bits.rice(100, 2);
        bits.finish();
        assert_eq!(BitReader::new(&bytes).rice(2, 100), Ok(100));
        for most in [0, 3, 96, 99] {
            let read = BitReader::new(&bytes).rice(2, most);
            assert!(matches!(read, Err(Error::NotCanonical { .. })), "{most}: {read:?}");
        }
        // Ones without end.
        assert!(BitReader::new(&[255; 2000]).rice(0, 4096).is_err());
    }
}
