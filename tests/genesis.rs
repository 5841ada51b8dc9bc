//! The dataset as an agreed thing: roots, damage that is found, folders of version 1.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use neuroshard::crypto::ByteTree;
use neuroshard::crypto::Domain;
use neuroshard::crypto::Hash;
use neuroshard::crypto::Signed;
use neuroshard::crypto::SigningKey;
use neuroshard::data::Assignment;
use neuroshard::data::Config;
use neuroshard::data::Corpus;
use neuroshard::data::DataError;
use neuroshard::data::Dataset;
use neuroshard::data::FilterEntry;
use neuroshard::data::InputEntry;
use neuroshard::data::Loader;
use neuroshard::data::Manifest;
use neuroshard::data::Options;
use neuroshard::data::Origin;
use neuroshard::data::Part;
use neuroshard::data::Place;
use neuroshard::data::Sample;
use neuroshard::data::ShardEntry;
use neuroshard::data::SplitRule;
use neuroshard::data::check_proof;
use neuroshard::data::prepare;
use neuroshard::rng::Address;
use neuroshard::rng::Purpose;
use proptest::prelude::*;
use tempfile::TempDir;

/// Some text of made-up words.
fn text(seed: u64, words: u64) -> String {
    let mut text = String::new();
    for index in 0..words {
        let address = Address { seed, purpose: Purpose::Test, step: 0, index };
        let word = Address { step: 1, index: address.below(300), ..address };
        (0..2 + word.below(6)).for_each(|i| {
            let letter = Address { step: 2 + i, ..word }.below(26) as u8;
            text.push(char::from(b'a' + letter));
        });
        text.push_str(if index % 9 == 8 { ".\n" } else { " " });
    }
    text
}

fn prepared() -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let input = dir.path().join("texts");
    fs::create_dir(&input).unwrap();
    fs::write(input.join("a.txt"), text(1, 20_000)).unwrap();
    fs::write(input.join("b.txt"), text(2, 20_000)).unwrap();
    let out = dir.path().join("data");
    let options = Options {
        vocab_size: 300,
        shard_tokens: 20_000,
        block_tokens: Some(513),
        ..Options::default()
    };
    prepare(&[input], &out, &options, &|_| {}).unwrap();
    (dir, out)
}

fn verify(dir: &Path) -> Result<(), DataError> {
    Corpus::open(dir)?.verify(&|_| {})
}

/// The file that an error names, and the bytes of it, where it does.
fn located(error: &DataError) -> (PathBuf, Option<std::ops::Range<u64>>) {
    match error {
        DataError::Shard { path, bytes, .. } => (path.clone(), bytes.clone()),
        DataError::Manifest { path, .. } | DataError::Tokenizer { path, .. } => {
            (path.clone(), None)
        }
        other => panic!("no place in {other}"),
    }
}

/// Flips `trials` bits, each of a byte that `draw` picks among all files' bytes.
fn flips_are_found(trials: u64, seed: u64) {
    let (_dir, out) = prepared();
    verify(&out).unwrap();
    let mut files: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 5, "the test wants several shards");
    let draw = |trial, below, index| {
        Address { seed, purpose: Purpose::Test, step: trial, index }.below(below)
    };
    for trial in 0..trials {
        let file = &files[draw(trial, files.len() as u64, 0) as usize];
        let good = fs::read(file).unwrap();
        let at = draw(trial, good.len() as u64, 1);
        let mut bad = good.clone();
        bad[at as usize] ^= 1 << draw(trial, 8, 2);
        fs::write(file, &bad).unwrap();
        let what = format!("byte {at} of {}", file.display());
        let error = verify(&out).expect_err(&what);
        let (named, bytes) = located(&error);
        assert_eq!(&named, file, "{what}: {error}");
        match bytes {
            Some(bytes) => {
                assert!(bytes.contains(&at), "{what}: {error}");
                assert!(bytes.end - bytes.start <= 16 << 10, "{what}: {error}");
            }
            None => assert!(file.extension().is_none_or(|e| e != "tokens"), "{what}: {error}"),
        }
        fs::write(file, &good).unwrap();
    }
    verify(&out).unwrap();
}

#[test]
fn every_flipped_bit_is_found_and_located() {
    flips_are_found(200, 1);
}

