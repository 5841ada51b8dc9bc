//! A whole update: a header, and every block with its length before it.

use std::ops::Range;

use rayon::prelude::*;

use super::Codec;
use super::Codes;
use super::Error;
use super::Layout;
use crate::crypto::Domain;
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
/// bytes do not say, each element `u - decoded` rounded once.
pub fn encode(
    codec: &dyn Codec,
    layout: &Layout,
    about: &About,
    values: &mut [f32],
) -> Result<Vec<u8>, Error> {
    assert_eq!(values.len(), layout.elements(), "elements of an update");
    if let Some(element) = values.iter().position(|x| !x.is_finite()) {
        return Err(Error::NonFinite { element });
    }
    let mut parts = Vec::with_capacity(layout.blocks().len());
    let mut rest = values;
    for block in layout.blocks() {
        let (mine, others) = rest.split_at_mut(block.len());
        parts.push(mine);
        rest = others;
    }
    let encoded: Vec<Vec<u8>> = parts
        .into_par_iter()
        .map_init(
            || (Codes::default(), Vec::new()),
            |(codes, decoded), values| {
                let mut out = Vec::new();
                codec.encode(values, codes, &mut out);
                decoded.resize(values.len(), 0.0);
                codes.write_to(decoded);
                values.iter_mut().zip(&*decoded).for_each(|(u, d)| *u -= d);
                out
            },
        )
        .collect();
    let mut bytes = header(codec, layout, about);
    for block in encoded {
        bytes.extend((block.len() as u32).to_le_bytes());
        bytes.extend(block);
    }
    Ok(bytes)
}

impl<'a> Update<'a> {
    /// Reads the header of `bytes` and the lengths of its blocks. The update must be of `layout`,
    /// written by `codec`, and about `about`.
    pub fn parse(
        bytes: &'a [u8],
        codec: &'a dyn Codec,
        layout: &Layout,
        about: &About,
    ) -> Result<Self, Error> {
        let expected = header(codec, layout, about);
        let Some(found) = bytes.get(..expected.len()) else {
            return Err(Error::Truncated { bytes: bytes.len(), place: "its header" });
        };
        if found != expected {
            return Err(Error::Other {
                field: "header",
                found: Hash::of(Domain::Update, found).to_string(),
                expected: Hash::of(Domain::Update, &expected).to_string(),
            });
        }
        let mut blocks = Vec::with_capacity(layout.blocks().len());
        let mut next = expected.len();
        for (i, block) in layout.blocks().iter().enumerate() {
            let truncated = Error::Truncated { bytes: bytes.len(), place: "a block's length" };
            let length = bytes.get(next..next + 4).and_then(|b| b.try_into().ok());
            let length = u32::from_le_bytes(length.ok_or(truncated)?) as usize;
            let range = next + 4..next + 4 + length;
            let what = match () {
                _ if length > codec.max_bytes(block.len()) => {
                    Some(Error::NotCanonical { what: "a block longer than it can be" })
                }
                _ if range.end > bytes.len() => {
                    Some(Error::Truncated { bytes: bytes.len(), place: "a block" })
                }
                _ => None,
            };
            if let Some(source) = what {
                return Err(Error::Block { block: i, source: Box::new(source) });
            }
            next = range.end;
            blocks.push((range, block.len()));
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

/// The header: format and version, codec, layout, job, round, fragment.
fn header(codec: &dyn Codec, layout: &Layout, about: &About) -> Vec<u8> {
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

/// `NSU` and the version.
const FORMAT: [u8; 4] = *b"NSU1";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::BLOCK;
    use crate::codec::Config;
    use crate::codec::Kind;

    #[test]
    fn an_update_comes_back_and_leaves_its_residual() {
        let layout = Layout::new([("a", 5), ("b", BLOCK + 3), ("c", 0)]);
        let about = About { job: Hash([7; 32]), round: 3, fragment: 1 };
        let config = Config { kind: Kind::F32, ..Config::default() };
        let codec = config.codec().expect("a codec");
        let values: Vec<f32> = (0..layout.elements()).map(|i| (i as f32 - 9.5) / 3.0).collect();
        let mut residual = values.clone();
        let bytes = encode(codec.as_ref(), &layout, &about, &mut residual).expect("finite");
        let update = Update::parse(&bytes, codec.as_ref(), &layout, &about).expect("an update");
        let (mut codes, mut decoded) = (Codes::default(), vec![f32::NAN; values.len()]);
        for (i, block) in layout.blocks().iter().enumerate() {
            update.block(i, &mut codes).expect("a block");
            codes.write_to(&mut decoded[block.clone()]);
        }
        for ((v, d), r) in values.iter().zip(&decoded).zip(&residual) {
            assert_eq!(v - d, *r);
            assert!(r.abs() <= 0.01, "{v} {d}");
        }
        let other = About { round: 4, ..about };
        assert!(Update::parse(&bytes, codec.as_ref(), &layout, &other).is_err());
        for cut in [0, 3, 50, bytes.len() - 1] {
            assert!(Update::parse(&bytes[..cut], codec.as_ref(), &layout, &about).is_err());
        }
    }
}
