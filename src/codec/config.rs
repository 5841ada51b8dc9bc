//! The `[codec]` table.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use super::CHUNK;
use super::Codec;
use super::Error;
use super::dense::Dense;
use super::e3m0::E3m0;
use super::int8::Int8;
use super::sign::Sign;
use super::top_k::TopK;

/// `[codec]`: how updates are written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which codec.
    pub kind: Kind,
    /// Elements that `top_k` sends of every 4,096; 1 to 4096.
    pub k: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { kind: Kind::default(), k: 64 }
    }
}

/// A codec's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// All values, 24 bits below the largest of their chunk: 32 bits an element.
    F32,
    /// All values with 8 significant bits: 16 bits an element.
    Bf16,
    /// All values as integers of 8 bits.
    Int8,
    /// All values as a sign and one of seven powers of two, or zero: 4 bits.
    E3m0,
    /// All values as a sign: 1 bit.
    Sign,
    /// The largest of every 4,096, with two bits each: less than 0.15 bits an element at `k` 64.
    #[default]
    TopK,
}

impl Kind {
    /// Its number in the header of an update.
    pub(super) fn number(self) -> u8 {
        match self {
            Self::F32 => 0,
            Self::Bf16 => 1,
            Self::Int8 => 2,
            Self::E3m0 => 3,
            Self::Sign => 4,
            Self::TopK => 5,
        }
    }
}

impl Config {
    /// The codec, or what cannot be about the table.
    pub fn codec(&self) -> Result<Box<dyn Codec>, Error> {
        if !(1..=CHUNK).contains(&self.k) {
            let why = format!("{} of every {CHUNK} elements; it must be 1 to {CHUNK}", self.k);
            return Err(Error::Config { field: "k", why });
        }
        Ok(match self.kind {
            Kind::F32 => Box::new(Dense::<4>),
            Kind::Bf16 => Box::new(Dense::<2>),
            Kind::Int8 => Box::new(Int8),
            Kind::E3m0 => Box::new(E3m0),
            Kind::Sign => Box::new(Sign),
            Kind::TopK => Box::new(TopK::new(self.k as u16)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_gives_its_codec_or_says_what_is_wrong() {
        let codec = |text: &str| toml::from_str::<Config>(text).expect("a table").codec();
        for (kind, number) in
            [("f32", 0), ("bf16", 1), ("int8", 2), ("e3m0", 3), ("sign", 4), ("top_k", 5)]
        {
            let codec = codec(&format!("kind = \"{kind}\"")).expect("a codec");
            assert_eq!(codec.spec()[0], number);
            assert!(codec.spec().len() <= 32);
        }
        assert_eq!(codec("").expect("the default").spec(), [5, 64, 0]);
        assert_eq!(codec("k = 4096").expect("all").spec(), [5, 0, 16]);
        for k in [0, 4097] {
            let error = codec(&format!("k = {k}")).expect_err("beyond the bounds").to_string();
            assert!(error.starts_with("codec.k: ") && error.contains("1 to 4096"), "{error}");
        }
        assert!(toml::from_str::<Config>("kind = \"top-k\"").is_err());
        assert!(toml::from_str::<Config>("kinds = \"f32\"").is_err());
    }
}
