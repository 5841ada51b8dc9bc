//! What a saved cluster consists of: `outer.json`, sealed, and the table of `outer.safetensors`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use super::Assignment;
use super::Contributed;
use super::Error;
use crate::checkpoint;
use crate::crypto::Hash;

/// Contents of `outer.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    /// BLAKE3 of this file with zeros in place of this field's digits.
    pub seal: String,
    /// [`FORMAT`].
    pub format: String,
    /// [`VERSION`].
    pub version: u64,
    /// Inner steps done: the name of the checkpoint in `inner/`.
    pub step: u64,
    /// The cluster's state hash, which covers the inner state too.
    pub state_hash: Hash,
    /// What must be the same to go on, by key.
    pub job: BTreeMap<String, String>,
    /// What the cluster reads.
    pub assignment: Assignment,
    /// By fragment.
    pub fragments: Vec<FragmentEntry>,
    /// Length of `outer.safetensors`.
    pub size_bytes: u64,
    /// BLAKE3 of all before its first tensor.
    pub head_hash: Hash,
    /// Its tensors, in the order of the file.
    pub tensors: Vec<TensorEntry>,
}

/// A fragment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FragmentEntry {
    /// Outer steps taken.
    pub round: u64,
    /// What the update in flight was, if there is one; numbers as their bits.
    pub in_flight: Option<[u64; 6]>,
}

/// A tensor of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TensorEntry {
    /// Its name.
    pub name: String,
    /// What its elements are.
    pub dtype: Kind,
    /// How many.
    pub elements: u64,
    /// BLAKE3 of its bytes.
    pub hash: Hash,
}

/// Of what a tensor consists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Kind {
    /// Weights or the like.
    F32,
    /// Bytes of something else.
    U8,
}

impl Kind {
    fn size_bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::U8 => 1,
        }
    }
}

impl Manifest {
    /// The text of the file, with its seal.
    pub fn sealed_text(&self) -> String {
        let unsealed = Self { seal: checkpoint::UNSEALED.into(), ..self.clone() };
        let mut text = serde_json::to_string_pretty(&unsealed).unwrap_or_default();
        text.push('\n');
        checkpoint::seal(&text)
    }

    /// Reads and checks the file in `folder`.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let path = folder.join(MANIFEST);
        let damaged = |what: String| Error::Damaged { path: path.clone(), what };
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        let mut text = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut text).map_err(Error::io("read", &path))?;
        if text.len() as u64 > MAX_BYTES {
            return Err(damaged(format!("more than {MAX_BYTES} bytes")));
        }
        let head: Head = serde_json::from_slice(&text)
            .map_err(|e| damaged(format!("not the manifest of a saved cluster: {e}")))?;
        if head.format != FORMAT || head.version != VERSION {
            return Err(damaged(format!(
                "it is {:?} version {}; this program reads {FORMAT:?} version {VERSION}",
                head.format, head.version
            )));
        }
        if !checkpoint::seal_holds(&text, &head.seal) {
            return Err(damaged("its seal does not hold: bytes have changed".into()));
        }
        serde_json::from_slice(&text)
            .map_err(|e| damaged(format!("not the manifest of a saved cluster: {e}")))
    }

    /// All of `outer.safetensors` before the first tensor, as the tensors of `tensors` have it. None
    /// if their sizes are none that a machine can have.
    pub fn head_of(tensors: &[TensorEntry]) -> Option<Vec<u8>> {
        let (mut entries, mut end) = (Vec::new(), 0usize);
        for tensor in tensors {
            let elements = usize::try_from(tensor.elements).ok()?;
            let start = end;
            end = start.checked_add(elements.checked_mul(tensor.dtype.size_bytes())?)?;
            let dtype = match tensor.dtype {
                Kind::F32 => safetensors::Dtype::F32,
                Kind::U8 => safetensors::Dtype::U8,
            };
            let (shape, data_offsets) = (vec![elements], (start, end));
            let info = safetensors::tensor::TensorInfo { dtype, shape, data_offsets };
            entries.push((tensor.name.clone(), info));
        }
        let metadata = safetensors::tensor::Metadata::new(None, entries).ok()?;
        let mut text = serde_json::to_vec(&metadata).ok()?;
        text.resize(text.len().next_multiple_of(8), b' ');
        Some([&(text.len() as u64).to_le_bytes()[..], &text].concat())
    }
}

impl TensorEntry {
    /// Its bytes; none if that is no number.
    pub fn size_bytes(&self) -> Option<u64> {
        self.elements.checked_mul(self.dtype.size_bytes() as u64)
    }
}

/// Numbers of a record as words: decimal digits would round them.
pub(super) fn words(sent: &Contributed) -> [u64; 6] {
    let lag = sent.pseudo_gradient_lag1;
    [
        sent.pseudo_gradient_norm.to_bits(),
        u64::from(lag.is_some()),
        lag.unwrap_or_default().to_bits(),
        sent.residual_norm.to_bits(),
        sent.update_bytes,
        sent.bits_per_weight.to_bits(),
    ]
}

/// The record that gave these words.
pub(super) fn contributed(words: &[u64; 6]) -> Contributed {
    let &[norm, has_lag, lag, residual, update_bytes, bits] = words;
    Contributed {
        pseudo_gradient_norm: f64::from_bits(norm),
        pseudo_gradient_lag1: (has_lag != 0).then_some(f64::from_bits(lag)),
        residual_norm: f64::from_bits(residual),
        update_bytes,
        bits_per_weight: f64::from_bits(bits),
    }
}

/// The fields that every version has.
#[derive(Deserialize)]
struct Head {
    #[serde(default)]
    seal: String,
    #[serde(default)]
    format: String,
    #[serde(default)]
    version: u64,
}

/// Name of the manifest.
pub(super) const MANIFEST: &str = "outer.json";

/// Name of the file with the tensors.
pub(super) const TENSORS: &str = "outer.safetensors";

/// The folder of the inner checkpoint.
pub(super) const INNER: &str = "inner";

/// What `format` says.
pub(super) const FORMAT: &str = "neuroshard cluster";

/// The version that is written.
pub(super) const VERSION: u64 = 1;

/// A manifest has some lines per fragment; more is an attack or a mistake.
const MAX_BYTES: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_from_their_words() {
        for lag in [None, Some(0.0), Some(-1.0 / 3.0)] {
            let sent = Contributed {
                pseudo_gradient_norm: 0.1 + 0.2,
                pseudo_gradient_lag1: lag,
                residual_norm: f64::MIN_POSITIVE / 3.0,
                update_bytes: u64::MAX,
                bits_per_weight: 0.1488,
            };
            assert_eq!(contributed(&words(&sent)), sent);
        }
    }

    #[test]
    fn the_head_is_one_that_the_library_reads() {
        let entry = |name: &str, dtype, elements| TensorEntry {
            name: name.into(),
            dtype,
            elements,
            hash: Hash([0; 32]),
        };
        let tensors = [entry("b", Kind::F32, 3), entry("a", Kind::F32, 0), entry("c", Kind::U8, 5)];
        let head = Manifest::head_of(&tensors).expect("small");
        let file = [head, vec![1; 17]].concat();
        let read = safetensors::SafeTensors::deserialize(&file).expect("a safetensors file");
        assert_eq!(read.tensor("c").expect("there").data(), [1; 5]);
        assert_eq!(read.tensor("b").expect("there").shape(), [3]);
        assert_eq!(Manifest::head_of(&[entry("a", Kind::F32, u64::MAX)]), None);
    }
}