/// By hand: `cargo test --test genesis -- --ignored`.
#[test]
#[ignore = "takes minutes; the same with 200 flips runs always"]
fn ten_thousand_flipped_bits_are_found_and_located() {
    flips_are_found(10_000, 2);
}

/// Turns a folder into one of version 1, as the program wrote before there were roots.
fn downgrade(dir: &Path) {
    let path = dir.join(Manifest::FILE);
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    json["version"] = 1.into();
    let fields = json.as_object_mut().unwrap();
    fields.remove("root");
    fields.remove("filters");
    for input in json["inputs"].as_array_mut().unwrap() {
        input.as_object_mut().unwrap().remove("origin");
    }
    for shard in json["shards"].as_array().unwrap() {
        let path = dir.join(shard["file"].as_str().unwrap());
        let mut bytes = fs::read(&path).unwrap();
        bytes[8] = 1;
        let tokens = shard["tokens"].as_u64().unwrap();
        bytes.truncate(64 + 2 * tokens as usize);
        fs::write(&path, bytes).unwrap();
    }
    fs::write(&path, serde_json::to_vec(&json).unwrap()).unwrap();
}

#[test]
fn folders_of_version_1_give_the_same_sequences() {
    let (_dir, out) = prepared();
    let open = || {
        let config = Config { dir: Some(out.clone()), ..Config::default() };
        Dataset::open(&config, 0).unwrap()
    };
    let new = open();
    let before: Vec<_> = (0..50).map(|i| new.train_sequence(i, 100).unwrap()).collect();
    downgrade(&out);
    verify(&out).unwrap();
    let old = open();
    assert_eq!(old.hash(), new.hash());
    let after: Vec<_> = (0..50).map(|i| old.train_sequence(i, 100).unwrap()).collect();
    assert_eq!(before, after);

    let shard = out.join("shard-000001.tokens");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[1000] ^= 4;
    fs::write(&shard, &bytes).unwrap();
    let (named, bytes) = located(&verify(&out).unwrap_err());
    assert_eq!((named, bytes.unwrap().start), (shard, 64));
    let error = (0..200).find_map(|i| open().train_sequence(i, 100).err()).unwrap();
    assert!(error.to_string().contains("shard-000001.tokens"), "{error}");
}

#[test]
fn a_shard_of_another_place_is_refused() {
    let (_dir, out) = prepared();
    let [a, b] = ["shard-000000.tokens", "shard-000001.tokens"].map(|name| out.join(name));
    let [first, second] = [&a, &b].map(|path| fs::read(path).unwrap());
    fs::write(&a, &second).unwrap();
    fs::write(&b, &first).unwrap();
    let error = verify(&out).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("shard-000000.tokens") && message.contains("manifest"), "{message}");
}

/// Of a large shard only groups that are read are hashed, and a changed one is refused before it is
/// used; a small shard is refused whole.
#[test]
fn training_meets_changes_when_it_touches_them() {
    let change = |out: &Path, at: usize| {
        let shard = out.join("shard-000000.tokens");
        let mut bytes = fs::read(&shard).unwrap();
        bytes[64 + at] ^= 1;
        fs::write(&shard, &bytes).unwrap();
        let config = Config { dir: Some(out.to_path_buf()), ..Config::default() };
        (Dataset::open(&config, 0).unwrap(), bytes.len())
    };
    let (_small, out) = prepared();
    let (dataset, _) = change(&out, 20_000);
    let message = dataset.train_sequence(0, 512).unwrap_err().to_string();
    assert!(message.contains("bytes 16448 to 32832"), "{message}");

    let dir = TempDir::new().unwrap();
    let (input, out) = (dir.path().join("a.txt"), dir.path().join("data"));
    fs::write(&input, text(7, 20_000).repeat(16)).unwrap();
    let options = Options { vocab_size: 300, block_tokens: Some(513), ..Options::default() };
    prepare(&[input], &out, &options, &|_| {}).unwrap();
    // The second group of 16 KiB: tokens 8192 and on.
    let (dataset, length) = change(&out, 20_000);
    assert!(length > 1_100_000, "the test wants more than 1 MiB, not {length}");
    dataset.train_sequence(0, 512).unwrap();
    let error = (0..40).find_map(|i| dataset.train_sequence(i, 512).err()).unwrap();
    let message = error.to_string();
    assert!(message.contains("shard-000000.tokens"), "{message}");
    assert!(message.contains("bytes 16448 to 32832"), "{message}");
}

