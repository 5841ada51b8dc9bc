//! Data as a user meets it: prepared folders that are whole, damaged, hostile or impossible.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;

use neuroshard::data::Config;
use neuroshard::data::Corpus;
use neuroshard::data::DataError;
use neuroshard::data::Dataset;
use neuroshard::data::Loader;
use neuroshard::data::Manifest;
use neuroshard::data::Options;
use neuroshard::data::Permutation;
use neuroshard::data::Progress;
use neuroshard::data::Shard;
use neuroshard::data::Stage;
use neuroshard::data::Tokenizer;
use neuroshard::data::prepare;
use neuroshard::rng::Address;
use neuroshard::rng::Purpose;
use proptest::prelude::*;
use tempfile::TempDir;

/// A text of words with a Zipf-like vocabulary, from a seed.
fn text(seed: u64, words: u64) -> String {
    let mut text = String::new();
    for index in 0..words {
        let address = Address { seed, purpose: Purpose::Test, step: 0, index };
        let u = address.uniform_f64();
        let word = Address { step: 1, index: (u * u * 500.0) as u64, ..address };
        for i in 0..2 + word.below(6) {
            let letter = Address { step: 2 + i, ..word }.below(26) as u8;
            text.push(char::from(b'a' + letter));
        }
        text.push_str(["", ",", ".", ";\n\n", " \u{2014} \u{e9}\u{65e5}"][index as usize % 5]);
        text.push(' ');
    }
    text
}

fn options() -> Options {
    Options { vocab_size: 400, block_tokens: Some(65), shard_tokens: 5000, ..Options::default() }
}

fn quiet(_: Progress) {}

/// Three documents, prepared.
fn prepared() -> (TempDir, PathBuf, Manifest) {
    let dir = TempDir::new().unwrap();
    let input = dir.path().join("texts");
    fs::create_dir_all(input.join("more")).unwrap();
    fs::write(input.join("b.txt"), text(1, 4000)).unwrap();
    fs::write(input.join("more/a.TXT"), text(2, 500)).unwrap();
    fs::write(input.join("more/skipped.bin"), [0, 255]).unwrap();
    fs::write(input.join("z.txt"), "one line").unwrap();
    let out = dir.path().join("out/data");
    let manifest = prepare(&[input], &out, &options(), &quiet).unwrap();
    (dir, out, manifest)
}

fn open(dir: &Path) -> Result<Arc<Dataset>, DataError> {
    let config = Config { dir: Some(dir.to_path_buf()), ..Config::default() };
    Dataset::open(&config, 0).map(Arc::new)
}

/// Opens a folder and reads every token.
fn read_all(dir: &Path) -> Result<(), DataError> {
    let dataset = open(dir)?;
    for index in 0..dataset.num_train_sequences(64)? {
        dataset.train_sequence(index, 64)?;
    }
    Ok(())
}

#[test]
fn prepared_text_comes_back() {
    let (dir, out, manifest) = prepared();
    assert_eq!(Manifest::load(&out).unwrap(), manifest);
    let names: Vec<_> = manifest.inputs.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["texts/b.txt", "texts/more/a.TXT", "texts/z.txt"]);
    assert!(manifest.shards.len() > 1, "the test wants several shards");

    let corpus = Corpus::open(&out).unwrap();
    corpus.verify(&|_| {}).unwrap();
    let mut tokens = Vec::new();
    for entry in &manifest.shards {
        let shard = Shard::open(&out.join(&entry.file)).unwrap();
        let mut part = vec![0; entry.tokens as usize];
        shard.read(0, &mut part, manifest.vocab_size).unwrap();
        tokens.extend(part);
    }
    let end = corpus.tokenizer().end_of_text();
    assert_eq!(end, 0);
    let documents: Vec<_> = tokens
        .split(|&t| t == end)
        .map(|document| corpus.tokenizer().decode(document).unwrap())
        .collect();
    assert_eq!(documents, [text(1, 4000), text(2, 500), "one line".into(), String::new()]);
    // Nothing is left beside the output.
    assert_eq!(fs::read_dir(dir.path().join("out")).unwrap().count(), 1);
}

