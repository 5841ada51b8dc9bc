//! Attention in every profile.

use neuroshard::ops::attention;
use neuroshard::ops::attention::Extents;
use neuroshard::tensor::DType;

use crate::case::{Profile, same, smooth};

/// Sequences, tokens, query heads, key/value heads, head width.
const PLAIN: &[[usize; 5]] = &[[1, 1, 1, 1, 2], [2, 5, 3, 1, 6], [1, 131, 2, 2, 10]];
const TENSOR_CORES: &[[usize; 5]] = &[
    [1, 1, 1, 1, 32],   // one
    [2, 17, 3, 1, 32],  // a group of three, a tail of queries
    [1, 64, 2, 2, 64],  // a block of queries
    [1, 130, 2, 1, 32], // a tile of keys and two; three blocks of queries
    [1, 70, 1, 1, 128], // the widest
];

#[test]
fn plain_attention_is_the_same() {
    for profile in [Profile::F32, Profile::Bf16] {
        PLAIN.iter().for_each(|&extents| check(profile, extents));
    }
}

#[test]
fn attention_on_tensor_cores_is_the_same() {
    TENSOR_CORES.iter().for_each(|&e| check(Profile::Tc, e));
}

fn check(profile: Profile, [sequences, seq_len, heads, kv_heads, head_dim]: [usize; 5]) {
    let extents = Extents { sequences, seq_len, heads, kv_heads, head_dim };
    let (n, width, row) = (extents.rows(), heads * head_dim, extents.qkv_width());
    same(&format!("attention {profile:?} {extents:?}"), |device| {
        let precision = device.precision(profile);
        let t = precision.activations();
        let numbers: Vec<_> = smooth(n * row, 1009).iter().map(|x| x * 3.0).collect();
        let qkv = device.put(t, &[n, row], &numbers);
        let dout = device.put(t, &[n, width], &smooth(n * width, 613));
        let mut out = device.nans(t, &[n, width]);
        let mut lse = device.nans(DType::F32, &[sequences, heads, seq_len]);
        let args = attention::Forward {
            out: out.view_mut(),
            lse: lse.view_mut(),
            qkv: qkv.view(),
            extents,
            precision,
        };
        attention::forward(device.0, args).unwrap();
        let mut dqkv = device.nans(t, &[n, row]);
        let args = attention::Backward {
            dqkv: dqkv.view_mut(),
            dout: dout.view(),
            out: out.view(),
            lse: lse.view(),
            qkv: qkv.view(),
            extents,
            precision,
        };
        attention::backward(device.0, args).unwrap();
        vec![("out", device.bits(&out)), ("lse", device.bits(&lse)), ("dqkv", device.bits(&dqkv))]
    });
}

#[test]
fn appending_is_the_same() {
    // No token; a row that is all keys and values; odd rows; a row longer than a block has threads.
    for [n, row, width] in [[0, 8, 4], [1, 6, 6], [5, 9, 3], [3, 903, 602]] {
        for t in [DType::F32, DType::Bf16] {
            same(&format!("appending {n} rows, {width} of {row} {t:?}"), |device| {
                let qkv = device.put(t, &[n, row], &smooth(n * row, 1009));
                let mut cache = device.nans(t, &[n + 2, width]);
                let rows = cache.view_mut().rows(1..n + 1);
                attention::append(device.0, attention::Append { cache: rows, qkv: qkv.view() })
                    .unwrap();
                vec![("cache", device.bits(&cache))]
            });
        }
    }
}

#[test]
fn decoding_is_the_same() {
    for profile in [Profile::F32, Profile::Bf16, Profile::Tc] {
        let (first_position, new, heads, kv_heads, head_dim) = (130, 3, 6, 2, 32);
        let extents = Extents { sequences: 1, seq_len: new, heads, kv_heads, head_dim };
        let (row, kv) = (extents.qkv_width(), 2 * kv_heads * head_dim);
        same(&format!("decoding {profile:?}"), |device| {
            let precision = device.precision(profile);
            let t = precision.activations();
            let qkv = device.put(t, &[new, row], &smooth(new * row, 1009));
            let positions = first_position + new + 2;
            let mut cache = device.put(t, &[positions, kv], &smooth(positions * kv, 997));
            let args = attention::Append {
                cache: cache.view_mut().rows(first_position..first_position + new),
                qkv: qkv.view(),
            };
            attention::append(device.0, args).unwrap();
            let mut out = device.nans(t, &[new, heads * head_dim]);
            let args = attention::Decode {
                out: out.view_mut(),
                qkv: qkv.view(),
                cache: cache.view(),
                first_position,
                extents,
                precision,
            };
            attention::decode(device.0, args).unwrap();
            vec![("cache", device.bits(&cache)), ("out", device.bits(&out))]
        });
    }
}
