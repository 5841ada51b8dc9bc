//! Any bytes as a whole update. The first three choose the codec.
#![no_main]

#[allow(dead_code, reason = "shared with the other target")]
#[path = "../../tests/codec/hostile.rs"]
mod hostile;

use std::cell::RefCell;
use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use neuroshard::codec::Codec;
use neuroshard::codec::Codes;
use neuroshard::codec::encode;

thread_local! {
    /// Headers by what they say of their codec: making one takes longer than all else here.
    static HEADERS: RefCell<BTreeMap<Vec<u8>, Vec<u8>>> = RefCell::default();
}

/// The header that an update of `codec` must have.
fn header(codec: &dyn Codec) -> Vec<u8> {
    let make = || {
        let layout = hostile::layout();
        let mut values = vec![0.0; layout.elements()];
        let mut whole = encode(codec, &layout, &hostile::ABOUT, &mut values).expect("finite");
        whole.truncate(5 + codec.spec().len() + 32 + 32 + 8 + 4);
        whole
    };
    HEADERS.with_borrow_mut(|all| all.entry(codec.spec()).or_insert_with(make).clone())
}

fuzz_target!(|bytes: &[u8]| {
    let [a, b, c, bytes @ ..] = bytes else { return };
    let codec = hostile::codec([*a, *b, *c]);
    hostile::update(codec.as_ref(), bytes);
    // With the header that it must have, so that most of the time is spent on what follows it.
    let mut whole = header(codec.as_ref());
    whole.extend_from_slice(bytes);
    hostile::update(codec.as_ref(), &whole);
    codec.decode(bytes, 5000, &mut Codes::default()).ok();
});
