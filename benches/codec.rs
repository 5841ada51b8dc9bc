//! Codecs on one thread: blocks of normal numbers to bytes and back; bytes of f32 as throughput.
//!
//! `cargo bench --bench codec`. As a test (`cargo test --benches`) every case runs once.

use std::hint::black_box;

use criterion::Criterion;
use criterion::Throughput;
use criterion::criterion_group;
use criterion::criterion_main;
use neuroshard::codec::About;
use neuroshard::codec::BLOCK;
use neuroshard::codec::Codes;
use neuroshard::codec::Config;
use neuroshard::codec::Kind;
use neuroshard::codec::Layout;
use neuroshard::codec::Update;
use neuroshard::codec::encode;
use neuroshard::crypto::Hash;
use neuroshard::rng::Address;
use neuroshard::rng::Purpose;
use neuroshard::rng::fill_normal;

/// 16 MiB of f32: past the second cache.
const BLOCKS: usize = 16;

const KINDS: [(&str, Kind, usize); 8] = [
    ("f32", Kind::F32, 64),
    ("bf16", Kind::Bf16, 64),
    ("int8", Kind::Int8, 64),
    ("e3m0", Kind::E3m0, 64),
    ("sign", Kind::Sign, 64),
    ("top_k/16", Kind::TopK, 16),
    ("top_k/64", Kind::TopK, 64),
    ("top_k/256", Kind::TopK, 256),
];

const ABOUT: About = About { job: Hash([7; 32]), round: 1, fragment: 0 };

fn values() -> Vec<f32> {
    let mut values = vec![0.0; BLOCKS * BLOCK];
    fill_normal(Address { seed: 1, purpose: Purpose::Test, step: 0, index: 0 }, 1e-3, &mut values);
    values
}

fn blocks(criterion: &mut Criterion) {
    let values = values();
    let bytes = Throughput::Bytes(4 * values.len() as u64);
    for (name, kind, k) in KINDS {
        let codec = Config { kind, k }.codec().expect("k is in bounds");
        let mut group = criterion.benchmark_group(format!("codec/{name}"));
        group.throughput(bytes.clone()).sample_size(10);
        let (mut codes, mut out) = (Codes::default(), Vec::new());
        group.bench_function("encode", |bencher| {
            bencher.iter(|| {
                for block in values.chunks(BLOCK) {
                    out.clear();
                    codec.encode(black_box(block), &mut codes, &mut out);
                }
            });
        });
        let encoded: Vec<Vec<u8>> = values
            .chunks(BLOCK)
            .map(|block| {
                let mut out = Vec::new();
                codec.encode(block, &mut codes, &mut out);
                out
            })
            .collect();
        group.bench_function("decode", |bencher| {
            bencher.iter(|| {
                for block in &encoded {
                    codec.decode(black_box(block), BLOCK, &mut codes).expect("ours");
                }
            });
        });
        group.finish();
    }
}

/// Whole updates, with the search for what is not finite and the residual: first of one thread,
/// then of all.
fn updates(criterion: &mut Criterion) {
    let values = values();
    let layout = Layout::new([("w", values.len())]);
    let codec = Config::default().codec().expect("the default");
    let mut group = criterion.benchmark_group("update/top_k/64");
    group.throughput(Throughput::Bytes(4 * values.len() as u64)).sample_size(10);
    let mut residual = values.clone();
    for (name, threads) in [("encode, one thread", 1), ("encode, all threads", 0)] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                residual.copy_from_slice(&values);
                let bytes = pool.install(|| encode(codec.as_ref(), &layout, &ABOUT, &mut residual));
                black_box(bytes.expect("finite"))
            });
        });
    }
    residual.copy_from_slice(&values);
    let bytes = encode(codec.as_ref(), &layout, &ABOUT, &mut residual).expect("finite");
    let mut codes = Codes::default();
    group.bench_function("decode and write, one thread", |bencher| {
        bencher.iter(|| {
            let update = Update::parse(&bytes, codec.as_ref(), &layout, &ABOUT).expect("ours");
            for (i, block) in layout.blocks().iter().enumerate() {
                update.block(i, &mut codes).expect("ours");
                codes.write_to(&mut residual[block.clone()]);
            }
        });
    });
    group.finish();
}

criterion_group!(benches, blocks, updates);
criterion_main!(benches);
