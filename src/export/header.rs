//! The header of a safetensors file: which tensors it has and where, believed only where it fits
//! the file.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use safetensors::tensor::Metadata;
use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::Error;

/// A tensor in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its element type.
    pub dtype: safetensors::Dtype,
    /// Its extents.
    pub shape: Vec<usize>,
    /// Where its bytes start in the file.
    pub offset: u64,
}

/// Reads the header of the file at `path`; what is in it lies within the file, byte after byte.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, Entry>, Error> {
    let refused = |what: String| Error::refused(path, what, DAMAGED);
    let file = File::open(path).map_err(Error::io("open", path))?;
    let size_bytes = file.metadata().map_err(Error::io("inspect", path))?.len();
    let mut length = [0; 8];
    if size_bytes < 8 {
        return Err(refused(format!("{size_bytes} bytes, not even the length of a header")));
    }
    file.read_exact_at(&mut length, 0).map_err(Error::io("read", path))?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER_BYTES || length > size_bytes - 8 {
        let what = format!("a header of {length} bytes in a file of {size_bytes} cannot be");
        return Err(refused(what));
    }
    let mut text = vec![0; length as usize];
    file.read_exact_at(&mut text, 8).map_err(Error::io("read", path))?;
    let wrong = |e: serde_json::Error| refused(format!("not a safetensors header: {e}"));
    // The library keeps the last of two entries of a name.
    let Names(mut names) = serde_json::from_slice(&text).map_err(wrong)?;
    names.sort_unstable();
    if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(refused(format!("tensor {} is in the header twice", pair[0])));
    }
    let metadata: Metadata = serde_json::from_slice(&text).map_err(wrong)?;
    let (want, got) = (metadata.data_len() as u64, size_bytes - 8 - length);
    if want != got {
        return Err(refused(format!("its tensors take {want} bytes, but {got} are there")));
    }
    let entry = |(name, info): (String, &TensorInfo)| {
        let offset = 8 + length + info.data_offsets.0 as u64;
        (name, Entry { dtype: info.dtype, shape: info.shape.clone(), offset })
    };
    Ok(metadata.tensors().into_iter().map(entry).collect())
}

/// The file that the index at `path` names for every tensor. Only names of files beside it are
/// taken.
pub(super) fn read_index(path: &Path) -> Result<BTreeMap<String, String>, Error> {
    let text = read_bounded(path, MAX_HEADER_BYTES)?;
    let refused = |what: String| Error::refused(path, what, DAMAGED);
    let wrong = |e: serde_json::Error| refused(format!("not an index of tensors: {e}"));
    let Index { weight_map } = serde_json::from_slice(&text).map_err(wrong)?;
    let mut seen = BTreeSet::new();
    for (tensor, file) in &weight_map.0 {
        if !seen.insert(tensor) {
            return Err(refused(format!("weight_map: tensor {tensor} is there twice")));
        }
        let plain = file.ends_with(".safetensors") && !file.contains(['/', '\\', '\0']);
        if !plain || file.starts_with('.') {
            let what = format!(
                "weight_map: {tensor}: {file:?} is not the name of a .safetensors file beside it"
            );
            return Err(Error::refused(path, what, "nothing outside the folder is read"));
        }
    }
    Ok(weight_map.0.into_iter().collect())
}

/// The bytes of a file that has at most `max_bytes`.
pub(super) fn read_bounded(path: &Path, max_bytes: u64) -> Result<Vec<u8>, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    let mut bytes = Vec::new();
    let mut limited = io::Read::take(file, max_bytes + 1);
    io::Read::read_to_end(&mut limited, &mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > max_bytes {
        let what = format!("more than {max_bytes} bytes");
        return Err(Error::refused(path, what, "no such file is so long; restore it"));
    }
    Ok(bytes)
}

/// What an index says.
#[derive(Deserialize)]
struct Index {
    weight_map: Pairs,
}

/// The keys of an object, repeated ones too.
struct Names(Vec<String>);

/// The entries of an object of strings, repeated ones too.
struct Pairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let entries = deserializer.deserialize_map(Entries::<IgnoredAny>(Vec::new()))?;
        Ok(Self(entries.into_iter().map(|(name, _)| name).collect()))
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Entries(Vec::new())).map(Self)
    }
}

