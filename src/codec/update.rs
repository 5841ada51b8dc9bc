//! A whole update: a header, and every block with its length before it.

use std::io::Write;
use std::ops::Range;

use rayon::prelude::*;

use super::Codec;
use super::Codes;
use super::Error;
use super::Layout;
use crate::crypto::Hash;

/// What an update belongs to: compared with what is expected before anything else is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct About {
    /// Identity of the job.
    pub job: Hash,
    /// The outer round, from 0.
    pub round: u64,
    /// Which fragment of the model, from 0.
    pub fragment: u32,
}

/// An update whose header has been read; blocks are decoded, and checked, one by one.
#[derive(Debug)]
pub struct Update<'a> {
    bytes: &'a [u8],
    codec: &'a dyn Codec,
    /// Place of every block in `bytes`, and its elements.
    blocks: Vec<(Range<usize>, usize)>,
}

/// The bytes of the update `values` (of `layout`, flat). `values` becomes the residual: what the
/// bytes do not say, each element `u - decoded` rounded once. Values that are not finite are an
/// error, and leave all as it was.
pub fn encode(
    codec: &dyn Codec,
    layout: &Layout,
    about: &About,
    values: &mut [f32],
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    encode_to(&mut bytes, codec, layout, about, values)?;
    Ok(bytes)
}

/// As [`encode`], to `out`; returns how many bytes. Holds only the bytes of some blocks per thread.
/// If `out` fails, blocks whose bytes it may not have are residuals already.
pub fn encode_to(
    mut out: impl Write,
    codec: &dyn Codec,
    layout: &Layout,
    about: &About,
    values: &mut [f32],
) -> Result<u64, Error> {
    assert_eq!(values.len(), layout.elements(), "elements of an update");
    if let Some(element) = values.par_iter().position_first(|x| !x.is_finite()) {
        return Err(Error::NonFinite { element });
    }
    let mut put = |bytes: &[u8]| {
        let failed =
            |e: std::io::Error| Error::Io { done: "written", kind: e.kind(), why: e.to_string() };
        out.write_all(bytes).map(|()| bytes.len() as u64).map_err(failed)
    };
    let mut written = put(&header(codec, layout, about))?;
    let mut rest = values;
    for blocks in layout.blocks().chunks(BLOCKS_PER_THREAD * rayon::current_num_threads()) {
        let mut parts = Vec::with_capacity(blocks.len());
        for block in blocks {
            let (mine, others) = rest.split_at_mut(block.len());
            parts.push(mine);
            rest = others;
        }
        let encoded: Vec<Vec<u8>> = parts
            .into_par_iter()
            .map_init(Codes::default, |codes, values| {
                let mut out = Vec::new();
                codec.encode(values, codes, &mut out);
                codes.subtract_from(values);
                out
            })
            .collect();
        for block in encoded {
            written += put(&(block.len() as u32).to_le_bytes())?;
            written += put(&block)?;
        }
    }
    Ok(written)
}

impl<'a> Update<'a> {
    /// Reads the header of `bytes` and the lengths of its blocks. The update must be of `layout`,
    /// written by `codec`, and about `about`. Allocates nothing beyond the list of blocks.
    pub fn parse(
        bytes: &'a [u8],
        codec: &'a dyn Codec,
        layout: &Layout,
        about: &About,
    ) -> Result<Self, Error> {
        let mut next = check_header(bytes, codec, layout, about)?;
        let mut blocks = Vec::with_capacity(layout.blocks().len());
        for (i, block) in layout.blocks().iter().enumerate() {
            let at = |source| Error::Block { block: i, source: Box::new(source) };
            let truncated = |place| at(Error::Truncated { bytes: bytes.len(), place });
            let Some(length) = bytes[next..].first_chunk() else {
                return Err(truncated("a block's length"));
            };
            next += length.len();
            let length = check_length(*length, codec, block.len()).map_err(at)?;
            if length > bytes.len() - next {
                return Err(truncated("a block"));
            }
            blocks.push((next..next + length, block.len()));
            next += length;
        }
        match bytes.len() - next {
            0 => Ok(Self { bytes, codec, blocks }),
            bytes => Err(Error::Excess { bytes, place: "the update" }),
        }
    }

    /// Decodes block `index` of the layout.
    pub fn block(&self, index: usize, codes: &mut Codes) -> Result<(), Error> {
        let (range, elements) = &self.blocks[index];
        let decoded = self.codec.decode(&self.bytes[range.clone()], *elements, codes);
        decoded.map_err(|source| Error::Block { block: index, source: Box::new(source) })
    }
}

/// The length of a block of `elements` elements, if it can be one.
pub(super) fn check_length(
    length: [u8; 4],
    codec: &dyn Codec,
    elements: usize,
) -> Result<usize, Error> {
    let length = u32::from_le_bytes(length) as usize;
    match length <= codec.max_bytes(elements) {
        true => Ok(length),
        false => Err(Error::NotCanonical { what: "a block longer than it can be" }),
    }
}

/// The header: format and version, codec, layout, job, round, fragment.
pub(super) fn header(codec: &dyn Codec, layout: &Layout, about: &About) -> Vec<u8> {
    let spec = codec.spec();
    let mut bytes = FORMAT.to_vec();
    bytes.push(spec.len() as u8);
    bytes.extend(spec);
    bytes.extend(layout.hash().as_bytes());
    bytes.extend(about.job.as_bytes());
    bytes.extend(about.round.to_le_bytes());
    bytes.extend(about.fragment.to_le_bytes());
    bytes
}

/// Whether `bytes` begin with the header expected, of which the length is returned. What comes
/// first in the header is complained of first.
pub(super) fn check_header(
    bytes: &[u8],
    codec: &dyn Codec,
    layout: &Layout,
    about: &About,
) -> Result<usize, Error> {
    let mut rest = bytes;
    let mut take = |count: usize| {
        let truncated = Error::Truncated { bytes: bytes.len(), place: "its header" };
        let (field, others) = rest.split_at_checked(count).ok_or(truncated)?;
        rest = others;
        Ok(field)
    };
    let found = take(FORMAT.len())?;
    if found != FORMAT {
        let found = found.try_into().unwrap_or_default();
        return Err(Error::Format { found, expected: FORMAT });
    }
    let differs = |field, found: String, expected: String| Error::Other { field, found, expected };
    let (spec, found) = (codec.spec(), usize::from(take(1)?[0]));
    let found = take(found)?;
    if found != spec {
        let text = |spec: &[u8]| spec.iter().map(|b| format!("{b:02x}")).collect::<String>();
        return Err(differs("codec", text(found), text(&spec)));
    }
    let hash = |bytes: &[u8]| bytes.try_into().map_or(Hash([0; 32]), Hash);
    let found = hash(take(32)?);
    if found != layout.hash() {
        return Err(Error::OtherLayout { found, expected: layout.hash() });
    }
    let found = hash(take(32)?);
    if found != about.job {
        return Err(differs("job", found.to_string(), about.job.to_string()));
    }
    let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
    for (field, size, expected) in
        [("round", 8, about.round), ("fragment", 4, u64::from(about.fragment))]
    {
        let found = number(take(size)?);
        if found != expected {
            return Err(differs(field, found.to_string(), expected.to_string()));
        }
    }
    Ok(bytes.len() - rest.len())
}

/// `NSU` and the version.
const FORMAT: [u8; 4] = *b"NSU1";

/// Blocks that a thread encodes before what all have encoded is written.
const BLOCKS_PER_THREAD: usize = 4;
