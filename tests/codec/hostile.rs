//! What must hold for any bytes whatever. The bodies of the fuzz targets (fuzz/) and of the
//! mutations that run in the tests.

use neuroshard::codec::About;
use neuroshard::codec::BLOCK;
use neuroshard::codec::Codec;
use neuroshard::codec::Codes;
use neuroshard::codec::Config;
use neuroshard::codec::Kind;
use neuroshard::codec::Layout;
use neuroshard::codec::MAX_CODE;
use neuroshard::codec::MAX_EXPONENT;
use neuroshard::codec::MIN_EXPONENT;
use neuroshard::codec::Stream;
use neuroshard::codec::Support;
use neuroshard::codec::Update;
use neuroshard::codec::encode;
use neuroshard::crypto::Hash;

/// Number of elements that three bytes choose: mostly few.
pub fn elements(choice: [u8; 3]) -> usize {
    let [kind, low, high] = choice.map(usize::from);
    match kind % 4 {
        0 => 1 + low % 20,
        1 => 1 + low * 16 + high % 16,
        2 => 4090 + low % 12,
        _ => 1 + (high * 256 + low) % (BLOCK / 8),
    }
}

/// The codec that three bytes choose.
pub fn codec(choice: [u8; 3]) -> Box<dyn Codec> {
    let kinds = [Kind::TopK, Kind::F32, Kind::Bf16, Kind::Int8, Kind::E3m0, Kind::Sign];
    let ks =
        [64, 1, 3, 33, 700, 4096, 1 + usize::from(choice[1]) * 16 + usize::from(choice[2]) / 16];
    // Half of all are the default.
    let kind = kinds[usize::from(choice[0] % 12).saturating_sub(6)];
    let config = Config { kind, k: ks[usize::from(choice[0] / 12) % ks.len()].min(4096) };
    config.codec().expect("k is in bounds")
}

/// Decodes `bytes`; what is accepted must be within all bounds and have no other bytes. Returns
/// whether it was accepted.
pub fn block(codec: &dyn Codec, elements: usize, bytes: &[u8]) -> bool {
    let mut codes = Codes::default();
    if codec.decode(bytes, elements, &mut codes).is_err() {
        return false;
    }
    assert!(bytes.len() <= codec.max_bytes(elements), "{} bytes", bytes.len());
    let mut total = 0;
    for chunk in codes.chunks() {
        total += chunk.elements;
        assert!((MIN_EXPONENT..=MAX_EXPONENT).contains(&chunk.exponent));
        assert!(chunk.values.iter().all(|value| value.abs() <= MAX_CODE));
        match chunk.support {
            Support::Dense => assert_eq!(chunk.values.len(), chunk.elements),
            Support::Sparse(places) => {
                assert_eq!(chunk.values.len(), places.len());
                assert!(places.is_sorted_by(|a, b| a < b));
                assert!(places.last().is_none_or(|&place| usize::from(place) < chunk.elements));
                assert!(!chunk.values.contains(&0));
            }
        }
    }
    assert_eq!(total, elements);
    let mut values = vec![f32::NAN; elements];
    codes.write_to(&mut values);
    assert!(values.iter().all(|x| x.is_normal() || x.to_bits() == 0));
    let (mut codes_again, mut again) = (Codes::default(), Vec::new());
    codec.encode(&values, &mut codes_again, &mut again);
    assert_eq!(again, bytes, "one encoding");
    assert_eq!(codes_again, codes);
    true
}

/// The layout of [`update`].
pub fn layout() -> Layout {
    Layout::new([("embedding", 5000), ("norm", 3), ("nothing", 0), ("head", 4097)])
}

/// What [`update`] is about.
pub const ABOUT: About = About { job: Hash([7; 32]), round: 258, fragment: 3 };

/// Reads `bytes` as a whole update, at once and as a stream, which must agree; what is accepted
/// has no other bytes. Returns whether it was accepted.
pub fn update(codec: &dyn Codec, bytes: &[u8]) -> bool {
    let layout = layout();
    let streamed = stream(codec, &layout, bytes);
    let read = at_once(codec, &layout, bytes);
    assert_eq!(streamed.is_some(), read.is_some(), "a stream and a slice of the same bytes");
    let Some(mut values) = read else { return false };
    assert_eq!(streamed.as_ref(), Some(&values));
    let again = encode(codec, &layout, &ABOUT, &mut values).expect("finite");
    assert_eq!(again, bytes, "one encoding");
    true
}

fn at_once(codec: &dyn Codec, layout: &Layout, bytes: &[u8]) -> Option<Vec<f32>> {
    let update = Update::parse(bytes, codec, layout, &ABOUT).ok()?;
    let (mut codes, mut values) = (Codes::default(), vec![f32::NAN; layout.elements()]);
    for (i, block) in layout.blocks().iter().enumerate() {
        update.block(i, &mut codes).ok()?;
        codes.write_to(&mut values[block.clone()]);
    }
    Some(values)
}

fn stream(codec: &dyn Codec, layout: &Layout, bytes: &[u8]) -> Option<Vec<f32>> {
    let mut stream = Stream::open(bytes, codec, layout, &ABOUT).ok()?;
    let (mut codes, mut values) = (Codes::default(), vec![f32::NAN; layout.elements()]);
    while let Some(i) = stream.block(&mut codes).ok()? {
        codes.write_to(&mut values[layout.blocks()[i].clone()]);
    }
    Some(values)
}