#[test]
fn preparing_twice_gives_the_same_bytes() {
    let (_a, first, _) = prepared();
    let (_b, second, _) = prepared();
    let mut names: Vec<_> = fs::read_dir(&first).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    for name in names {
        let [a, b] = [&first, &second].map(|dir| fs::read(dir.join(&name)).unwrap());
        assert!(a == b, "{name:?} differs");
    }
    assert_eq!(open(&first).unwrap().hash(), open(&second).unwrap().hash());
}

#[test]
fn a_loaded_tokenizer_is_used_as_it_is() {
    let (dir, out, manifest) = prepared();
    let path = out.join("tokenizer.json");
    let again = dir.path().join("again");
    let options = Options { tokenizer: Some(path), ..options() };
    let second = prepare(&[dir.path().join("texts")], &again, &options, &quiet).unwrap();
    assert_eq!(second, manifest);
}

#[test]
fn special_tokens_in_a_text_are_text() {
    let (_dir, out, _) = prepared();
    let tokenizer = Tokenizer::load(&out.join("tokenizer.json")).unwrap();
    let nasty = "a<|endoftext|>b";
    let tokens = tokenizer.encode(nasty).unwrap();
    assert!(!tokens.contains(&0), "a document could end itself");
    assert_eq!(tokenizer.decode(&tokens).unwrap(), nasty);
    assert!(tokenizer.encode("").unwrap().is_empty());
    assert!(tokenizer.decode(&[u32::MAX]).unwrap().is_empty());
}

/// Pieces give the tokens that the `tokenizers` crate gives for the whole.
#[test]
fn encoding_in_pieces_equals_encoding_whole() {
    let (_dir, out, _) = prepared();
    let tokenizer = Tokenizer::load(&out.join("tokenizer.json")).unwrap();
    let whole = tokenizers::Tokenizer::from_bytes(tokenizer.json()).unwrap();
    let text = text(3, 60_000);
    assert!(text.len() > 200_000);
    let want = whole.encode_fast(text.as_str(), false).unwrap();
    assert_eq!(tokenizer.encode(&text).unwrap(), want.get_ids());
}

#[test]
fn each_sequence_comes_once_an_epoch_and_never_held_out() {
    let (_dir, out, _) = prepared();
    let dataset = open(&out).unwrap();
    let loader = Loader::new(dataset.clone(), 5, 16, 3).unwrap();
    let n = loader.num_train();
    for epoch in 0..3 {
        let places = epoch * n..(epoch + 1) * n;
        let seen: HashSet<_> =
            places.map(|p| loader.sequence_at(p / 3, (p % 3) as usize).unwrap()).collect();
        assert_eq!(seen.len() as u64, n);
    }
    let orders: Vec<Vec<u64>> = [0, n]
        .map(|from| (0..20).map(|p| (from + p) / 3).collect::<Vec<_>>())
        .map(|steps| steps.iter().map(|&s| loader.sequence_at(s, 0).unwrap()).collect())
        .into();
    assert_ne!(orders[0], orders[1], "epochs differ");

    let batch = loader.batch(11).unwrap();
    assert_eq!(batch.inputs.len(), 48);
    for (row, (inputs, targets)) in
        batch.inputs.chunks(16).zip(batch.targets.chunks(16)).enumerate()
    {
        assert_eq!(inputs[1..], targets[..15]);
        let index = loader.sequence_at(11, row).unwrap();
        let sequence = dataset.train_sequence(index, 16).unwrap();
        assert_eq!((inputs, targets), (&sequence[..16], &sequence[1..]));
    }
    let part = loader.sequences(11, 1, 2).unwrap();
    assert_eq!(part.inputs, batch.inputs[16..]);
    assert!(loader.num_heldout() > 0);
    assert_eq!(loader.heldout(0).unwrap().targets.len(), 16);
    assert!(loader.heldout(loader.num_heldout()).is_err());
    assert!(loader.sequence_at(u64::MAX, 0).is_err());
    assert!(loader.sequence_at(0, 3).is_err());
    assert!(loader.sequences(0, 2, usize::MAX).is_err());
}

#[test]
fn sequences_longer_than_blocks_are_refused() {
    let (_dir, out, _) = prepared();
    let dataset = open(&out).unwrap();
    assert!(Loader::new(dataset.clone(), 1, 64, 1).is_ok());
    let error = Loader::new(dataset.clone(), 1, 65, 1).unwrap_err();
    assert!(error.to_string().contains("--block-tokens 66"), "{error}");
    assert!(Loader::new(dataset.clone(), 1, 0, 1).is_err());
    assert!(Loader::new(dataset, 1, 16, 0).is_err());
}

