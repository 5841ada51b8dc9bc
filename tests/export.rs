//! Models out to Hugging Face folders and back in: every bit of every weight.

use std::path::Path;

use half::bf16;
use neuroshard::export;
use neuroshard::export::Contents;
use neuroshard::export::Error;
use neuroshard::export::Float;
use neuroshard::export::Folder;
use neuroshard::export::Model;
use neuroshard::export::Weight;
use neuroshard::export::weights;
use neuroshard::model::Dims;
use proptest::prelude::*;

/// Extents that share no factor where they may.
const UNTIED: Dims = Dims {
    width: 20,
    layers: 2,
    heads: 6,
    kv_heads: 2,
    head_dim: 4,
    ffn: 28,
    vocab: 37,
    tied: false,
    norm_eps: 1e-5,
    rope_base: 10_000.0,
};

/// Each key/value head on its own query head, heads wider than the model, a tied head.
const TIED: Dims = Dims { width: 6, heads: 5, kv_heads: 5, layers: 1, tied: true, ..UNTIED };

/// A value for element `i` of a weight: all kinds of finite floats, and no two alike nearby.
fn value(weight: &Weight, i: usize) -> f32 {
    let odd = [0.0, -0.0, f32::MIN_POSITIVE / 8.0, 1.0 + f32::EPSILON, -3.0e38, 1.0 / 3.0];
    let salt = weight.name.bytes().map(usize::from).sum::<usize>();
    match (i + salt) % 11 {
        k if k < odd.len() => odd[k],
        _ => ((i * 31 + salt) % 9973) as f32 * 1.000_123e-3 - 4.0,
    }
}

fn export(dir: &Path, dims: Dims, float: Float, max_file_bytes: u64) -> Result<usize, Error> {
    let model = Model { dims, positions: 64, end: Some(0) };
    let contents = Contents {
        model: &model,
        tokenizer: b"{}",
        end_text: Some("<|end|>"),
        float,
        max_file_bytes,
    };
    let mut fill = |weight: &Weight, values: &mut [f32]| {
        values.iter_mut().enumerate().for_each(|(i, x)| *x = value(weight, i));
        Ok(())
    };
    Ok(export::write(dir, &contents, &mut fill)?.files)
}

