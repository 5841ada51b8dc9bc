//! `config.json`: a model's extents under Hugging Face's names, both ways.

use std::path::Path;

use serde_json::Map;
use serde_json::Value;
use serde_json::json;

use super::Error;
use super::refusals;
use super::write::Float;
use crate::model::Dims;

/// What a folder says of its model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Model {
    /// The extents.
    pub dims: Dims,
    /// Tokens of the longest sequences that it was trained on (`max_position_embeddings`).
    pub positions: usize,
    /// The token that ends a document (`eos_token_id`), where there is one.
    pub end: Option<u32>,
}

impl Model {
    /// The text of `config.json` for weights that are written as `float`.
    pub(super) fn to_json(self, float: Float) -> String {
        let dims = &self.dims;
        let config = json!({
            "architectures": [ARCHITECTURE],
            "model_type": MODEL_TYPE,
            "hidden_size": dims.width,
            "num_hidden_layers": dims.layers,
            "num_attention_heads": dims.heads,
            "num_key_value_heads": dims.kv_heads,
            "head_dim": dims.head_dim,
            "intermediate_size": dims.ffn,
            "vocab_size": dims.vocab,
            "tie_word_embeddings": dims.tied,
            "rms_norm_eps": shortest(dims.norm_eps),
            // Releases differ in where the base belongs; each ignores the other's place.
            "rope_theta": dims.rope_base,
            "rope_parameters": { "rope_type": "default", "rope_theta": dims.rope_base },
            "max_position_embeddings": self.positions,
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "attention_dropout": 0.0,
            "pretraining_tp": 1,
            "initializer_range": 0.02,
            "use_cache": true,
            // The same of the type's name.
            "dtype": float.name(),
            "torch_dtype": float.name(),
            // A document begins after the token that ends the one before.
            "bos_token_id": self.end,
            "eos_token_id": self.end,
        });
        format!("{config:#}\n")
    }

    /// The model that the text of the `config.json` at `path` tells of. Refuses by name whatever
    /// this program has not.
    pub(super) fn from_json(path: &Path, text: &[u8]) -> Result<Self, Error> {
        let parsed = serde_json::from_slice(text);
        let value: Map<String, Value> = parsed.map_err(|e| {
            let what = format!("not an object of JSON: {e}");
            Error::refused(path, what, "restore the file")
        })?;
        refusals::check(&value).map_err(|(what, remedy)| Error::refused(path, what, remedy))?;
        let fields = Fields { path, value: &value };
        let (width, heads) = (fields.extent("hidden_size")?, fields.extent("num_attention_heads")?);
        let head_dim = match fields.extent_if_there("head_dim")? {
            Some(head_dim) => head_dim,
            None if heads > 0 && width.is_multiple_of(heads) => width / heads,
            None => {
                let what =
                    format!("num_attention_heads: {heads} do not divide hidden_size {width}");
                return Err(Error::refused(path, what, "add the head_dim that the model has"));
            }
        };
        let dims = Dims {
            width,
            layers: fields.extent("num_hidden_layers")?,
            heads,
            kv_heads: fields.extent_if_there("num_key_value_heads")?.unwrap_or(heads),
            head_dim,
            ffn: fields.extent("intermediate_size")?,
            vocab: fields.extent("vocab_size")?,
            tied: fields.truth("tie_word_embeddings")?.unwrap_or(false),
            norm_eps: fields.number("rms_norm_eps")?.unwrap_or(DEFAULT_EPS) as f32,
            rope_base: refusals::rope_base(&value).unwrap_or(DEFAULT_BASE),
        };
        if let Some(complaint) = dims.complaints().first() {
            return Err(Error::refused(path, in_their_words(complaint), NO_SUCH_MODEL));
        }
        let positions = fields.extent_if_there("max_position_embeddings")?;
        let end = value.get("eos_token_id").and_then(Value::as_u64);
        Ok(Self {
            dims,
            positions: positions.unwrap_or(DEFAULT_POSITIONS),
            end: end.and_then(|token| u32::try_from(token).ok()),
        })
    }
}

/// The fields of a `config.json`.
struct Fields<'a> {
    path: &'a Path,
    value: &'a Map<String, Value>,
}

impl Fields<'_> {
    /// A whole number that must be there.
    fn extent(&self, key: &str) -> Result<usize, Error> {
        self.extent_if_there(key)?.ok_or_else(|| {
            Error::refused(self.path, format!("{key} is missing"), "add the model's")
        })
    }

    fn extent_if_there(&self, key: &str) -> Result<Option<usize>, Error> {
        let read = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
        self.read(key, "a whole number", read)
    }

    fn number(&self, key: &str) -> Result<Option<f64>, Error> {
        self.read(key, "a number", Value::as_f64)
    }

    fn truth(&self, key: &str) -> Result<Option<bool>, Error> {
        self.read(key, "true or false", Value::as_bool)
    }

    /// A field as `read` takes it; none where it is absent or null.
    fn read<T>(
        &self,
        key: &str,
        kind: &str,
        read: impl FnOnce(&Value) -> Option<T>,
    ) -> Result<Option<T>, Error> {
        match self.value.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| {
                let what = format!("{key}: {} is not {kind}", refusals::shown(value));
                Error::refused(self.path, what, "write the model's own")
            }),
        }
    }
}

