//! An update as it arrives.

use std::io;
use std::io::Read;

use super::About;
use super::Codec;
use super::Codes;
use super::Error;
use super::Layout;
use super::update::check_header;
use super::update::check_length;
use super::update::header;

/// Reads an update block by block; never holds more than one block's bytes.
#[derive(Debug)]
pub struct Stream<'a, R> {
    from: R,
    codec: &'a dyn Codec,
    layout: &'a Layout,
    /// Number of the next block.
    next: usize,
    bytes: Vec<u8>,
}

impl<'a, R: Read> Stream<'a, R> {
    /// Reads the header. The update must be of `layout`, written by `codec`, and about `about`.
    pub fn open(
        mut from: R,
        codec: &'a dyn Codec,
        layout: &'a Layout,
        about: &About,
    ) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        fetch(&mut from, header(codec, layout, about).len(), &mut bytes)?;
        check_header(&bytes, codec, layout, about)?;
        Ok(Self { from, codec, layout, next: 0, bytes })
    }

    /// Decodes the next block and returns its number; none after the last one, where the bytes
    /// must end. After an error the rest cannot be read.
    pub fn block(&mut self, codes: &mut Codes) -> Result<Option<usize>, Error> {
        let Some(block) = self.layout.blocks().get(self.next) else {
            return match fetch(&mut self.from, 1, &mut self.bytes)? {
                0 => Ok(None),
                bytes => Err(Error::Excess { bytes, place: "the update" }),
            };
        };
        let index = self.next;
        self.read(block.len(), codes)
            .map_err(|source| Error::Block { block: index, source: Box::new(source) })?;
        self.next += 1;
        Ok(Some(index))
    }

    fn read(&mut self, elements: usize, codes: &mut Codes) -> Result<(), Error> {
        let bytes = fetch(&mut self.from, 4, &mut self.bytes)?;
        let Some(length) = self.bytes.first_chunk() else {
            return Err(Error::Truncated { bytes, place: "a block's length" });
        };
        let length = check_length(*length, self.codec, elements)?;
        let bytes = fetch(&mut self.from, length, &mut self.bytes)?;
        if bytes < length {
            return Err(Error::Truncated { bytes, place: "a block" });
        }
        self.codec.decode(&self.bytes, elements, codes)
    }
}

/// Overwrites `bytes` with the next `count`, or as many as there are; returns how many.
fn fetch(from: &mut impl Read, count: usize, bytes: &mut Vec<u8>) -> Result<usize, Error> {
    bytes.clear();
    let read = from.by_ref().take(count as u64).read_to_end(bytes);
    read.map_err(|e: io::Error| Error::Io { done: "read", kind: e.kind(), why: e.to_string() })
}