fn check(dims: Dims, float: Float, max_file_bytes: u64) -> usize {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("hf");
    let files = export(&dir, dims, float, max_file_bytes).unwrap();
    let folder = Folder::open(&dir).unwrap();
    assert_eq!(*folder.model(), Model { dims, positions: 64, end: Some(0) });
    assert_eq!(folder.weights(), weights(&dims));
    for weight in folder.weights() {
        let mut values = vec![f32::NAN; weight.shape.iter().product()];
        folder.read(weight, &mut values).unwrap();
        for (i, got) in values.iter().enumerate() {
            let want = match float {
                Float::F32 => value(weight, i),
                Float::Bf16 => bf16::from_f32(value(weight, i)).to_f32(),
            };
            assert_eq!(got.to_bits(), want.to_bits(), "{} {i}: {got} {want}", weight.name);
        }
    }
    assert_eq!(folder.tokenizer().unwrap().unwrap().1, b"{}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 1, "something is left behind");
    files
}

#[test]
fn weights_come_back_bit_by_bit() {
    for dims in [UNTIED, TIED] {
        for float in [Float::F32, Float::Bf16] {
            assert_eq!(check(dims, float, u64::MAX), 1);
            assert!(check(dims, float, 300) > 2);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever the extents and however small the files.
    #[test]
    fn weights_of_any_extents_come_back(
        (width, layers, groups, kv_heads) in (1usize..9, 1usize..3, 1usize..4, 1usize..4),
        (half, ffn, vocab, tied) in (1usize..4, 1usize..9, 1usize..9, any::<bool>()),
        (max_file_bytes, f32) in (1u64..2000, any::<bool>()),
    ) {
        let head_dim = 2 * half;
        let heads = groups * kv_heads;
        let dims = Dims { width, layers, heads, kv_heads, head_dim, ffn, vocab, tied, ..UNTIED };
        check(dims, if f32 { Float::F32 } else { Float::Bf16 }, max_file_bytes);
    }
}

/// Rounding to bf16 is to the nearest, and to the even one of two.
#[test]
fn bf16_rounds_to_nearest_even() {
    let cases = [0x3f80_8000u32, 0x3f81_8000, 0x3f80_8001, 0x3f80_7fff, 0xbf80_8000];
    let rounded = [0x3f80u16, 0x3f82, 0x3f81, 0x3f80, 0xbf80];
    for (bits, want) in cases.into_iter().zip(rounded) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("hf");
        let model = Model { dims: TIED, positions: 8, end: None };
        let (tokenizer, end_text) = (&b"{}"[..], None);
        let contents = Contents {
            model: &model,
            tokenizer,
            end_text,
            float: Float::Bf16,
            max_file_bytes: 1 << 30,
        };
        let mut fill = |_: &Weight, values: &mut [f32]| {
            values.fill(f32::from_bits(bits));
            Ok(())
        };
        export::write(&dir, &contents, &mut fill).unwrap();
        let bytes = std::fs::read(dir.join("model.safetensors")).unwrap();
        assert_eq!(bytes[bytes.len() - 2..], want.to_le_bytes(), "{bits:08x}");
    }
}

#[test]
fn a_failed_export_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("hf");
    let model = Model { dims: TIED, positions: 8, end: None };
    let (tokenizer, end_text) = (&b"{}"[..], None);
    let write = |fill: &mut dyn FnMut(&mut [f32]) -> Result<(), std::io::Error>, float| {
        let contents =
            Contents { model: &model, tokenizer, end_text, float, max_file_bytes: 1 << 30 };
        let mut fill = |_: &Weight, values: &mut [f32]| Ok(fill(values)?);
        export::write(&dir, &contents, &mut fill).unwrap_err().to_string()
    };
    let mut count = 0;
    let error = write(
        &mut |_| {
            count += 1;
            if count == 3 { Err(std::io::Error::other("no more")) } else { Ok(()) }
        },
        Float::F32,
    );
    assert!(error.contains("cannot get the weights"), "{error}");
    let error = write(
        &mut |values| {
            values.fill(f32::MAX);
            Ok(())
        },
        Float::Bf16,
    );
    assert!(error.contains("model.embed_tokens.weight: 340282350000"), "{error}");
    assert!(error.contains("--dtype f32"), "{error}");
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("mine"), "x").unwrap();
    let error = export(&dir, TIED, Float::F32, 1 << 30).unwrap_err();
    assert!(matches!(error, Error::Occupied { .. }), "{error}");
}

/// A good folder, changed by `change`, must be refused with all of `words`.
#[track_caller]
fn refused(max_file_bytes: u64, change: impl FnOnce(&Path), words: &[&str]) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("hf");
    export(&dir, UNTIED, Float::F32, max_file_bytes).unwrap();
    change(&dir);
    let error = Folder::open(&dir).unwrap_err().to_string();
    for word in words {
        assert!(error.contains(word), "no `{word}` in: {error}");
    }
}

/// Replaces a text in a file of the folder; both of one length keep a header's length true.
fn replace(dir: &Path, name: &str, from: &str, to: &str) {
    let bytes = std::fs::read(dir.join(name)).unwrap();
    let at = bytes.windows(from.len()).position(|w| w == from.as_bytes());
    let at = at.unwrap_or_else(|| panic!("no {from} in {name}"));
    let changed = [&bytes[..at], to.as_bytes(), &bytes[at + from.len()..]].concat();
    std::fs::write(dir.join(name), changed).unwrap();
}

const ONE: u64 = u64::MAX;
const MANY: u64 = 2000;
const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

