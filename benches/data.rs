//! What the dataset costs: `cargo bench --bench data [-- FILE.txt...]`.
//!
//! Ratios between alternating runs of one process, by their medians: encoding against the `tokenizers`
//! crate's `encode_batch` of the same pieces on the same threads (with files), verifying a
//! cached shard against BLAKE3 of the file's bytes on all threads, the lazy check of a sequence, and
//! size and time of proofs.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench")]

use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::time::Instant;

use neuroshard::crypto::ByteTree;
use neuroshard::crypto::Hash;
use neuroshard::crypto::merkle;
use neuroshard::data::Config;
use neuroshard::data::Corpus;
use neuroshard::data::Dataset;
use neuroshard::data::Options;
use neuroshard::data::Part;
use neuroshard::data::Tokenizer;
use neuroshard::data::check_proof;
use neuroshard::data::prepare;

/// Medians of the seconds of `a` and `b`, run by turns.
fn by_turns(runs: usize, mut a: impl FnMut(), mut b: impl FnMut()) -> (f64, f64) {
    let time = |f: &mut dyn FnMut()| {
        let begun = Instant::now();
        f();
        begun.elapsed().as_secs_f64()
    };
    let mut times: (Vec<f64>, Vec<f64>) = (0..runs).map(|_| (time(&mut a), time(&mut b))).unzip();
    [&mut times.0, &mut times.1].into_iter().for_each(|t| t.sort_by(f64::total_cmp));
    (times.0[runs / 2], times.1[runs / 2])
}

fn encoding(files: &[PathBuf], dir: &tempfile::TempDir) {
    let out = dir.path().join("vocabulary");
    prepare(files, &out, &Options::default(), &|_| {}).unwrap();
    let path = out.join("tokenizer.json");
    let tokenizer = Tokenizer::load(&path).unwrap();
    let theirs = tokenizers::Tokenizer::from_bytes(tokenizer.json()).unwrap();
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let megabytes = text.len() as f64 / 1e6;
    // Documents of some kilobytes, for both.
    let mut documents = vec![String::new()];
    for line in text.split_inclusive('\n') {
        if documents.last().unwrap().len() > 4000 {
            documents.push(String::new());
        }
        documents.last_mut().unwrap().push_str(line);
    }
    let input = dir.path().join("a.jsonl");
    let line = |text: &String| format!("{}\n", serde_json::json!({ "text": text }));
    fs::write(&input, documents.iter().map(line).collect::<String>()).unwrap();
    let options = Options { tokenizer: Some(path), ..Options::default() };
    let mut runs = 0;
    let (ours, theirs) = by_turns(
        5,
        || {
            runs += 1;
            let out = dir.path().join(format!("run-{runs}"));
            prepare(std::slice::from_ref(&input), &out, &options, &|_| {}).unwrap();
        },
        || {
            theirs.encode_batch(documents.clone(), false).unwrap();
        },
    );
    println!(
        "prepare (JSON lines to a folder) {:.2} MB/s, encode_batch {:.2} MB/s: ratio {:.2}",
        megabytes / ours,
        megabytes / theirs,
        theirs / ours
    );
}

/// A folder whose shards are large: one text, over and over, each time a little different.
fn large(dir: &tempfile::TempDir) -> PathBuf {
    let input = dir.path().join("large.txt");
    let words: String = (0..4_000_000u64).map(|i| format!("w{} ", i * i % 8191 % 97)).collect();
    fs::write(&input, words.repeat(6)).unwrap();
    let out = dir.path().join("large");
    let options = Options { vocab_size: 300, ..Options::default() };
    prepare(&[input], &out, &options, &|_| {}).unwrap();
    out
}

fn verifying(out: &Path) {
    let corpus = Corpus::open(out).unwrap();
    let files: Vec<_> = corpus.shards().iter().map(|s| s.path().to_owned()).collect();
    let bytes: u64 = files.iter().map(|f| fs::metadata(f).unwrap().len()).sum();
    let (ours, theirs) = by_turns(
        21,
        || corpus.verify(&|_| {}).unwrap(),
        || {
            for file in &files {
                blake3::Hasher::new().update_mmap_rayon(file).unwrap().finalize();
            }
        },
    );
    let rate = |seconds| bytes as f64 / 1e9 / seconds;
    println!(
        "verify {:.2} GB/s, BLAKE3 (mmap, rayon) {:.2} GB/s, of {:.0} MB: ratio {:.2}",
        rate(ours),
        rate(theirs),
        bytes as f64 / 1e6,
        theirs / ours
    );
}

fn touching(out: &Path) {
    let config = Config { dir: Some(out.to_path_buf()), ..Config::default() };
    let dataset = Dataset::open(&config, 0).unwrap();
    let count = dataset.num_train_sequences(1024).unwrap().min(2000);
    let read = || {
        let begun = Instant::now();
        (0..count).for_each(|i| drop(dataset.train_sequence(i * 7919 % count, 1024).unwrap()));
        begun.elapsed().as_secs_f64() / count as f64 * 1e6
    };
    let (first, again) = (read(), read());
    println!("a sequence of 1024: first touch {first:.1} us, again {again:.1} us");
}

fn proving(out: &Path) {
    let corpus = Corpus::open(out).unwrap();
    let proof = corpus.prove(Part::Training, 12_345, 1024).unwrap();
    let begun = Instant::now();
    for _ in 0..1000 {
        check_proof(&proof).unwrap();
    }
    let check = begun.elapsed().as_secs_f64() * 1e3;
    println!("proof of this folder: {} bytes, checked in {check:.1} us", proof.len());
    // A billion sequences of 1024 two-byte tokens in shards of 2^26 tokens.
    let tokens = 1_000_000_000u64 * 1024;
    let shards = tokens.div_ceil(1 << 26);
    let head = 8 + 124 + 13;
    let len = 2u64 << 26;
    let mut sizes = Vec::new();
    for i in 0..200_000u64 {
        let start = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % ((1 << 26) - 1025) * 2;
        let slice = ByteTree::slice_range(&(start..start + 2050), len);
        let path = merkle::path_len(i % shards, shards);
        sizes.push(
            head + 24
                + (slice.end - slice.start) as usize
                + 32 * (ByteTree::beside(len, &slice) + path),
        );
    }
    sizes.sort_unstable();
    let leaves = vec![Hash([1; 32]); shards as usize];
    let begun = Instant::now();
    merkle::root(&leaves).unwrap();
    println!(
        "at 10^9 sequences ({shards} shards): proofs of {} bytes (median), {} (largest of {}); 2050 are \
         the tokens; root over the shards in {:.1} ms",
        sizes[sizes.len() / 2],
        sizes[sizes.len() - 1],
        sizes.len(),
        begun.elapsed().as_secs_f64() * 1e3
    );
}

fn main() {
    let files: Vec<PathBuf> =
        std::env::args().skip(1).filter(|a| !a.starts_with("--")).map(PathBuf::from).collect();
    // `cargo test --benches` only wants to know that it runs.
    if std::env::args().any(|a| a == "--test") {
        return;
    }
    let dir = tempfile::TempDir::new().unwrap();
    let out = large(&dir);
    verifying(&out);
    touching(&out);
    proving(&out);
    if !files.is_empty() {
        encoding(&files, &dir);
    }
}
