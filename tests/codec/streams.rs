//! Whole updates: headers, streams, threads, residuals.

use std::io;

use neuroshard::codec::About;
use neuroshard::codec::BLOCK;
use neuroshard::codec::Codes;
use neuroshard::codec::Error;
use neuroshard::codec::Kind;
use neuroshard::codec::Layout;
use neuroshard::codec::Stream;
use neuroshard::codec::Update;
use neuroshard::codec::encode;
use neuroshard::codec::encode_to;
use neuroshard::crypto::Hash;

use super::KINDS;
use super::codec;
use super::hostile::ABOUT;
use super::next;

fn values(layout: &Layout) -> Vec<f32> {
    let mut state = 5;
    let value = |_| {
        let bits = next(&mut state);
        f32::from_bits(bits & 0x807f_ffff | (118 + (bits >> 24 & 7)) << 23)
    };
    (0..layout.elements()).map(value).collect()
}

#[test]
fn an_update_comes_back_and_leaves_its_residual() {
    let layout = Layout::new([("a", 5), ("b", BLOCK + 3), ("c", 0), ("d", 1)]);
    let values = values(&layout);
    for kind in KINDS {
        let codec = codec(kind, 64);
        let mut residual = values.clone();
        let bytes = encode(codec.as_ref(), &layout, &ABOUT, &mut residual).unwrap();
        let update = Update::parse(&bytes, codec.as_ref(), &layout, &ABOUT).unwrap();
        let (mut codes, mut decoded) = (Codes::default(), vec![f32::NAN; values.len()]);
        for (i, block) in layout.blocks().iter().enumerate() {
            update.block(i, &mut codes).unwrap();
            codes.write_to(&mut decoded[block.clone()]);
        }
        for ((v, d), r) in values.iter().zip(&decoded).zip(&residual) {
            assert_eq!(v - d, *r, "{kind:?}");
        }
    }
}

/// A writer that takes few bytes at a time and fails in the end.
struct Narrow {
    bytes: Vec<u8>,
    room: usize,
}

impl io::Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(1000).min(self.room - self.bytes.len());
        if count == 0 {
            return Err(io::Error::other("no room"));
        }
        self.bytes.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn neither_threads_nor_streams_show_in_the_bytes() {
    let layout = Layout::new([("a", 3 * BLOCK + 1), ("b", 70), ("c", 2 * BLOCK)]);
    let values = values(&layout);
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let (codec, mut rest) = (codec(Kind::TopK, 64), values.clone());
        let bytes = pool.install(|| encode(codec.as_ref(), &layout, &ABOUT, &mut rest)).unwrap();
        (bytes, rest)
    };
    let (bytes, rest) = on(1);
    assert_eq!(on(4), (bytes.clone(), rest.clone()));
    let codec = codec(Kind::TopK, 64);
    let mut narrow = Narrow { bytes: Vec::new(), room: usize::MAX };
    let mut left = values.clone();
    let written = encode_to(&mut narrow, codec.as_ref(), &layout, &ABOUT, &mut left).unwrap();
    assert_eq!((written, &narrow.bytes, &left), (bytes.len() as u64, &bytes, &rest));
    let mut narrow = Narrow { bytes: Vec::new(), room: bytes.len() - 1 };
    let error = encode_to(&mut narrow, codec.as_ref(), &layout, &ABOUT, &mut values.clone());
    assert!(matches!(error, Err(Error::Io { done: "written", .. })), "{error:?}");

    let mut stream = Stream::open(&bytes[..], codec.as_ref(), &layout, &ABOUT).unwrap();
    let update = Update::parse(&bytes, codec.as_ref(), &layout, &ABOUT).unwrap();
    let (mut streamed, mut parsed) = (Codes::default(), Codes::default());
    for i in 0..layout.blocks().len() {
        assert_eq!(stream.block(&mut streamed).unwrap(), Some(i));
        update.block(i, &mut parsed).unwrap();
        assert_eq!(streamed, parsed);
    }
    assert_eq!(stream.block(&mut streamed), Ok(None));
}

/// Bytes that never end.
struct Endless;

impl io::Read for Endless {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        bytes.fill(255);
        Ok(bytes.len())
    }
}

