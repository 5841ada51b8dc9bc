//! What codecs promise for any values.

use neuroshard::codec::Codes;
use neuroshard::codec::Config;
use neuroshard::codec::Kind;
use neuroshard::codec::Support;
use proptest::prelude::*;

use super::KINDS;
use super::codec;
use super::hostile;

/// Finite numbers: any bits, or such as updates have.
fn values() -> impl Strategy<Value = Vec<f32>> {
    let any = any::<u32>().prop_map(|bits| match f32::from_bits(bits) {
        x if x.is_finite() => x,
        x => f32::from_bits(x.to_bits() & 0x807f_ffff),
    });
    let usual = (-1.0f32..1.0).prop_map(|x| x * x * x * 1e-3);
    let few = prop::sample::select(vec![0.0f32, -0.0, 1.0, -1.0, 0.5, 3.0, 1e-39, -1e38]);
    let lengths = || prop::sample::select(vec![1usize, 2, 7, 64, 255, 256, 257, 600, 4095, 4097]);
    lengths().prop_flat_map(move |n| {
        prop_oneof![
            prop::collection::vec(any.clone(), n),
            prop::collection::vec(usual.clone(), n),
            prop::collection::vec(few.clone(), n),
        ]
    })
}

/// How far `decoded` may be from `x` in a chunk whose largest magnitude is `most`.
fn bound(kind: Kind, x: f64, most: f64) -> f64 {
    let tiny = 2f64.powi(-126);
    // Beyond what codes reach, values are clipped.
    let clipped = |reach: f64| (x.abs() - reach).max(0.0);
    match kind {
        Kind::F32 => (most * 2f64.powi(-24)).max(tiny) + clipped(2f64.powi(127)),
        Kind::Bf16 => {
            (x.abs() * 2f64.powi(-8)).max(most * 2f64.powi(-23)).max(tiny)
                + clipped(255.0 * 2f64.powi(119))
        }
        // Steps of at most an 64th of the largest, or one clipped by fewer than 19 of them.
        Kind::Int8 => (most * 19.0 / 64.0).max(tiny) + clipped(127.0 * 2f64.powi(103)),
        Kind::E3m0 => {
            // Half of the smallest level, of which 64 are at most 4/3 of the largest.
            let smallest = most * 4.0 / 3.0 * 2f64.powi(-6);
            (x.abs() / 2.0).max(smallest / 2.0).max(tiny) + clipped(2f64.powi(109))
        }
        Kind::Sign | Kind::TopK => f64::INFINITY,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn what_is_decoded_is_what_the_encoder_said(values in values(), k in 1usize..=4096) {
        for kind in KINDS {
            let codec = codec(kind, k);
            let (mut codes, mut bytes) = (Codes::default(), Vec::new());
            codec.encode(&values, &mut codes, &mut bytes);
            let mut decoded = Codes::default();
            codec.decode(&bytes, values.len(), &mut decoded).unwrap();
            prop_assert_eq!(&codes, &decoded, "{:?}", kind);
            prop_assert!(hostile::block(codec.as_ref(), values.len(), &bytes), "{:?}", kind);
            let mut floats = vec![f32::NAN; values.len()];
            codes.write_to(&mut floats);
            for (xs, ds) in values.chunks(4096).zip(floats.chunks(4096)) {
                let most = xs.iter().fold(0.0f64, |most, x| most.max(f64::from(x.abs())));
                for (x, d) in xs.iter().zip(ds) {
                    let (x, d) = (f64::from(*x), f64::from(*d));
                    prop_assert!((x - d).abs() <= bound(kind, x, most), "{:?}: {} {}", kind, x, d);
                    let has_sign = d != 0.0 && x.abs() >= 2f64.powi(-126);
                    prop_assert!(!has_sign || (d < 0.0) == (x < 0.0), "{:?}: {} {}", kind, x, d);
                }
            }
        }
    }

    /// Places by sorting, levels against the best power of two.
    #[test]
    fn top_k_sends_the_largest(values in values(), k in 1usize..=4096) {
        let codec = Config { kind: Kind::TopK, k }.codec().unwrap();
        let mut codes = Codes::default();
        codec.encode(&values, &mut codes, &mut Vec::new());
        for (xs, chunk) in values.chunks(4096).zip(codes.chunks()) {
            let Support::Sparse(places) = chunk.support else { panic!("sparse") };
            let magnitude = |i: usize| xs[i].abs();
            let most = xs.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            let floor = f32::from_bits((most.to_bits().saturating_sub(16 << 23)).max(4 << 23));
            let mut order: Vec<usize> = (0..xs.len()).filter(|&i| magnitude(i) >= floor).collect();
            order.sort_by(|&a, &b| magnitude(b).total_cmp(&magnitude(a)).then(a.cmp(&b)));
            order.truncate((k * xs.len()).div_ceil(4096));
            order.sort_unstable();
            let places: Vec<usize> = places.iter().map(|&p| usize::from(p)).collect();
            prop_assert_eq!(places, order);
        }
    }
}