#[test]
fn the_root_says_which_dataset_it_is() {
    let (_dir, out) = prepared();
    let manifest = Manifest::load(&out).unwrap();
    let root = manifest.root.unwrap();
    manifest.expect_root(&out, &root).unwrap();
    let other = neuroshard::crypto::Hash([7; 32]);
    let error = manifest.expect_root(&out, &other).unwrap_err().to_string();
    assert!(error.contains("another dataset"), "{error}");
    let (_dir, again) = prepared();
    assert_eq!(Manifest::load(&again).unwrap().root, Some(root));
}

/// Sequences at the ends of the dataset, and across shards, prove themselves.
#[test]
fn sequences_prove_themselves_against_the_root() {
    let (_dir, out) = prepared();
    let corpus = Corpus::open(&out).unwrap();
    let config = Config { dir: Some(out), ..Config::default() };
    let dataset = Dataset::open(&config, 0).unwrap();
    let root = corpus.manifest().root.unwrap();
    for seq_len in [1, 100, 512] {
        let count = dataset.num_train_sequences(seq_len).unwrap();
        let mut indices: Vec<_> = (0..count).step_by(count as usize / 40).collect();
        indices.push(count - 1);
        for index in indices {
            let proof = corpus.prove(Part::Training, index, seq_len as u32).unwrap();
            let proven = check_proof(&proof).unwrap();
            assert_eq!((proven.root, proven.index, proven.count), (root, index, count));
            assert_eq!(proven.tokens, dataset.train_sequence(index, seq_len).unwrap());
            assert!(proof.len() < 4096, "{} bytes", proof.len());
        }
        let error = corpus.prove(Part::Training, count, seq_len as u32).unwrap_err();
        assert!(matches!(error, DataError::NoSuchSequence { .. }), "{error}");
    }
    let held = corpus.prove(Part::HeldOut, 0, 512).unwrap();
    let proven = check_proof(&held).unwrap();
    assert_eq!((proven.root, proven.part), (root, Part::HeldOut));
    assert_eq!(proven.tokens, dataset.heldout_sequence(0, 512).unwrap());
    for seq_len in [0, 513, u32::MAX] {
        assert!(corpus.prove(Part::Training, 0, seq_len).is_err());
    }
}

/// Shards so small that a sequence lies in many of them.
#[test]
fn sequences_across_many_shards_prove_themselves() {
    let dir = TempDir::new().unwrap();
    let input = dir.path().join("a.txt");
    fs::write(&input, text(5, 9000)).unwrap();
    let out = dir.path().join("data");
    let options = Options {
        vocab_size: 300,
        shard_tokens: 1024,
        block_tokens: Some(4001),
        ..Options::default()
    };
    prepare(&[input], &out, &options, &|_| {}).unwrap();
    let corpus = Corpus::open(&out).unwrap();
    let config = Config { dir: Some(out), ..Config::default() };
    let dataset = Dataset::open(&config, 0).unwrap();
    let proof = corpus.prove(Part::Training, 1, 4000).unwrap();
    let proven = check_proof(&proof).unwrap();
    assert_eq!(Some(proven.root), corpus.manifest().root);
    assert_eq!(proven.tokens, dataset.train_sequence(1, 4000).unwrap());
}

/// Every bit of a proof counts, no length but its own is taken, and nothing makes it panic.
#[test]
fn hostile_proofs_are_refused() {
    let (_dir, out) = prepared();
    let corpus = Corpus::open(&out).unwrap();
    let root = corpus.manifest().root.unwrap();
    let good = corpus.prove(Part::Training, 70, 512).unwrap();
    let holds = |proof: &[u8]| check_proof(proof).is_ok_and(|proven| proven.root == root);
    assert!(holds(&good));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        assert!(!holds(&bad), "byte {at}");
    }
    for len in 0..good.len() {
        assert!(check_proof(&good[..len]).is_err(), "{len} bytes");
    }
    assert!(check_proof(&[&good[..], &[0]].concat()).is_err());
    // Huge numbers in every place of the facts, the index and the shard.
    for at in (8..good.len().min(180)).step_by(4) {
        for value in [u64::MAX, 1 << 63, 1 << 40, 0] {
            let mut bad = good.clone();
            bad[at..at + 8].copy_from_slice(&value.to_le_bytes());
            assert!(!holds(&bad) || bad == good, "{value} at {at}");
        }
    }
}