#[test]
fn a_stream_takes_no_more_than_it_must() {
    let layout = Layout::new([("a", 3 * BLOCK)]);
    let (codec, mut values) = (codec(Kind::TopK, 64), values(&layout));
    let bytes = encode(codec.as_ref(), &layout, &ABOUT, &mut values).unwrap();
    // After the header a length of 4 GiB, then bytes without end: refused by the length alone.
    let header = 5 + 3 + 32 + 32 + 8 + 4;
    let endless = io::Read::chain(&bytes[..header], Endless);
    let mut stream = Stream::open(endless, codec.as_ref(), &layout, &ABOUT).unwrap();
    let error = stream.block(&mut Codes::default()).unwrap_err();
    let Error::Block { block: 0, source } = error else { panic!("{error:?}") };
    assert!(matches!(*source, Error::NotCanonical { .. }), "{source:?}");
    for cut in [0, 3, header - 1, header, header + 3, header + 4, bytes.len() - 1] {
        let read = || -> Result<(), Error> {
            let mut stream = Stream::open(&bytes[..cut], codec.as_ref(), &layout, &ABOUT)?;
            while stream.block(&mut Codes::default())?.is_some() {}
            Ok(())
        };
        let truncated = match read().unwrap_err() {
            Error::Block { source, .. } => *source,
            error => error,
        };
        assert!(matches!(truncated, Error::Truncated { .. }), "{cut}: {truncated:?}");
    }
}

#[test]
fn every_field_of_a_header_has_its_own_error() {
    let layout = Layout::new([("a", 100)]);
    let codec_64 = codec(Kind::TopK, 64);
    let mut values = values(&layout);
    let bytes = encode(codec_64.as_ref(), &layout, &ABOUT, &mut values).unwrap();
    let parse = |bytes: &[u8], layout: &Layout, about: &About| {
        Update::parse(bytes, codec_64.as_ref(), layout, about).map(drop).unwrap_err()
    };
    let mut newer = bytes.clone();
    newer[3] = b'2';
    assert_eq!(
        parse(&newer, &layout, &ABOUT),
        Error::Format { found: *b"NSU2", expected: *b"NSU1" }
    );
    let other = Layout::new([("b", 100)]);
    assert!(matches!(parse(&bytes, &other, &ABOUT), Error::OtherLayout { .. }));
    let field = |about: &About| match parse(&bytes, &layout, about) {
        Error::Other { field, .. } => field,
        error => panic!("{error:?}"),
    };
    assert_eq!(field(&About { job: Hash([8; 32]), ..ABOUT }), "job");
    assert_eq!(field(&About { round: 259, ..ABOUT }), "round");
    assert_eq!(field(&About { fragment: 4, ..ABOUT }), "fragment");
    for (kind, k) in [(Kind::TopK, 65), (Kind::F32, 64), (Kind::Sign, 64)] {
        let codec = codec(kind, k);
        let error = Update::parse(&bytes, codec.as_ref(), &layout, &ABOUT).unwrap_err();
        assert!(matches!(error, Error::Other { field: "codec", .. }), "{kind:?}: {error:?}");
    }
    let mut longer = bytes.clone();
    longer.push(0);
    let excess = Error::Excess { bytes: 1, place: "the update" };
    assert_eq!(parse(&longer, &layout, &ABOUT), excess);
    for cut in 0..bytes.len() {
        let error = parse(&bytes[..cut], &layout, &ABOUT);
        let truncated = match &error {
            Error::Block { source, .. } => source,
            error => error,
        };
        assert!(matches!(truncated, Error::Truncated { .. }), "{cut}: {error:?}");
    }
}

#[test]
fn what_is_not_finite_is_refused_with_its_place() {
    let layout = Layout::new([("a", 10), ("b", 5000)]);
    for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for place in [0, 9, 10, 4106, 5009] {
            let mut values = values(&layout);
            values[place] = bad;
            let before: Vec<u32> = values.iter().map(|x| x.to_bits()).collect();
            for kind in KINDS {
                let codec = codec(kind, 64);
                let error = encode(codec.as_ref(), &layout, &ABOUT, &mut values).unwrap_err();
                assert_eq!(error, Error::NonFinite { element: place });
                assert!(values.iter().map(|x| x.to_bits()).eq(before.iter().copied()));
            }
        }
    }
}
