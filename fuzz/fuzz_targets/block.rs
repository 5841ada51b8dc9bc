//! Any bytes as a block of any codec. The first six choose codec and number of elements.
#![no_main]

#[allow(dead_code, reason = "shared with the other target")]
#[path = "../../tests/codec/hostile.rs"]
mod hostile;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let [a, b, c, d, e, f, bytes @ ..] = bytes else { return };
    let codec = hostile::codec([*a, *b, *c]);
    hostile::block(codec.as_ref(), hostile::elements([*d, *e, *f]), bytes);
});