/// A changed shard proves nothing, and is named.
#[test]
fn changed_shards_give_no_proof() {
    let (_dir, out) = prepared();
    let shard = out.join("shard-000000.tokens");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[64 + 10] ^= 1;
    fs::write(&shard, &bytes).unwrap();
    let corpus = Corpus::open(&out).unwrap();
    let all = (0..3).filter_map(|index| corpus.prove(Part::Training, index, 512).err());
    let message = all.map(|e| e.to_string()).next().unwrap();
    assert!(message.contains("shard-000000.tokens"), "{message}");
}

/// The lines of tests/golden/genesis.txt that begin with `kind`, as words.
fn golden(kind: &str) -> Vec<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/genesis.txt");
    let text = fs::read_to_string(path).unwrap();
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<_> = text.lines().map(words).filter(|words| words[0] == kind).collect();
    assert!(!lines.is_empty(), "{kind}");
    lines
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// Tokens `i * 31 % 251` for `i` from `start` on, as a shard has them.
fn token_bytes(start: u64, count: u64, width: usize) -> Vec<u8> {
    (start..start + count).flat_map(|i| (i * 31 % 251).to_le_bytes()[..width].to_vec()).collect()
}

fn shard_hash(bytes: &[u8]) -> Hash {
    let tree = ByteTree::new(Domain::TokenShard);
    tree.root(&tree.group_values(bytes)).unwrap()
}

/// The manifest of scripts/golden/make_genesis.py.
fn golden_manifest() -> Manifest {
    let mut start = 0;
    let shards = [9000, 9000, 5000].map(|tokens| {
        let hash = shard_hash(&token_bytes(start, tokens, 2));
        start += tokens;
        ShardEntry { file: "any".into(), tokens, hash }
    });
    let origin = Origin {
        kind: "jsonl".into(),
        field: "text".into(),
        documents: 12,
        licence: "CC0-1.0".into(),
        source: "caf\u{e9}".into(),
    };
    let hash = Hash(std::array::from_fn(|i| i as u8));
    Manifest {
        version: 2,
        root: None,
        signed: None,
        tokenizer: Hash([9; 32]),
        vocab_size: 300,
        token_bytes: 2,
        tokens: start,
        documents: 12,
        split: SplitRule { block_tokens: 2049, heldout_one_in: 4, seed: 7 },
        filters: Some(vec![FilterEntry { name: "exact-duplicate".into(), version: 1, dropped: 3 }]),
        shards: shards.to_vec(),
        inputs: vec![InputEntry {
            name: "a/b.jsonl".into(),
            bytes: 77,
            hash,
            origin: Some(origin),
        }],
    }
}

/// What a program in Python makes of docs/DATA.md.
#[test]
fn roots_and_signatures_are_those_of_the_document() {
    for line in golden("shard") {
        let [width, count] = [&line[1], &line[2]].map(|n| n.parse::<u64>().unwrap());
        let hash = shard_hash(&token_bytes(0, count, width as usize));
        assert_eq!(hash.to_string(), line[3], "{count} tokens of {width} bytes");
    }
    let root = golden_manifest().compute_root().unwrap();
    assert_eq!(root.to_string(), golden("root")[0][1]);
    let signed = &golden("signed")[0];
    let key = SigningKey::from_secret(&from_hex(&signed[1]).try_into().unwrap());
    assert_eq!(key.public().to_string(), signed[2]);
    let signature = Signed::new(&key, Domain::SignedDataset, root.as_bytes()).signature;
    assert_eq!((root.to_string(), signature.to_string()), (signed[3].clone(), signed[4].clone()));
}

