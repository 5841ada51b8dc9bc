//! Bytes that an independent implementation of docs/WIRE.md made (scripts/golden/make_updates.py).

use neuroshard::codec::About;
use neuroshard::codec::Codes;
use neuroshard::codec::Config;
use neuroshard::codec::Kind;
use neuroshard::codec::Layout;
use neuroshard::codec::Update;
use neuroshard::codec::encode;
use neuroshard::crypto::Hash;

use super::codec;
use super::next;

fn kind(name: &str) -> Kind {
    #[derive(serde::Deserialize)]
    struct Table {
        kind: Kind,
    }
    toml::from_str::<Table>(&format!("kind = \"{name}\"")).unwrap().kind
}

/// As `generate` of the script.
fn generate(kind: &str, seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let value = |i: usize| {
        let bits = next(&mut state);
        let (rest, exponent) = (bits & 0x807f_ffff, bits >> 23 & 255);
        f32::from_bits(match kind {
            "any" => rest | exponent.min(254) << 23,
            "wide" => rest | (118 + (bits >> 24 & 7)) << 23,
            "rows" => {
                let lower = if !i.is_multiple_of(64) && bits >> 8 & 1023 > 0 { 10 } else { 0 };
                rest | (118 - lower + (bits >> 24 & 7)) << 23
            }
            _ => panic!("{kind}"),
        })
    };
    (0..count).map(value).collect()
}

fn input(text: &str) -> Vec<f32> {
    if let [kind, seed, count] = text.split(':').collect::<Vec<_>>()[..] {
        return generate(kind, seed.parse().unwrap(), count.parse().unwrap());
    }
    let number = |digits| f32::from_bits(u32::from_str_radix(digits, 16).unwrap());
    text.split(',').map(number).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}

fn check_block(codec_name: &str, k: usize, values: &[f32], expected: &str) {
    let codec = Config { kind: kind(codec_name), k }.codec().unwrap();
    let (mut codes, mut decoded, mut out) = (Codes::default(), Codes::default(), Vec::new());
    codec.encode(values, &mut codes, &mut out);
    assert_eq!(hex(&out), expected, "{codec_name} {k} {values:?}");
    codec.decode(&bytes(expected), values.len(), &mut decoded).unwrap();
    assert_eq!(codes, decoded, "{codec_name} {k} {values:?}");
}

fn check_update(codec_name: &str, k: usize, tensors: &str, values: &[f32], expected: &str) {
    let tensors = tensors.split(',').map(|tensor| {
        let (name, elements) = tensor.split_once(':').unwrap();
        (name, elements.parse().unwrap())
    });
    let layout = Layout::new(tensors);
    let about = About { job: Hash([7; 32]), round: 258, fragment: 3 };
    let codec = codec(kind(codec_name), k);
    let out = encode(codec.as_ref(), &layout, &about, &mut values.to_vec()).unwrap();
    assert_eq!(hex(&out), expected, "{codec_name}");
    Update::parse(&bytes(expected), codec.as_ref(), &layout, &about).unwrap();
}

#[test]
fn another_implementation_makes_the_same_bytes() {
    let mut counts = [0; 2];
    for line in include_str!("../golden/updates.txt").lines().filter(|l| !l.starts_with('#')) {
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["block", codec, k, values, expected] => {
                check_block(codec, k.parse().unwrap(), &input(values), expected);
                counts[0] += 1;
            }
            ["update", codec, k, tensors, values, expected] => {
                check_update(codec, k.parse().unwrap(), tensors, &input(values), expected);
                counts[1] += 1;
            }
            _ => panic!("{line}"),
        }
    }
    assert!(counts[0] > 100 && counts[1] == 4, "{counts:?} lines");
    assert!(include_str!("../../docs/WIRE.md").contains("04 f0 6a c9 02"), "the example's block");
}
