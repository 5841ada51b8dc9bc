//! Bytes to tokens and back: byte-level BPE by the `tokenizers` crate, in its file format.
//!
//! Byte-level means that every text has tokens and that decoding gives the same bytes back;
//! a loaded tokenizer is probed for that. The text of a special token in a document is plain text.

use std::path::Path;

use rayon::prelude::*;
use serde_json::Value;
use tokenizers::AddedToken;
use tokenizers::DecoderWrapper;
use tokenizers::ModelWrapper;
use tokenizers::NormalizerWrapper;
use tokenizers::PaddingParams;
use tokenizers::PostProcessorWrapper;
use tokenizers::PreTokenizerWrapper;
use tokenizers::TokenizerImpl;
use tokenizers::models::bpe::BPE;
use tokenizers::models::bpe::BpeTrainer;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use super::DataError;
use super::shard::read_bounded;
use super::text::Pieces;
use crate::crypto::Domain;
use crate::crypto::Hash;

/// The token between documents.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// A tokenizer and the bytes of its file.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    json: Vec<u8>,
    hash: Hash,
    vocab_size: usize,
    end_of_text: u32,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    pub fn load(path: &Path) -> Result<Self, DataError> {
        Self::from_json(path, read_bounded(path, MAX_FILE_BYTES)?)
    }

    /// From the bytes of a `tokenizer.json`; `path` is for errors.
    pub fn from_json(path: &Path, json: Vec<u8>) -> Result<Self, DataError> {
        let fail = |reason: String| DataError::Tokenizer { path: path.to_path_buf(), reason };
        check_json(&json).map_err(fail)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&json)
            .map_err(|e| fail(format!("not a tokenizer.json: {e}")))?;
        match inner.get_model() {
            ModelWrapper::BPE(bpe) if bpe.dropout.is_none_or(|p| p == 0.0) => {}
            ModelWrapper::BPE(_) => {
                return Err(fail("has dropout, so texts have no fixed tokens; set it null".into()));
            }
            _ => return Err(fail("not a BPE tokenizer; give one, or train one".into())),
        }
        inner.with_truncation(None).map_err(|e| fail(e.to_string()))?;
        inner.with_padding(None::<PaddingParams>);
        inner.with_post_processor(None::<PostProcessorWrapper>);
        inner.set_encode_special_tokens(true);
        let end_of_text = SEPARATORS.iter().find_map(|name| inner.token_to_id(name));
        let Some(end_of_text) = end_of_text else {
            return Err(fail(format!("has none of the tokens {SEPARATORS:?} to end documents")));
        };
        let largest = inner.get_vocab(true).into_values().max().unwrap_or(0);
        if largest >= MAX_VOCAB as u32 {
            return Err(fail(format!("token {largest}: at most {MAX_VOCAB} are supported")));
        }
        let hash = Hash::of(Domain::Tokenizer, &json);
        let tokenizer = Self { inner, json, hash, vocab_size: largest as usize + 1, end_of_text };
        match tokenizer.encode(PROBE).and_then(|tokens| tokenizer.decode(&tokens)) {
            Ok(back) if back == PROBE => Ok(tokenizer),
            _ => Err(fail("does not give every text back; a byte-level BPE is needed".into())),
        }
    }

    /// Trains a byte-level BPE of at most `vocab_size` tokens on `pieces` of text: fewer where the
    /// text has fewer pairs that occur twice. Token 0 is [`END_OF_TEXT`], 1 to 256 are the bytes.
    /// The same pieces give the same file, whatever the number of threads. `path` is for errors.
    pub(super) fn train(
        path: &Path,
        vocab_size: usize,
        pieces: impl Iterator<Item = String> + Send,
    ) -> Result<Self, DataError> {
        let fail = |e: tokenizers::Error| DataError::Tokenizer {
            path: path.to_path_buf(),
            reason: e.to_string(),
        };
        let byte_level = ByteLevel::new(false, false, true);
        let mut inner = ByteLevelBpe::new(BPE::default());
        inner.with_pre_tokenizer(Some(byte_level)).with_decoder(Some(byte_level));
        let mut trainer = BpeTrainer::builder()
            .show_progress(false)
            .vocab_size(vocab_size)
            .min_frequency(2)
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
            .build();
        inner.train(&mut trainer, pieces).map_err(fail)?;
        let json = inner.to_string(true).map_err(fail)?;
        Self::from_json(path, json.into_bytes())
    }

    /// The bytes of the tokenizer's file.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The hash of the file.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// One more than the largest token.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The token that ends a document.
    pub fn end_of_text(&self) -> u32 {
        self.end_of_text
    }

    /// The tokens of a text, in pieces on all threads.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, DataError> {
        let mut pieces = Pieces::of_str(Path::new("the text"), text);
        let mut all = Vec::new();
        while let Some(piece) = pieces.next_piece()? {
            all.push(piece);
        }
        let encoded: Result<Vec<_>, _> =
            all.par_iter().map(|piece| self.encode_piece(piece)).collect();
        Ok(encoded?.concat())
    }

    /// The tokens of a piece, on this thread.
    pub(super) fn encode_piece(&self, piece: &str) -> Result<Vec<u32>, DataError> {
        let encoded = self.inner.encode_fast(piece, false);
        encoded.map(|encoded| encoded.get_ids().to_vec()).map_err(|e| DataError::Tokenizer {
            path: "tokenizer.json".into(),
            reason: e.to_string(),
        })
    }

    /// Itself, if its hash is `hash`; `path` is for errors.
    pub(super) fn expect_hash(self, path: &Path, hash: Hash) -> Result<Self, DataError> {
        if self.hash == hash {
            return Ok(self);
        }
        let reason = "is not the one that was begun with; remove its folder, and begin anew";
        Err(DataError::Tokenizer { path: path.to_path_buf(), reason: reason.into() })
    }

    /// The text of `tokens`. Bytes that are no UTF-8 (a character cut in two) and tokens outside
    /// the vocabulary show as U+FFFD, or not at all.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, DataError> {
        self.inner.decode(tokens, false).map_err(|e| DataError::Tokenizer {
            path: "tokenizer.json".into(),
            reason: e.to_string(),
        })
    }
}

