//! Bits an element, everything counted: header, lengths of blocks, levels.

use neuroshard::codec::About;
use neuroshard::codec::Codes;
use neuroshard::codec::Kind;
use neuroshard::codec::Layout;
use neuroshard::codec::Update;
use neuroshard::codec::encode;
use neuroshard::crypto::Hash;
use neuroshard::rng::Address;
use neuroshard::rng::Purpose;

use super::codec;

const ABOUT: About = About { job: Hash([7; 32]), round: 1, fragment: 0 };

/// Tensors of a small model.
fn layout() -> Layout {
    Layout::new([("embedding", 3 << 18), ("norm", 192), ("ffn_in", 196_608), ("attn_out", 36_864)])
}

/// Bits an element of an update of `values`.
fn bits(kind: Kind, values: &mut [f32]) -> f64 {
    let (layout, codec) = (layout(), codec(kind, 64));
    let bytes = encode(codec.as_ref(), &layout, &ABOUT, values).unwrap();
    let update = Update::parse(&bytes, codec.as_ref(), &layout, &ABOUT).unwrap();
    let mut codes = Codes::default();
    let mut sent = 0;
    for i in 0..layout.blocks().len() {
        update.block(i, &mut codes).unwrap();
        sent += codes.chunks().map(|chunk| chunk.values.len()).sum::<usize>();
    }
    if kind == Kind::TopK {
        let all = layout.elements() * 64 / 4096;
        assert!(sent >= all && sent <= all + 4, "{sent} of {all} values");
    }
    8.0 * bytes.len() as f64 / layout.elements() as f64
}

fn normal(seed: u64, index: usize) -> f32 {
    let address = Address { seed, purpose: Purpose::Test, step: 0, index: index as u64 };
    address.normal_f32()
}

fn uniform(seed: u64, index: usize) -> f64 {
    Address { seed, purpose: Purpose::Test, step: 1, index: index as u64 }.uniform_f64()
}

/// Places of the largest are uniformly random: no code can do with less than 0.1149 bits for them.
#[test]
fn at_random_places_top_k_takes_less_than_15_hundredths_of_a_bit() {
    let n = layout().elements();
    let gaussian = (0..n).map(|i| normal(1, i) * 1e-3).collect();
    let laplacian = (0..n).map(|i| {
        let u = 2.0 * uniform(2, i) - 1.0;
        (-(1.0 - u.abs()).ln() * u.signum() * 1e-3) as f32
    });
    // The tail of Student's t with 3 degrees of freedom.
    let heavy = (0..n).map(|i| {
        let squares: f32 = (0..3).map(|j| normal(3 + j, i).powi(2)).sum();
        normal(9, i) / (squares / 3.0).sqrt()
    });
    let inputs: [(&str, Vec<f32>); 3] = [
        ("normal", gaussian),
        ("Laplacian", laplacian.collect()),
        ("Student's t", heavy.collect()),
    ];
    for (name, mut values) in inputs {
        let bits = bits(Kind::TopK, &mut values);
        println!("top_k, k = 64, {name}: {bits:.4} bits an element");
        assert!(bits <= 0.15, "{name}: {bits}");
        assert!(bits > 0.13, "{name}: {bits}, less than what random places need");
    }
}

/// Some columns and some rows of 192 have larger values, as updates of weights do.
#[test]
fn at_clustered_places_it_takes_less() {
    let n = layout().elements();
    let size =
        |i: usize| (3.0 * uniform(5, i % 192).powi(8) + 2.0 * uniform(6, i / 192).powi(8)).exp();
    let mut values: Vec<f32> = (0..n).map(|i| normal(4, i) * size(i) as f32).collect();
    let clustered = bits(Kind::TopK, &mut values);
    println!("top_k, k = 64, clustered: {clustered:.4} bits an element");
    assert!(clustered <= 0.144, "{clustered}");
}

#[test]
fn dense_codecs_take_what_the_specification_says() {
    let expected = [
        (Kind::F32, 32.0),
        (Kind::Bf16, 16.0),
        (Kind::Int8, 8.002),
        (Kind::E3m0, 4.018),
        (Kind::Sign, 1.002),
    ];
    for (kind, expected) in expected {
        let mut values: Vec<f32> = (0..layout().elements()).map(|i| normal(7, i)).collect();
        let bits = bits(kind, &mut values);
        // The header, and the lengths of nine blocks.
        assert!(bits >= expected && bits < expected + 0.002, "{kind:?}: {bits}");
    }
}
