//! A tokenizer in Hugging Face's files.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use crate::data::DataError;
use crate::data::Dataset;

/// The text of a `tokenizer.json` for the synthetic language `language`, of `vocab` words: a word
/// is a token, a full stop too, and the word after one is written with a capital letter.
pub fn synthetic_tokenizer(language: &Dataset, vocab: usize) -> Result<String, DataError> {
    let mut words = BTreeMap::new();
    for token in 0..vocab as u32 {
        words.insert(language.decode(&[token])?, token);
    }
    let full_stop = json!({ "String": "." });
    let value = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": { "type": "Lowercase" },
        "pre_tokenizer": { "type": "Sequence", "pretokenizers": [
            { "type": "WhitespaceSplit" },
            { "type": "Split", "pattern": full_stop, "behavior": "Isolated", "invert": false },
        ] },
        "post_processor": null,
        "decoder": decoder(),
        // The language has no token for what is not its word: such a text is an error.
        "model": { "type": "WordLevel", "vocab": words, "unk_token": UNKNOWN },
    });
    Ok(format!("{value:#}\n"))
}

/// Words with a space before them, none before a full stop, and a capital letter after it.
fn decoder() -> Value {
    let spaces = json!({ "type": "WordPiece", "prefix": NO_PREFIX, "cleanup": true });
    let mut steps = vec![spaces, json!({ "type": "Fuse" })];
    for small in 'a'..='z' {
        let pattern = json!({ "String": format!(". {small}") });
        let content = format!(". {}", small.to_ascii_uppercase());
        steps.push(json!({ "type": "Replace", "pattern": pattern, "content": content }));
    }
    json!({ "type": "Sequence", "decoders": steps })
}

/// The text of `tokenizer_config.json`. `end` is the token that stands between documents, as text.
/// `positions` is the length in tokens of the sequences that the model knows.
pub(super) fn tokenizer_config(end: Option<&str>, positions: usize) -> String {
    let mut config = json!({
        // By its file alone, not as the tokenizer that other Llamas have.
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": positions,
        "clean_up_tokenization_spaces": false,
        "add_bos_token": false,
        "add_eos_token": false,
    });
    if let Some(end) = end {
        for key in ["bos_token", "eos_token"] {
            config[key] = end.into();
        }
    }
    format!("{config:#}\n")
}

/// The text of `generation_config.json`.
pub(super) fn generation_config(end: Option<u32>) -> String {
    let mut config = json!({ "_from_model_config": true });
    if let Some(end) = end {
        for key in ["bos_token_id", "eos_token_id"] {
            config[key] = end.into();
        }
    }
    format!("{config:#}\n")
}

/// Name of the tokenizer's file.
pub const TOKENIZER: &str = "tokenizer.json";
/// Stands for no token, so the tokenizer refuses a word that it does not know.
const UNKNOWN: &str = "<unk>";
/// No word begins so: every word is a word of its own.
const NO_PREFIX: &str = "##";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Config;

    /// The `tokenizers` library, which transformers uses too, does with the file what the language
    /// does.
    #[test]
    fn the_library_reads_and_writes_the_synthetic_language() {
        let vocab = 300;
        let language = Dataset::open(&Config::default(), vocab).unwrap();
        let json = synthetic_tokenizer(&language, vocab).unwrap();
        let tokenizer = tokenizers::Tokenizer::from_bytes(json.as_bytes()).unwrap();
        let sequence = language.train_sequence(3, 200).unwrap();
        let odd = vec![0, 5, 0, 0, 6, 7, 0, 299, 0];
        for tokens in [sequence, odd, vec![0], vec![9, 8], vec![]] {
            let text = language.decode(&tokens).unwrap();
            assert_eq!(tokenizer.decode(&tokens, false).unwrap(), text);
            assert_eq!(tokenizer.encode(text.as_str(), false).unwrap().get_ids(), tokens, "{text}");
        }
        assert!(tokenizer.encode("hello", false).is_err());
    }
}