/// The script's proof of the first 1024 predictions of block 4, which lie in two shards: exactly one
/// index of training or held-out sequences is proved by it.
#[test]
fn proofs_are_those_of_the_document() {
    let body = from_hex(&golden("proof-body")[0][1]);
    let facts = from_hex(&golden("facts")[0][1]);
    let root = golden_manifest().compute_root().unwrap();
    let mut proven = Vec::new();
    for part in [0, 1] {
        for index in 0..20u64 {
            let head = [&b"NSPROOF\x01"[..], &facts, &[part], &1024u32.to_le_bytes()].concat();
            let proof = [&head[..], &index.to_le_bytes(), &body].concat();
            proven.extend(check_proof(&proof).ok().filter(|proven| proven.root == root));
        }
    }
    assert_eq!(proven.len(), 1, "{proven:?}");
    let want: Vec<u32> = (8196..8196 + 1025).map(|i| i * 31 % 251).collect();
    assert_eq!(proven[0].tokens, want);
}

#[test]
fn assignments_are_those_of_the_document() {
    for line in golden("sample") {
        let n: Vec<u64> = line[1..].iter().map(|n| n.parse().unwrap()).collect();
        let [seed, sequences, peers, inner_steps, batch_sequences, shards, first] =
            n[..7].try_into().unwrap();
        let assignment =
            Assignment { seed, sequences, peers, inner_steps, batch_sequences, shards, first };
        let place = Place { round: n[7], peer: n[8], inner_step: n[9], shard: n[10] };
        let sample = Sample { epoch: n[12], sequence: n[13] };
        assert_eq!(assignment.sample(place, n[11]), Some(sample), "{line:?}");
        assert_eq!(assignment.place(sample), Some((place, n[11])), "{line:?}");
    }
}

/// A peer's assignment is what its loader reads.
#[test]
fn assignments_are_what_the_loader_reads() {
    let dataset = std::sync::Arc::new(Dataset::open(&Config::default(), 512).unwrap());
    let loader = Loader::new(dataset, 9, 64, 8).unwrap();
    let assignment = Assignment {
        seed: 9,
        sequences: loader.num_train(),
        peers: 3,
        inner_steps: 4,
        batch_sequences: 8,
        shards: 2,
        first: 0,
    };
    for (round, peer, inner_step, shard) in [(0, 0, 0, 0), (2, 1, 3, 1), (7, 2, 0, 1)] {
        let place = Place { round, peer, inner_step, shard };
        let step = (round * 4 + inner_step) * 3 + peer;
        for (row, sample) in assignment.samples(place).unwrap().iter().enumerate() {
            let i = shard as usize * 4 + row;
            assert_eq!(loader.sequence_at(step, i).unwrap(), sample.sequence);
        }
    }
}

proptest! {
    /// Of up to 2^40 sequences: what a place reads, that place alone reads, and in its epoch.
    #[test]
    fn assignments_invert(
        seed: u64, sequences in 1u64..=1 << 40, peers in 1u64..2000, inner_steps in 1u64..1000,
        shards in 1u64..32, rows in 1u64..64, first in 0u64..1 << 30, at: [u64; 4], round in 0u64..1 << 20,
    ) {
        let assignment = Assignment {
            seed, sequences, peers, inner_steps, batch_sequences: shards * rows, shards, first,
        };
        let place = Place {
            round, peer: at[0] % peers, inner_step: at[1] % inner_steps, shard: at[2] % shards,
        };
        let row = at[3] % rows;
        // Of few sequences so many rounds are more epochs than the key tells apart.
        if let Some(sample) = assignment.sample(place, row) {
            prop_assert!(sample.sequence < sequences);
            prop_assert_eq!(assignment.place(sample), Some((place, row)));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Every field that people write counts in the root.
    #[test]
    fn edited_manifests_have_another_root(name in ".{0,20}", licence in ".{0,20}", source in ".{0,20}") {
        use std::sync::LazyLock;
        static MANIFEST: LazyLock<Manifest> = LazyLock::new(|| {
            let (_dir, out) = prepared();
            Manifest::load(&out).unwrap()
        });
        let mut edited = MANIFEST.clone();
        edited.inputs[0].name = name;
        let origin = edited.inputs[0].origin.as_mut().unwrap();
        (origin.licence, origin.source) = (licence, source);
        prop_assert_eq!(edited.compute_root() == MANIFEST.root, edited.inputs == MANIFEST.inputs);
    }

    /// Any bytes, with and without a proof's beginning: refused, without a panic.
    #[test]
    fn arbitrary_bytes_prove_nothing(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(check_proof(&bytes).is_err());
        let begun = [&b"NSPROOF\x01"[..], &bytes].concat();
        prop_assert!(check_proof(&begun).is_err());
    }
}
