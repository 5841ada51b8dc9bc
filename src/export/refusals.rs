//! What a `config.json` may say that NeuroLLM cannot be: each refused by its name and value.

use serde_json::Map;
use serde_json::Value;

use super::config::{ARCHITECTURE, MODEL_TYPE};

/// Whether the model that `config` tells of can be one of this program; else what cannot, and what
/// to do about it.
pub(super) fn check(config: &Map<String, Value>) -> Result<(), (String, String)> {
    let architecture = "only models of class LlamaForCausalLM (model_type llama) can be imported";
    let of_type = config.get("model_type").and_then(Value::as_str) == Some(MODEL_TYPE);
    let class = |v: &Value| v.as_array().is_some_and(|all| all[..] == [ARCHITECTURE]);
    if let Some(value) = said(config, "architectures").filter(|v| !class(v)) {
        return Err((format!("architectures: {}", shown(value)), architecture.into()));
    }
    if !of_type {
        let value = config.get("model_type").map_or("not there".to_owned(), shown);
        return Err((format!("model_type: {value}"), architecture.into()));
    }
    for &(key, is_expressible, remedy) in RULES {
        if let Some(value) = said(config, key).filter(|v| !is_expressible(v)) {
            return Err((format!("{key}: {}", shown(value)), remedy.into()));
        }
    }
    let remedy = || "this program has plain rotary positions only (rope_type default)".to_owned();
    for key in ["rope_scaling", "rope_parameters"] {
        let Some(value) = said(config, key) else { continue };
        let plain = value.as_object().is_some_and(|o| o.iter().all(is_plain_rope));
        if !plain {
            return Err((format!("{key}: {}", shown(value)), remedy()));
        }
    }
    let bases: Vec<f64> = bases(config).collect();
    if bases.windows(2).any(|pair| pair[0] != pair[1]) {
        let what = format!("rope_theta: {bases:?} in several places");
        return Err((what, "keep the one that the model was trained with".into()));
    }
    Ok(())
}

/// The base of the rotary angles, wherever it stands.
pub(super) fn rope_base(config: &Map<String, Value>) -> Option<f64> {
    bases(config).next()
}

/// A value as JSON, cut if it is long.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A field that says something.
fn said<'a>(config: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    config.get(key).filter(|v| !v.is_null())
}

/// Every `rope_theta` of the configuration, NaN for one that is no number.
fn bases(config: &Map<String, Value>) -> impl Iterator<Item = f64> {
    let places = [Some(config), object(config, "rope_parameters"), object(config, "rope_scaling")];
    let base = |place: &Map<String, Value>| {
        said(place, "rope_theta").map(|v| v.as_f64().unwrap_or(f64::NAN))
    };
    places.into_iter().flatten().filter_map(base)
}

fn object<'a>(config: &'a Map<String, Value>, key: &str) -> Option<&'a Map<String, Value>> {
    config.get(key).and_then(Value::as_object)
}

/// Whether an entry of the table of rotary settings leaves the angles as they are.
fn is_plain_rope((key, value): (&String, &Value)) -> bool {
    match key.as_str() {
        "rope_type" | "type" => value == "default" || value.is_null(),
        "rope_theta" => value.is_number(),
        "partial_rotary_factor" => value.as_f64() == Some(1.0),
        _ => value.is_null(),
    }
}

/// A field, which of its values can be expressed (null and absence can), and what to do otherwise.
type Rule = (&'static str, fn(&Value) -> bool, &'static str);

const RULES: &[Rule] = &[
    ("auto_map", |_| false, "it names Python code, and nothing in a folder is executed"),
    ("quantization_config", |_| false, "save the model without quantization first"),
    ("hidden_act", |v| v == "silu" || v == "swish", "this program has SwiGLU (silu) only"),
    ("attention_bias", is_false, "this program has no biases"),
    ("mlp_bias", is_false, "this program has no biases"),
    ("sliding_window", |_| false, "this program attends to all earlier tokens"),
    ("use_sliding_window", is_false, "this program attends to all earlier tokens"),
    ("pretraining_tp", is_one, "only 1 can be imported: products are not split"),
    ("partial_rotary_factor", is_one, "this program turns whole heads"),
    ("attention_dropout", is_zero, "this program has no dropout; write 0.0 if it may go"),
    ("rope_theta", Value::is_number, "write the base of the rotary angles as a number"),
];

fn is_false(value: &Value) -> bool {
    value == &Value::Bool(false)
}

fn is_one(value: &Value) -> bool {
    value.as_f64() == Some(1.0)
}

fn is_zero(value: &Value) -> bool {
    value.as_f64() == Some(0.0)
}

/// Characters of a value in an error.
const MAX_SHOWN: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn checked(extra: Value) -> Result<(), (String, String)> {
        let mut config = json!({ "model_type": "llama", "architectures": ["LlamaForCausalLM"] });
        let fields = config.as_object_mut().unwrap();
        fields.extend(extra.as_object().unwrap().clone());
        check(fields)
    }

    #[test]
    fn what_cannot_be_expressed_is_refused_by_name_and_value() {
        for (extra, words) in [
            (json!({"model_type": "mistral"}), "model_type: \"mistral\""),
            (json!({"model_type": null}), "model_type: null"),
            (json!({"architectures": ["LlamaModel"]}), "architectures: [\"LlamaModel\"]"),
            (json!({"architectures": []}), "architectures: []"),
            (json!({"hidden_act": "gelu"}), "hidden_act: \"gelu\""),
            (json!({"attention_bias": true}), "attention_bias: true"),
            (json!({"mlp_bias": true}), "mlp_bias: true"),
            (json!({"sliding_window": 4096}), "sliding_window: 4096"),
            (json!({"pretraining_tp": 2}), "pretraining_tp: 2"),
            (json!({"partial_rotary_factor": 0.5}), "partial_rotary_factor: 0.5"),
            (json!({"attention_dropout": 0.1}), "attention_dropout: 0.1"),
            (json!({"auto_map": {"AutoModel": "x.Y"}}), "auto_map: {"),
            (json!({"quantization_config": {"bits": 4}}), "quantization_config: {\"bits\":4}"),
            (json!({"rope_scaling": {"type": "linear", "factor": 2.0}}), "rope_scaling: {"),
            (json!({"rope_parameters": {"rope_type": "llama3"}}), "rope_parameters: {"),
            (json!({"rope_parameters": {"partial_rotary_factor": 0.5}}), "rope_parameters: {"),
            (json!({"rope_parameters": 3}), "rope_parameters: 3"),
            (json!({"rope_theta": "big"}), "rope_theta: \"big\""),
            (json!({"rope_theta": 1e4, "rope_parameters": {"rope_theta": 5e5}}), "rope_theta: ["),
        ] {
            let (what, remedy) = checked(extra.clone()).unwrap_err();
            assert!(what.starts_with(words) && !remedy.is_empty(), "{extra}: {what}");
        }
    }

    #[test]
    fn what_says_nothing_passes() {
        let extra = json!({
            "attention_bias": false, "mlp_bias": null, "sliding_window": null, "hidden_act": "silu",
            "rope_scaling": {"rope_type": "default"}, "pretraining_tp": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5, "factor": null},
            "attention_dropout": 0.0, "transformers_version": "9", "rope_theta": 500000,
        });
        checked(extra.clone()).unwrap();
        assert_eq!(rope_base(extra.as_object().unwrap()), Some(5e5));
        let long = shown(&json!("x".repeat(1000)));
        assert_eq!(long.len(), MAX_SHOWN + 3);
    }
}
