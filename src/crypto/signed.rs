//! The signed envelope: who vouches for a payload.
//!
//! What is signed is the 32 bytes of the payload's hash in a domain, so a signature of one kind of
//! thing never passes for one of another kind.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::Domain;
use super::Hash;
use super::PeerId;
use super::SigningKey;

/// A signature and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The signer's public key.
    pub signer: PeerId,
    /// Ed25519, of the payload's hash.
    pub signature: Signature,
}

impl Signed {
    /// Signs `payload` as a thing of `domain`.
    pub fn new(key: &SigningKey, domain: Domain, payload: &[u8]) -> Self {
        let message = Hash::of(domain, payload);
        Self { signer: key.public(), signature: Signature(key.sign(message.as_bytes())) }
    }

    /// Whether the signer signed `payload` as a thing of `domain`. Strict: one signature is not
    /// accepted in two forms, and weak keys are refused.
    pub fn holds(&self, domain: Domain, payload: &[u8]) -> bool {
        let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&self.signer.0) else {
            return false;
        };
        let signature = ed25519_dalek::Signature::from_bytes(&self.signature.0);
        key.verify_strict(Hash::of(domain, payload).as_bytes(), &signature).is_ok()
    }
}

/// An Ed25519 signature. Text form: 128 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Signature(pub [u8; 64]);

impl FromStr for Signature {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let half = |range: std::ops::Range<usize>| {
            text.get(range).and_then(|digits| digits.parse::<Hash>().ok())
        };
        match (text.len(), half(0..64), half(64..128)) {
            (128, Some(a), Some(b)) => {
                let mut bytes = [0; 64];
                bytes[..32].copy_from_slice(&a.0);
                bytes[32..].copy_from_slice(&b.0);
                Ok(Self(bytes))
            }
            _ => Err("a signature is 128 hexadecimal digits".into()),
        }
    }
}

impl TryFrom<String> for Signature {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Signature> for String {
    fn from(signature: Signature) -> Self {
        signature.to_string()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_hold_for_what_was_signed_alone() {
        let key = SigningKey::from_secret(&[7; 32]);
        let signed = Signed::new(&key, Domain::SignedDataset, b"payload");
        assert!(signed.holds(Domain::SignedDataset, b"payload"));
        assert!(!signed.holds(Domain::SignedDataset, b"payloae"));
        assert!(!signed.holds(Domain::Dataset, b"payload"));
        for bit in 0..512 {
            let mut bad = signed.clone();
            bad.signature.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!bad.holds(Domain::SignedDataset, b"payload"));
        }
        for bit in 0..256 {
            let mut bad = signed.clone();
            bad.signer.0[bit / 8] ^= 1 << (bit % 8);
            assert!(!bad.holds(Domain::SignedDataset, b"payload"));
        }
        let weak = Signed { signer: PeerId([0; 32]), signature: Signature([0; 64]) };
        assert!(!weak.holds(Domain::SignedDataset, b"payload"));
    }

    #[test]
    fn text_forms_round_trip() {
        let signed = Signed::new(&SigningKey::from_secret(&[1; 32]), Domain::Dataset, b"x");
        let json = serde_json::to_string(&signed).unwrap();
        assert_eq!(serde_json::from_str::<Signed>(&json).unwrap(), signed);
        let text = signed.signature.to_string();
        for bad in ["", &text[1..], &text.to_uppercase(), &format!("{text}00"), &"é".repeat(64)] {
            assert!(bad.parse::<Signature>().is_err(), "{bad}");
        }
    }
}
