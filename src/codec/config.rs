//! The `[codec]` table.

use serde::Deserialize;
use serde::Serialize;

use super::CHUNK;
use super::Codec;
use super::Error;
use super::dense::F32;
use super::top_k::TopK;

/// How updates are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which codec. Default `top_k`.
    pub kind: Kind,
    /// Elements that `top_k` sends of every 4,096: `1..=4096`. Default 64.
    pub k: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { kind: Kind::default(), k: 64 }
    }
}

/// A codec's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// All values, 24 bits below the largest of their chunk.
    F32,
    /// The largest of every 4,096, with two bits each.
    #[default]
    TopK,
}

impl Config {
    /// The codec, or what cannot be about the table.
    pub fn codec(&self) -> Result<Box<dyn Codec>, Error> {
        match self.kind {
            Kind::F32 => Ok(Box::new(F32)),
            Kind::TopK if (1..=CHUNK).contains(&self.k) => Ok(Box::new(TopK::new(self.k as u16))),
            Kind::TopK => {
                let why = format!("{} of {CHUNK}; it must be 1 to {CHUNK}", self.k);
                Err(Error::Config { field: "k", why })
            }
        }
    }
}
