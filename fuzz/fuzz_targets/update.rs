//! Any bytes as a whole update. The first three choose the codec.
#![no_main]

#[allow(dead_code, reason = "shared with the other target")]
#[path = "../../tests/codec/hostile.rs"]
mod hostile;

use libfuzzer_sys::fuzz_target;
use neuroshard::codec::Codes;

fuzz_target!(|bytes: &[u8]| {
    let [a, b, c, bytes @ ..] = bytes else { return };
    let codec = hostile::codec([*a, *b, *c]);
    hostile::update(codec.as_ref(), bytes);
    // With the header that it must have, so that most of the time is spent on what follows it.
    let mut values = vec![0.0; hostile::layout().elements()];
    let layout = hostile::layout();
    let zeros = neuroshard::codec::encode(codec.as_ref(), &layout, &hostile::ABOUT, &mut values);
    let mut whole = zeros.expect("finite");
    whole.truncate(5 + codec.spec().len() + 32 + 32 + 8 + 4);
    whole.extend_from_slice(bytes);
    hostile::update(codec.as_ref(), &whole);
    codec.decode(bytes, 5000, &mut Codes::default()).ok();
});
