//! The `[codec]` table.

use serde::Deserialize;
use serde::Serialize;

use super::Codec;
use super::Error;
use super::dense::F32;

/// How updates are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which codec. Default `f32`.
    pub kind: Kind,
}

/// A codec's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// All values, 24 bits below the largest of their chunk.
    #[default]
    F32,
}

impl Config {
    /// The codec, or what cannot be about the table.
    pub fn codec(&self) -> Result<Box<dyn Codec>, Error> {
        match self.kind {
            Kind::F32 => Ok(Box::new(F32)),
        }
    }
}
