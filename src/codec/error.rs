//! What can be wrong with the bytes of an update.

use std::io;

use thiserror::Error;

use super::MAX_EXPONENT;
use super::MIN_EXPONENT;
use crate::crypto::Hash;

/// Why bytes are not an update that counts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// They end too early.
    #[error("the update ends after {bytes} bytes, in {place}")]
    Truncated {
        /// How many there are.
        bytes: usize,
        /// What was being read.
        place: &'static str,
    },
    /// They go on after the end.
    #[error("{bytes} bytes follow the end of {place}")]
    Excess {
        /// How many.
        bytes: usize,
        /// What had ended.
        place: &'static str,
    },
    /// Not the format, or a version of it that this program does not read.
    #[error("the update is of format {found:?}; this program reads {expected:?}")]
    Format {
        /// What the bytes begin with.
        found: [u8; 4],
        /// What they must begin with.
        expected: [u8; 4],
    },
    /// An update of something else.
    #[error("the update is for {field} {found}, not {expected}")]
    Other {
        /// Which field of the header.
        field: &'static str,
        /// What it says.
        found: String,
        /// What it must say.
        expected: String,
    },
    /// A model of other tensors.
    #[error("the update is of other tensors ({found}, not {expected})")]
    OtherLayout {
        /// Hash of its layout.
        found: Hash,
        /// Hash of ours.
        expected: Hash,
    },
    /// Values that could have been written otherwise, or that no encoder writes.
    #[error("the update is not in its canonical form: {what}")]
    NotCanonical {
        /// What is wrong.
        what: &'static str,
    },
    /// A block with something wrong in it.
    #[error("block {block} of the update")]
    Block {
        /// Its number.
        block: usize,
        /// What is wrong.
        #[source]
        source: Box<Error>,
    },
    /// A value to encode that is infinite or not a number.
    #[error("the update has a value that is not finite, at element {element}")]
    NonFinite {
        /// Where in the flat vector.
        element: usize,
    },
    /// Parameters that no codec has.
    #[error("codec.{field}: {why}")]
    Config {
        /// Which field.
        field: &'static str,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The bytes cannot be read or written.
    #[error("the update cannot be {done}: {why}")]
    Io {
        /// "read" or "written".
        done: &'static str,
        /// Kind of the failure.
        kind: io::ErrorKind,
        /// What the system says.
        why: String,
    },
}

/// Whether a block of a codec whose blocks have one length has it.
pub(super) fn expect_length(bytes: &[u8], expected: usize) -> Result<(), Error> {
    match bytes.len().checked_sub(expected) {
        Some(0) => Ok(()),
        Some(bytes) => Err(Error::Excess { bytes, place: "a block" }),
        None => Err(Error::Truncated { bytes: bytes.len(), place: "a block" }),
    }
}

/// The exponent of a chunk, from the byte that says it.
pub(super) fn read_exponent(byte: u8) -> Result<i32, Error> {
    let exponent = i32::from(byte as i8);
    match (MIN_EXPONENT..=MAX_EXPONENT).contains(&exponent) {
        true => Ok(exponent),
        false => Err(Error::NotCanonical { what: "an exponent beyond its bound" }),
    }
}