#[test]
fn other_models_are_refused() {
    let config = |from: &'static str, to: &'static str| {
        move |dir: &Path| replace(dir, "config.json", from, to)
    };
    let wrong = "config.json";
    refused(ONE, config("\"llama\"", "\"qwen2\""), &[wrong, "model_type: \"qwen2\""]);
    refused(ONE, config("\"LlamaForCausalLM\"", "\"GPT2LMHeadModel\""), &[wrong, "architectures"]);
    refused(ONE, config("\"mlp_bias\": false", "\"mlp_bias\": true"), &[wrong, "mlp_bias: true"]);
    let layers = |n: &str| format!("\"num_hidden_layers\": {n}");
    let change =
        |n: &'static str| move |dir: &Path| replace(dir, "config.json", &layers("2"), &layers(n));
    refused(ONE, change("3"), &["tensor model.layers.2.input_layernorm.weight is missing"]);
    refused(ONE, change("1"), &["tensor model.layers.1.", "is none of the model's"]);
    refused(ONE, change("1000000"), &["num_hidden_layers: 1000000, but the files have 21 tensors"]);
    let words = ["model.embed_tokens.weight is [37, 20], should be [38, 20]", SINGLE];
    refused(ONE, config("\"vocab_size\": 37", "\"vocab_size\": 38"), &words);
    let words = ["q_proj.weight is [24, 20], should be [48, 20]"];
    refused(ONE, config("\"num_attention_heads\": 6", "\"num_attention_heads\": 12"), &words);
    // Extents whose products overflow are compared before they are multiplied.
    let huge = config("\"intermediate_size\": 28", "\"intermediate_size\": 1048576");
    refused(ONE, huge, &["mlp.gate_proj.weight is [28, 20], should be [1048576, 20]"]);
    let tied = config("\"tie_word_embeddings\": false", "\"tie_word_embeddings\": true");
    refused(ONE, tied, &["tensor lm_head.weight is none", "tie_word_embeddings is true"]);
    let cut = |dir: &Path| std::fs::remove_file(dir.join("config.json")).unwrap();
    refused(ONE, cut, &["no config.json", "save_pretrained"]);
    let long = |dir: &Path| std::fs::write(dir.join("config.json"), vec![b' '; 2 << 20]).unwrap();
    refused(ONE, long, &["more than 1048576 bytes"]);
}

#[test]
fn missing_and_foreign_tensors_are_refused() {
    // A head that is not there: the other name has as many letters.
    let head = |dir: &Path| replace(dir, SINGLE, "lm_head.weight", "lm_tail.weight");
    refused(ONE, head, &["tensor lm_head.weight is missing", "tie_word_embeddings true"]);
    let bias =
        |dir: &Path| replace(dir, SINGLE, "1.self_attn.q_proj.weight", "1.self_attn.q_proj.biases");
    refused(ONE, bias, &["tensor model.layers.1.self_attn.q_proj.weight is missing"]);
    let kind = |dir: &Path| replace(dir, SINGLE, "\"F32\"", "\"I32\"");
    refused(ONE, kind, &["lm_head.weight is of type I32", "F32, BF16 and F16"]);
}

#[test]
fn damaged_files_are_refused() {
    let cut = |dir: &Path| {
        let bytes = std::fs::read(dir.join(SINGLE)).unwrap();
        std::fs::write(dir.join(SINGLE), &bytes[..bytes.len() - 3]).unwrap();
    };
    refused(ONE, cut, &[SINGLE, "get the file again"]);
    let head = |length: u64| {
        move |dir: &Path| {
            let mut bytes = std::fs::read(dir.join(SINGLE)).unwrap();
            bytes[..8].copy_from_slice(&length.to_le_bytes());
            std::fs::write(dir.join(SINGLE), bytes).unwrap();
        }
    };
    refused(ONE, head(u64::MAX), &[SINGLE, "a header of 18446744073709551615 bytes"]);
    refused(ONE, head(1 << 40), &["a header of 1099511627776 bytes"]);
    refused(
        ONE,
        |dir: &Path| replace(dir, SINGLE, "[0,2960]", "[0,2964]"),
        &["safetensors header"],
    );
    refused(ONE, |dir: &Path| std::fs::write(dir.join(SINGLE), "abc").unwrap(), &["3 bytes"]);
}