/// The number of fewest decimals that gives `value` back.
pub fn shortest(value: f32) -> f64 {
    let short = value.to_string().parse().unwrap_or(f64::from(value));
    if short as f32 == value { short } else { f64::from(value) }
}

/// A complaint about extents with the names of `config.json`.
fn in_their_words(complaint: &str) -> String {
    let names = [
        ("model.width", "hidden_size"),
        ("model.layers", "num_hidden_layers"),
        ("model.kv_heads", "num_key_value_heads"),
        ("model.heads", "num_attention_heads"),
        ("model.head_dim", "head_dim"),
        ("model.ffn", "intermediate_size"),
        ("model.vocab", "vocab_size"),
        ("model.norm_eps", "rms_norm_eps"),
        ("model.rope_base", "rope_theta"),
    ];
    names.iter().fold(complaint.to_owned(), |text, (ours, theirs)| text.replace(ours, theirs))
}

/// Name of the file.
pub(super) const CONFIG: &str = "config.json";
/// The class of transformers that has the shape of NeuroLLM.
pub(super) const ARCHITECTURE: &str = "LlamaForCausalLM";
/// Its configuration's name.
pub(super) const MODEL_TYPE: &str = "llama";
/// What transformers takes where a configuration does not say.
const DEFAULT_EPS: f64 = 1e-6;
const DEFAULT_BASE: f64 = 10_000.0;
const DEFAULT_POSITIONS: usize = 2048;
const NO_SUCH_MODEL: &str = "this program has no such model";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tensors::tests::DIMS;

    fn read(text: &str) -> Result<Model, String> {
        Model::from_json(Path::new("m/config.json"), text.as_bytes()).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_written_is_read() {
        for (tied, norm_eps, rope_base, end) in [
            (false, 1e-5, 1e4, None),
            (true, 1e-6, 5e5, Some(0)),
            (false, 0.1 + 0.2, 12.5, Some(7)),
        ] {
            let dims = Dims { tied, norm_eps, rope_base, ..DIMS };
            let model = Model { dims, positions: 77, end };
            for float in [Float::F32, Float::Bf16] {
                let text = model.to_json(float);
                assert_eq!(read(&text).unwrap(), model, "{text}");
                // The text itself is short: not 0.000009999999747378752.
                assert!(norm_eps != 1e-5 || text.contains("\"rms_norm_eps\": 0.00001,"), "{text}");
            }
        }
    }

    /// The bytes are part of what others read.
    #[test]
    fn golden_config() {
        let model = Model { dims: DIMS, positions: 64, end: Some(0) };
        let golden = include_str!("../../tests/golden/hf-config.json");
        assert_eq!(model.to_json(Float::Bf16), golden);
    }

    #[test]
    fn defaults_are_those_of_transformers() {
        let text = r#"{"model_type": "llama", "hidden_size": 12, "num_attention_heads": 3,
            "num_hidden_layers": 1, "intermediate_size": 8, "vocab_size": 5, "rope_theta": null}"#;
        let Model { dims, positions, end } = read(text).unwrap();
        assert_eq!((dims.head_dim, dims.kv_heads, dims.tied), (4, 3, false));
        assert_eq!((dims.norm_eps, dims.rope_base, positions, end), (1e-6, 1e4, 2048, None));
    }

    #[test]
    fn bad_extents_are_told_in_the_folders_words() {
        let good = Model { dims: DIMS, positions: 64, end: None }.to_json(Float::F32);
        for (from, to, words) in [
            ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 4", "num_key_value_heads: 4"),
            ("\"head_dim\": 4", "\"head_dim\": 3", "head_dim: 3 is odd"),
            ("\"hidden_size\": 20", "\"hidden_size\": 99999999", "hidden_size: 99999999 is not"),
            ("\"hidden_size\": 20", "\"hidden_size\": -1", "hidden_size: -1 is not a whole number"),
            ("\"hidden_size\": 20,", "", "hidden_size is missing"),
            ("\"head_dim\": 4,", "", "num_attention_heads: 6 do not divide hidden_size 20"),
            ("\"vocab_size\": 37", "\"vocab_size\": \"37\"", "vocab_size: \"37\" is not a whole"),
            (
                "\"rms_norm_eps\": 0.00001",
                "\"rms_norm_eps\": 0",
                "rms_norm_eps: 0 is not a positive",
            ),
            ("{", "", "not an object of JSON"),
        ] {
            let text = good.replacen(from, to, 1);
            let error = read(&text).unwrap_err();
            assert!(error.contains(words) && error.contains("m/config.json"), "{error}");
        }
    }
}
