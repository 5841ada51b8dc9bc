//! Checkpoints against the machine: writing and reading against the disk's sequential speed, the
//! stop of training against a copy in memory, hashing against BLAKE3 itself on the same threads.
//!
//! `cargo bench --bench checkpoint`; `-- disk` or `-- checkpoint_hash` for a part. As a test
//! (`cargo test --benches`) a small state.
#![allow(unsafe_code, reason = "a mapped file, as BLAKE3's own tool reads it")]

mod disk;

use std::io::Write;

use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use neuroshard::checkpoint::hash_bytes;
use neuroshard::checkpoint::hash_range;

fn hashing(criterion: &mut Criterion) {
    let as_test = !std::env::args().any(|arg| arg == "--bench");
    let len: usize = if as_test { 1 << 20 } else { 512 << 20 };
    let bytes: Vec<u8> = (0..len).map(|i| ((i * 2_654_435_761) >> 7) as u8).collect();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    assert_eq!(hash_range(&file, 0, len as u64).unwrap(), hash_bytes(&bytes));

    let mut group = criterion.benchmark_group("checkpoint_hash");
    group.sample_size(10).throughput(Throughput::Bytes(len as u64));
    group.bench_function("ours, file in the page cache", |b| {
        b.iter(|| hash_range(&file, 0, len as u64).unwrap());
    });
    group.bench_function("blake3 update_rayon, memory", |b| {
        b.iter(|| {
            let mut hasher = blake3::Hasher::new();
            hasher.update_rayon(&bytes);
            hasher.finalize()
        });
    });
    group.bench_function("blake3 update_rayon, file mapped anew", |b| {
        b.iter(|| {
            // SAFETY: nobody else knows this file.
            let mapped = unsafe { memmap2::Mmap::map(&file).unwrap() };
            let mut hasher = blake3::Hasher::new();
            hasher.update_rayon(&mapped);
            hasher.finalize()
        });
    });
    group.finish();
}

criterion_group!(benches, hashing);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let filter = arguments.iter().find(|a| !a.starts_with('-'));
    if filter.is_none_or(|f| f == "disk") {
        disk::run(arguments.iter().any(|a| a == "--bench"));
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