#[test]
fn an_index_that_lies_is_refused() {
    let at = |dir: &Path, i: usize| {
        let mut names: Vec<_> =
            std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        names.retain(|p| p.extension().is_some_and(|e| e == "safetensors"));
        names.sort();
        names.swap_remove(i)
    };
    let name = |dir: &Path, i: usize| at(dir, i).file_name().unwrap().to_str().unwrap().to_owned();
    for trick in ["../x.safetensors", "/etc/x.safetensors", "x/y.safetensors", "model.bin"] {
        let change = |dir: &Path| replace(dir, INDEX, &name(dir, 0), trick);
        refused(
            MANY,
            change,
            &[INDEX, &format!("{trick:?}"), "nothing outside the folder is read"],
        );
    }
    let gone = |dir: &Path| std::fs::remove_file(at(dir, 1)).unwrap();
    refused(MANY, gone, &["cannot open", "model-00002-of-", "no such file"]);
    // The same tensor in two files.
    let twice = |dir: &Path| {
        std::fs::copy(at(dir, 0), at(dir, 1)).unwrap();
    };
    refused(MANY, twice, &["tensor model.embed_tokens.weight is in model-00001-of", "model-00002"]);
    let moved = |dir: &Path| {
        let text = std::fs::read_to_string(dir.join(INDEX)).unwrap();
        let mut index: serde_json::Value = serde_json::from_str(&text).unwrap();
        index["weight_map"]["model.layers.0.self_attn.v_proj.weight"] = name(dir, 0).into();
        std::fs::write(dir.join(INDEX), index.to_string()).unwrap();
    };
    refused(MANY, moved, &["self_attn.v_proj.weight is here", "says in model-00001"]);
    let unnamed = |dir: &Path| replace(dir, INDEX, "\"model.norm.weight\"", "\"model.other\"");
    refused(MANY, unnamed, &["tensor model.norm.weight is not in model.safetensors.index.json"]);
    let more = |dir: &Path| {
        let file = name(dir, 0);
        replace(dir, INDEX, "\"weight_map\": {", &format!("\"weight_map\": {{\"more\": {file:?},"));
    };
    refused(MANY, more, &[INDEX, "tensor more is not in model-00001"]);
    let both = |dir: &Path| {
        std::fs::copy(at(dir, 0), dir.join(SINGLE)).unwrap();
    };
    refused(MANY, both, &["two models"]);
}

#[test]
fn pickles_are_never_read() {
    let pickle = |dir: &Path| {
        std::fs::rename(dir.join(SINGLE), dir.join("pytorch_model.bin")).unwrap();
    };
    refused(ONE, pickle, &["pytorch_model.bin is a pickle, which runs code", "save_pretrained"]);
    let none = |dir: &Path| std::fs::remove_file(dir.join(SINGLE)).unwrap();
    refused(ONE, none, &["neither model.safetensors nor model.safetensors.index.json"]);
}

/// Any damage to configuration, head or index is an error or changes nothing; it is never a panic.
#[test]
fn damage_never_panics() {
    let temp = tempfile::tempdir().unwrap();
    let dims = Dims { layers: 1, ..TIED };
    let mut refusals = 0;
    for (max_file_bytes, names) in [(ONE, ["config.json", SINGLE]), (1000, ["config.json", INDEX])]
    {
        let dir = temp.path().join(names[1]);
        export(&dir, dims, Float::F32, max_file_bytes).unwrap();
        for path in names.map(|name| dir.join(name)) {
            let good = std::fs::read(&path).unwrap();
            for i in 0..600 {
                let mut bad = good.clone();
                bad[i * 37 % good.len().min(2400)] = (i * 101 + 13) as u8;
                std::fs::write(&path, &bad).unwrap();
                let Ok(folder) = Folder::open(&dir) else {
                    refusals += 1;
                    continue;
                };
                for weight in folder.weights() {
                    let mut values = vec![0.0; weight.shape.iter().product()];
                    let _ = folder.read(weight, &mut values);
                }
            }
            std::fs::write(&path, &good).unwrap();
        }
    }
    assert!(refusals > 600, "{refusals}");
}
