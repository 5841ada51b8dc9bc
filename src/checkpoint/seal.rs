//! The seal of a manifest: the BLAKE3 hash of the whole text with the seal's own 64 digits replaced
//! by zeros.

/// Stands for the seal while it is computed.
pub const UNSEALED: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// `text`, with its seal in place of the first [`UNSEALED`].
pub fn seal(text: &str) -> String {
    text.replacen(UNSEALED, &blake3::hash(text.as_bytes()).to_hex(), 1)
}

/// Whether `seal` is the hash of `text` without it.
pub fn seal_holds(text: &[u8], seal: &str) -> bool {
    let Ok(text) = std::str::from_utf8(text) else { return false };
    seal.len() == UNSEALED.len()
        && blake3::hash(text.replacen(seal, UNSEALED, 1).as_bytes()).to_hex().as_str() == seal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_holds_and_any_other_does_not() {
        let sealed = seal(&format!("{{\"seal\": \"{UNSEALED}\", \"n\": 1}}"));
        let digits = &sealed[10..74];
        assert!(seal_holds(sealed.as_bytes(), digits));
        assert!(!seal_holds(sealed.replace('1', "2").as_bytes(), digits));
        assert!(!seal_holds(sealed.as_bytes(), UNSEALED));
        assert!(!seal_holds(sealed.as_bytes(), ""));
        assert!(!seal_holds(&[0xff], digits));
    }
}