#[test]
fn synthetic_training_and_held_out_sequences_are_disjoint() {
    let dataset = Arc::new(Dataset::open(&Config::default(), 4096).unwrap());
    assert_eq!(dataset.vocab_size(), 4096);
    assert!((1.0..3.0).contains(&dataset.entropy_floor().unwrap()));
    let loader = Loader::new(dataset.clone(), 1, 256, 4).unwrap();
    let mut seen: HashSet<Vec<u32>> = HashSet::new();
    for step in 0..50 {
        for row in loader.batch(step).unwrap().inputs.chunks(256) {
            assert!(seen.insert(row.to_vec()));
        }
    }
    for index in 0..loader.num_heldout() {
        assert!(seen.insert(loader.heldout(index).unwrap().inputs));
    }
    let other = Config { synthetic_seed: 2, ..Config::default() };
    assert_ne!(dataset.hash(), Dataset::open(&other, 4096).unwrap().hash());
}

#[test]
fn config_refuses_unknown_keys() {
    let config: Config = serde_json::from_str("{}").unwrap();
    assert_eq!(config, Config::default());
    assert!(serde_json::from_str::<Config>(r#"{"folder": "x"}"#).is_err());
}

/// A faulty text, and what the error must say. Nothing may be written.
fn refused(name: &str, bytes: &[u8], want: &str) {
    let dir = TempDir::new().unwrap();
    let input = dir.path().join("in");
    fs::create_dir(&input).unwrap();
    fs::write(input.join("good.txt"), text(1, 100)).unwrap();
    fs::write(input.join(name), bytes).unwrap();
    let out = dir.path().join("out");
    let error = prepare(&[input], &out, &options(), &quiet).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains(want), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something was written");
}

#[test]
fn faulty_texts_are_refused_before_anything_is_written() {
    refused("empty.txt", b"", "empty");
    refused("binary.txt", b"abc\0def", "NUL byte at offset 3");
    refused("latin1.txt", b"caf\xe9 au lait", "not UTF-8: invalid byte at offset 3");
    refused("cut.txt", b"caf\xc3", "not UTF-8: invalid byte at offset 3");
    refused("utf16.txt", b"\xff\xfea\0", "a NUL byte at offset 3");
    let mut late = text(4, 40_000).into_bytes();
    late.push(0xff);
    refused("late.txt", &late, &format!("offset {}", late.len() - 1));
}

#[test]
fn impossible_inputs_and_outputs_are_refused() {
    let dir = TempDir::new().unwrap();
    let path = |name: &str| dir.path().join(name);
    fs::write(path("a.txt"), text(1, 300)).unwrap();
    fs::write(path("b.pdf"), "x").unwrap();
    fs::create_dir(path("none")).unwrap();
    fs::create_dir(path("full")).unwrap();
    fs::write(path("full/x"), "x").unwrap();
    let run = |inputs: &[&str], out: &str, options: &Options| {
        let inputs: Vec<_> = inputs.iter().map(|i| path(i)).collect();
        prepare(&inputs, &path(out), options, &quiet).unwrap_err()
    };
    let o = options();
    assert!(matches!(run(&["missing.txt"], "out", &o), DataError::Read { .. }));
    assert!(matches!(run(&["b.pdf"], "out", &o), DataError::NoText { .. }));
    assert!(matches!(run(&["none"], "out", &o), DataError::NoText { .. }));
    assert!(matches!(run(&["a.txt", "a.txt"], "out", &o), DataError::DuplicateInput { .. }));
    assert!(matches!(run(&["a.txt"], "full", &o), DataError::OutputExists { .. }));
    assert!(matches!(run(&["a.txt"], "a.txt", &o), DataError::OutputExists { .. }));
    assert!(matches!(
        run(&["a.txt"], "a.txt/out", &o),
        DataError::OutputExists { .. } | DataError::Write { .. }
    ));
    let small = |change: fn(&mut Options)| {
        let mut options = options();
        change(&mut options);
        run(&["a.txt"], "out", &options)
    };
    assert!(matches!(small(|o| o.block_tokens = None), DataError::TooLittleText { .. }));
    assert!(matches!(small(|o| o.vocab_size = 256), DataError::OutOfRange { .. }));
    assert!(matches!(small(|o| o.vocab_size = usize::MAX), DataError::OutOfRange { .. }));
    assert!(matches!(small(|o| o.shard_tokens = 0), DataError::OutOfRange { .. }));
    assert!(matches!(small(|o| o.heldout_one_in = 1), DataError::OutOfRange { .. }));
    assert!(matches!(small(|o| o.block_tokens = Some(u64::MAX)), DataError::OutOfRange { .. }));
    let mut names: Vec<_> =
        fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.txt", "b.pdf", "full", "none"]);
}

#[test]
fn progress_covers_every_stage() {
    let dir = TempDir::new().unwrap();
    let input = dir.path().join("a.txt");
    fs::write(&input, text(1, 2000)).unwrap();
    let seen = Mutex::new(Vec::new());
    let record = |p: Progress| seen.lock().unwrap().push(p);
    prepare(std::slice::from_ref(&input), &dir.path().join("out"), &options(), &record).unwrap();
    let size = fs::metadata(&input).unwrap().len();
    let seen = seen.into_inner().unwrap();
    for stage in [Stage::Check, Stage::Train, Stage::Encode] {
        let last = seen.iter().rfind(|p| p.stage == stage).unwrap();
        assert_eq!((last.done_bytes, last.total_bytes), (size, size), "{stage:?}");
    }
}

/// Every byte of the header, every length, some bytes of the tokens: never read as if whole.
#[test]
fn damaged_shards_are_found() {
    let (_dir, out, manifest) = prepared();
    let path = out.join(&manifest.shards[1].file);
    let good = fs::read(&path).unwrap();
    let check = |bytes: &[u8], what: &str| {
        fs::write(&path, bytes).unwrap();
        let error = read_all(&out).expect_err(what);
        let message = error.to_string();
        assert!(matches!(error, DataError::Shard { .. }), "{what}: {message}");
        assert!(message.contains("shard-000001.tokens"), "{what}: {message}");
        assert!(message.contains("prepare the data again"), "{what}: {message}");
    };
    for at in (0..64).chain([64, 65, good.len() / 2, good.len() - 1]) {
        for bit in [1, 0x80] {
            let mut bad = good.clone();
            bad[at] ^= bit;
            check(&bad, &format!("byte {at} ^ {bit}"));
        }
    }
    for length in [0, 1, 63, 64, 65, good.len() - 1] {
        check(&good[..length], &format!("length {length}"));
    }
    let mut bad = good.clone();
    bad[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
    check(&bad, "huge count");
    bad.clone_from(&good);
    bad.push(0);
    check(&bad, "longer");
    fs::write(&path, &good).unwrap();
    read_all(&out).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(matches!(read_all(&out), Err(DataError::Read { .. })));
}

/// A shard that is whole, but whose tokens do not exist.
#[test]
fn tokens_outside_the_vocabulary_are_found() {
    let (_dir, out, manifest) = prepared();
    let shard = Shard::open(&out.join(&manifest.shards[0].file)).unwrap();
    let mut tokens = vec![0; 1000];
    shard.read(0, &mut tokens, manifest.vocab_size).unwrap();
    let largest = *tokens.iter().max().unwrap();
    let error = shard.read(0, &mut tokens, largest as usize).unwrap_err().to_string();
    assert!(error.contains(&format!("token {largest}")), "{error}");
    assert!(shard.read(u64::MAX, &mut tokens, 400).is_err());
    assert!(shard.read(shard.tokens() - 999, &mut tokens, 400).is_err());
}

#[test]
fn hostile_manifests_are_refused() {
    let (_dir, out, manifest) = prepared();
    let path = out.join(Manifest::FILE);
    let good: serde_json::Value = serde_json::to_value(&manifest).unwrap();
    let check = |pointer: &str, value: serde_json::Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = value.clone();
        fs::write(&path, bad.to_string()).unwrap();
        let error = read_all(&out).expect_err(pointer);
        assert!(!error.to_string().is_empty(), "{pointer} {value}");
    };
    let numbers = [0, 1 << 41, u64::MAX];
    for pointer in ["/vocab_size", "/tokens", "/documents", "/shards/0/tokens", "/token_bytes"] {
        numbers.iter().for_each(|&n| check(pointer, n.into()));
    }
    numbers.iter().for_each(|&n| check("/split/block_tokens", n.into()));
    numbers.iter().for_each(|&n| check("/split/heldout_one_in", n.into()));
    check("/version", 1.into());
    check("/version", 3.into());
    check("/root", "00".repeat(32).into());
    check("/inputs/0/name", "other".into());
    check("/inputs/0/origin/licence", "other".into());
    check("/tokenizer", "00".into());
    check("/tokenizer", "00".repeat(32).into());
    check("/shards/0/hash", "00".repeat(32).into());
    check("/shards", serde_json::json!([]));
    for name in ["../x", "/etc/passwd", "", ".", "..", "a/b", "a\\b", "shard-000000.tokens/"] {
        check("/shards/0/file", name.into());
    }
    let mut extra = good.clone();
    extra["extra"] = 1.into();
    for bytes in [extra.to_string(), String::new(), "[".repeat(100_000), "{}".into()] {
        fs::write(&path, bytes).unwrap();
        let error = Manifest::load(&out).unwrap_err();
        assert!(error.to_string().contains("manifest.json"), "{error}");
    }
}

#[test]
fn changed_or_unfit_tokenizers_are_refused() {
    let (dir, out, _) = prepared();
    let path = out.join("tokenizer.json");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, good.replacen(' ', "  ", 1)).unwrap();
    assert!(open(&out).unwrap_err().to_string().contains("hash differs"));

    let file = dir.path().join("t.json");
    let check = |json: &str, want: &str| {
        fs::write(&file, json).unwrap();
        let error = Tokenizer::load(&file).unwrap_err().to_string();
        assert!(error.contains("t.json") && error.contains(want), "{error}");
    };
    check("", "not a tokenizer.json");
    check("{}", "not a tokenizer.json");
    check(&good[..good.len() / 2], "not a tokenizer.json");
    check(&good.replace("\"dropout\": null", "\"dropout\": 0.5"), "dropout");
    check(&good.replace("<|endoftext|>", "<|other|>"), "to end documents");
    check(&good.replace("\"add_prefix_space\": false", "\"add_prefix_space\": true"), "every text");
    let lower = r#""normalizer": {"type": "Lowercase"}"#;
    check(&good.replace("\"normalizer\": null", lower), "every text");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn permutations_invert(
        n in 1u64..1 << 40, seed: u64, epoch in 0u64..1 << 48, position: u64,
    ) {
        let permutation = Permutation::new(n, seed, epoch);
        let position = position % n;
        let element = permutation.at(position).unwrap();
        prop_assert!(element < n);
        prop_assert_eq!(permutation.position_of(element), Some(position));
        prop_assert_eq!(permutation.at(permutation.position_of(position).unwrap()), Some(position));
    }

    #[test]
    fn below_is_below(n in 1u64.., seed: u64, index: u64) {
        let address = Address { seed, purpose: Purpose::Test, step: 0, index };
        prop_assert!(address.below(n) < n);
    }

    #[test]
    fn words_of_the_language_come_back(seed: u64, tokens in prop::collection::vec(0u32..5000, 0..50)) {
        let config = Config { synthetic_seed: seed, ..Config::default() };
        let dataset = Dataset::open(&config, 5000).unwrap();
        let text = dataset.decode(&tokens).unwrap();
        prop_assert_eq!(dataset.encode(&text).unwrap(), tokens);
    }

    /// Any bytes as a shard or a manifest: an error, never a panic.
    #[test]
    fn arbitrary_files_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("x.tokens");
        fs::write(&path, &bytes).unwrap();
        prop_assert!(Shard::open(&path).is_err());
        fs::write(dir.path().join(Manifest::FILE), &bytes).unwrap();
        prop_assert!(Manifest::load(dir.path()).is_err());
        prop_assert!(Tokenizer::load(&path).is_err());
    }

    #[test]
    fn every_text_comes_back(text in "\\PC{0,200}") {
        use std::sync::LazyLock;
        static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
            let (_dir, out, _) = prepared();
            Tokenizer::load(&out.join("tokenizer.json")).unwrap()
        });
        let tokens = TOKENIZER.encode(&text).unwrap();
        prop_assert_eq!(TOKENIZER.decode(&tokens).unwrap(), text);
    }
}