/// What [`Tokenizer::train`] makes; its pre-tokenizer splits words as GPT-2's does.
type ByteLevelBpe = TokenizerImpl<
    BPE,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// Names that tokenizers give to the end of a document, the first found is taken.
const SEPARATORS: &[&str] = &[END_OF_TEXT, "<|end_of_text|>", "<|eot_id|>", "</s>"];
/// White space of all kinds, several scripts, combining and four-byte characters.
const PROBE: &str =
    "A  b\tc\n\nd \u{e9}e\u{301} \u{65e5}\u{672c} \u{1f600}\u{200d} it's 12,345.\r\n ";
/// One token per byte, and the end of text.
pub(super) const MIN_VOCAB: usize = 257;
/// The most tokens a vocabulary may have.
pub(super) const MAX_VOCAB: usize = 1 << 24;
const MAX_FILE_BYTES: u64 = 256 << 20;

/// Refuses what the crate would panic at: text that is no JSON, and tables of a `Precompiled`
/// normalizer, which no byte-level tokenizer has.
fn check_json(json: &[u8]) -> Result<(), String> {
    let whole: Value =
        serde_json::from_slice(json).map_err(|e| format!("not a tokenizer.json: {e}"))?;
    let mut parts = vec![&whole["normalizer"]];
    while let Some(part) = parts.pop() {
        if part["type"] == "Precompiled" || part.get("precompiled_charsmap").is_some() {
            return Err("has a Precompiled normalizer; a byte-level BPE is needed".into());
        }
        parts.extend(part["normalizers"].as_array().into_iter().flatten());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_json(json: &[u8]) -> Result<Tokenizer, DataError> {
        Tokenizer::from_json(Path::new("t.json"), json.to_vec())
    }

    /// The crate's decoders unwrap what they parse.
    #[test]
    fn damage_is_an_error_wherever_it_is() {
        let text = ["some words, ".repeat(9)];
        let trained = Tokenizer::train(Path::new("t"), 270, text.into_iter()).unwrap();
        let json = trained.json();
        let find = |what: &[u8]| json.windows(what.len()).position(|w| w == what).unwrap();
        let decoder = find(b"\"decoder\"");
        for at in (0..600).chain(decoder..decoder + 300) {
            let mut bad = json.to_vec();
            bad[at] ^= 1;
            // It may still be a tokenizer, another one.
            if let Err(error) = from_json(&bad) {
                assert!(error.to_string().contains("t.json"), "{at}: {error}");
            }
            assert!(from_json(&json[..at]).is_err(), "{at}");
        }
    }

    #[test]
    fn tables_that_the_crate_believes_are_refused() {
        let text = ["some words, ".repeat(9)];
        let trained = Tokenizer::train(Path::new("t"), 270, text.into_iter()).unwrap();
        let mut whole: Value = serde_json::from_slice(trained.json()).unwrap();
        let table = serde_json::json!({ "type": "Precompiled", "precompiled_charsmap": "AAAA" });
        for normalizer in
            [table.clone(), serde_json::json!({ "type": "Sequence", "normalizers": [table] })]
        {
            whole["normalizer"] = normalizer;
            let error = from_json(&serde_json::to_vec(&whole).unwrap()).unwrap_err().to_string();
            assert!(error.contains("Precompiled"), "{error}");
        }
    }
}