/// Collects the entries of an object.
struct Entries<V>(Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
    type Value = Vec<(String, V)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self::Value, A::Error> {
        while let Some(entry) = map.next_entry()? {
            self.0.push(entry);
        }
        Ok(self.0)
    }
}

/// A header has some hundred bytes a tensor; a longer one is an attack or a mistake.
const MAX_HEADER_BYTES: u64 = 64 << 20;
/// What to do about a damaged file.
const DAMAGED: &str = "damaged or cut short: get the file again";

#[cfg(test)]
mod tests {
    use super::*;

    fn file(head: &str, length: u64, data: usize) -> Result<BTreeMap<String, Entry>, String> {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("m.safetensors");
        let bytes = [&length.to_le_bytes()[..], head.as_bytes(), &vec![0; data]].concat();
        std::fs::write(&path, bytes).unwrap();
        read(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn a_header_is_believed_only_where_it_fits() {
        let a = r#""a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}"#;
        let good = format!("{{{a}}}");
        let len = good.len() as u64;
        let entries = file(&good, len, 8).unwrap();
        assert_eq!((entries["a"].offset, &entries["a"].shape[..]), (8 + len, &[2][..]));
        let with = |b: &str| format!("{{{a},{b}}}");
        for (head, words) in [
            (with(a), "tensor a is in the header twice"),
            (with(r#""b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}"#), "header"),
            (with(r#""b":{"dtype":"F32","shape":[2],"data_offsets":[8,12]}"#), "header"),
            (with(r#""b":{"dtype":"F32","shape":[2],"data_offsets":[12,20]}"#), "header"),
            (with(r#""b":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}"#), "header"),
            (with(r#""b":{"dtype":"F32","shape":[-1],"data_offsets":[8,4]}"#), "header"),
            (
                with(
                    r#""b":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[8,8]}"#,
                ),
                "header",
            ),
            (
                with(r#""b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}"#),
                "take 12 bytes, but 8",
            ),
            (with(r#""b":{"dtype":"F3","shape":[1],"data_offsets":[8,12]}"#), "header"),
            ("[]".into(), "not a safetensors header"),
            ("\u{1}\u{2}".into(), "not a safetensors header"),
        ] {
            let error = file(&head, head.len() as u64, 8).unwrap_err();
            assert!(error.contains(words) && error.contains("get the file again"), "{error}");
        }
        for length in [len + 9, u64::MAX, MAX_HEADER_BYTES + 1] {
            let error = file(&good, length, 8).unwrap_err();
            assert!(error.contains(&format!("a header of {length} bytes")), "{error}");
        }
        assert!(file(&good, len, 7).unwrap_err().contains("take 8 bytes, but 7 are there"));
        assert!(file(&good, len, 9).unwrap_err().contains("take 8 bytes, but 9 are there"));
    }

    #[test]
    fn an_index_names_files_beside_it() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("index.json");
        let read = |text: &str| {
            std::fs::write(&path, text).unwrap();
            read_index(&path).map_err(|e| e.to_string())
        };
        let with =
            |file: &str| read(&format!(r#"{{"metadata":{{}},"weight_map":{{"t":{file}}}}}"#));
        assert_eq!(with(r#""m-1.safetensors""#).unwrap()["t"], "m-1.safetensors");
        for name in
            ["../m.safetensors", "/m.safetensors", "a/m.safetensors", "..", "m.bin", "", ".m"]
        {
            let error = with(&format!("{name:?}")).unwrap_err();
            assert!(error.contains("weight_map: t:") && error.contains(&format!("{name:?}")));
        }
        assert!(
            with(r#""a\\m.safetensors""#).is_err() && with(r#""a\u0000.safetensors""#).is_err()
        );
        assert!(
            with(r#""m.safetensors","t":"n.safetensors""#)
                .unwrap_err()
                .contains("t is there twice")
        );
        assert!(with("3").unwrap_err().contains("not an index"));
        assert!(read("{}").unwrap_err().contains("weight_map"));
    }
}
