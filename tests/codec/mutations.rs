//! Many mutated messages: flipped, cut, spliced, and made of nothing.
//!
//! The same bodies run for longer, guided by coverage, under cargo-fuzz: see fuzz/README.md.

use neuroshard::codec::Codec;
use neuroshard::codec::Codes;
use neuroshard::codec::encode;

use super::hostile;
use super::next;

/// Messages of each kind.
const BLOCKS: usize = 200_000;
const UPDATES: usize = 20_000;

/// Changes `bytes` in one of the ways that a fuzzer has.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], state: &mut u32) {
    let mut below = |n: usize| (next(state) >> 8) as usize % n.max(1);
    for _ in 0..1 + below(3) {
        let (length, way) = (bytes.len(), below(8));
        match way {
            _ if bytes.is_empty() => bytes.push(below(256) as u8),
            0..=2 => bytes[below(length)] ^= 1 << below(8),
            3 => bytes[below(length)] = [0, 1, 127, 128, 255, below(256) as u8][below(6)],
            4 => bytes.truncate(below(length)),
            5 => bytes.extend((0..1 + below(9)).map(|_| if below(2) == 0 { 0 } else { 255 })),
            6 => drop(bytes.remove(below(length))),
            _ => {
                bytes.truncate(below(length));
                bytes.extend_from_slice(&other[below(other.len())..]);
            }
        }
    }
}

/// Values of a kind that a few bits choose: few or many exponents, few distinct values, gaps.
fn values(elements: usize, state: &mut u32) -> Vec<f32> {
    let kind = next(state) >> 29;
    let mut value = |i: usize| {
        let bits = next(state);
        f32::from_bits(match kind {
            0 => bits & 0x807f_ffff | (bits >> 23 & 255).min(254) << 23,
            1 => bits & 0x8000_0000 | 0x3f80_0000,
            2 => bits & 0x8040_0000 | (120 + (bits >> 9 & 3)) << 23,
            3 if i % 61 > 3 => 0,
            _ => bits & 0x807f_ffff | (118 + (bits >> 24 & 7)) << 23,
        })
    };
    (0..elements).map(&mut value).collect()
}

fn encoded(codec: &dyn Codec, elements: usize, state: &mut u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec.encode(&values(elements, state), &mut Codes::default(), &mut bytes);
    bytes
}

fn bytes_of(state: &mut u32) -> [u8; 3] {
    [(); 3].map(|()| (next(state) >> 24) as u8)
}

#[test]
fn mutated_blocks_are_refused_or_have_one_encoding() {
    let (mut state, mut accepted, mut done) = (1, 0, 0);
    while done < BLOCKS {
        let codec = hostile::codec(bytes_of(&mut state));
        // Large ones now and then.
        let mut choice = bytes_of(&mut state);
        choice[0] = if done % 4000 < 40 { choice[0] } else { choice[0] % 2 };
        let elements = hostile::elements(choice).min(20_000);
        let whole = encoded(codec.as_ref(), elements, &mut state);
        let other = encoded(codec.as_ref(), elements, &mut state);
        assert!(hostile::block(codec.as_ref(), elements, &whole));
        for _ in 0..40 {
            let mut bytes = whole.clone();
            mutate(&mut bytes, &other, &mut state);
            accepted += usize::from(hostile::block(codec.as_ref(), elements, &bytes));
            done += 1;
        }
        let nothing: Vec<u8> =
            (0..next(&mut state) >> 26).map(|_| bytes_of(&mut state)[0]).collect();
        accepted += usize::from(hostile::block(codec.as_ref(), elements, &nothing));
    }
    // A changed sign or place is another update, so some must be accepted.
    assert!(accepted > BLOCKS / 100 && accepted < BLOCKS, "{accepted} of {done} accepted");
}

#[test]
fn mutated_updates_are_refused_or_have_one_encoding() {
    let (mut state, mut accepted, mut done) = (2, 0, 0);
    let layout = hostile::layout();
    while done < UPDATES {
        let codec = hostile::codec(bytes_of(&mut state));
        let mut whole = || {
            let mut values = values(layout.elements(), &mut state);
            encode(codec.as_ref(), &layout, &hostile::ABOUT, &mut values).unwrap()
        };
        let (whole, other) = (whole(), whole());
        assert!(hostile::update(codec.as_ref(), &whole));
        for _ in 0..100 {
            let mut bytes = whole.clone();
            mutate(&mut bytes, &other, &mut state);
            accepted += usize::from(hostile::update(codec.as_ref(), &bytes));
            done += 1;
        }
    }
    assert!(accepted > UPDATES / 100 && accepted < UPDATES, "{accepted} of {done} accepted");
}
