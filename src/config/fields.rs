//! The field names of a struct, asked of its own `Deserialize`.

use serde::Deserialize;
use serde::de::value::Error;
use serde::de::{self, Visitor};

/// The fields that `T` accepts; none if it is no struct.
pub fn fields_of<T: for<'de> Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &'static [&'static str] = &[];
    // It ends in an error by design: the names are what it leaves behind.
    let _ = T::deserialize(Asker { names: &mut names });
    names
}

/// A deserializer that notes what a struct asks for, and has nothing to give.
struct Asker<'a> {
    names: &'a mut &'static [&'static str],
}

impl<'de> de::Deserializer<'de> for Asker<'_> {
    type Error = Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Error> {
        *self.names = fields;
        Err(de::Error::custom("only asking"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Error> {
        Err(de::Error::custom("only asking"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields, default)]
    #[allow(dead_code, reason = "only its names matter")]
    #[derive(Default)]
    struct Sample {
        one: u32,
        #[serde(rename = "zwei")]
        two: Option<f32>,
    }

    #[test]
    fn names_are_those_of_the_file() {
        assert_eq!(fields_of::<Sample>(), ["one", "zwei"]);
        assert!(fields_of::<u32>().is_empty());
    }
}
