//! Which safetensors file has which tensor, and where: a matter of the model alone.

use std::collections::BTreeMap;

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use safetensors::tensor::TensorInfo;
use serde_json::json;

use super::tensors::{Part, Weight};

/// The files of a model.
#[derive(Debug)]
pub(super) struct Shards {
    /// The files in order.
    pub files: Vec<File>,
    /// By a tensor's name: its file and where its bytes start there.
    pub places: BTreeMap<String, (usize, u64)>,
}

/// One safetensors file.
#[derive(Debug)]
pub(super) struct File {
    /// Its name.
    pub name: String,
    /// All before the first tensor.
    pub head: Vec<u8>,
    /// Its length.
    pub size_bytes: u64,
}

impl Shards {
    /// Fills files of at most `max_bytes` of tensors with the tensors of `weights` in canonical
    /// order. A tensor that is larger gets a file of its own. Says why if there can be no such file.
    pub fn of(weights: &[Weight], dtype: Dtype, max_bytes: u64) -> Result<Self, String> {
        let mut groups: Vec<Vec<&Part>> = vec![Vec::new()];
        let mut filled = 0u64;
        for part in weights.iter().flat_map(|w| &w.parts) {
            let size = size_of(part, dtype)?;
            if filled > 0 && filled.saturating_add(size) > max_bytes {
                groups.push(Vec::new());
                filled = 0;
            }
            filled = filled.saturating_add(size);
            if let Some(group) = groups.last_mut() {
                group.push(part);
            }
        }
        let mut shards = Self { files: Vec::new(), places: BTreeMap::new() };
        let count = groups.len();
        for (i, group) in groups.into_iter().enumerate() {
            let name = match count {
                1 => SINGLE.to_owned(),
                _ => format!("model-{:05}-of-{count:05}.safetensors", i + 1),
            };
            shards.place(name, group, dtype)?;
        }
        Ok(shards)
    }

    /// Adds a file with these tensors, by name, as the safetensors library orders them.
    fn place(&mut self, name: String, mut parts: Vec<&Part>, dtype: Dtype) -> Result<(), String> {
        parts.sort_by(|a, b| a.name.cmp(&b.name));
        let (mut entries, mut end) = (Vec::new(), 0u64);
        for part in &parts {
            let start = end;
            end += size_of(part, dtype)?;
            let data_offsets = (start as usize, end as usize);
            let info = TensorInfo { dtype, shape: part.shape.clone(), data_offsets };
            entries.push((part.name.clone(), info));
            self.places.insert(part.name.clone(), (self.files.len(), start));
        }
        // Without this entry transformers refuses the file.
        let format = [("format".to_owned(), "pt".to_owned())].into();
        let metadata = Metadata::new(Some(format), entries).map_err(|e| e.to_string())?;
        let mut text = serde_json::to_vec(&metadata).map_err(|e| e.to_string())?;
        text.resize(text.len().next_multiple_of(8), b' ');
        let head = [&(text.len() as u64).to_le_bytes()[..], &text].concat();
        for part in &parts {
            if let Some((_, offset)) = self.places.get_mut(&part.name) {
                *offset += head.len() as u64;
            }
        }
        let size_bytes = head.len() as u64 + end;
        self.files.push(File { name, head, size_bytes });
        Ok(())
    }

    /// Bytes of all tensors.
    pub fn tensor_bytes(&self) -> u64 {
        self.files.iter().map(|f| f.size_bytes - f.head.len() as u64).sum()
    }

    /// The text of [`INDEX`]; none for a single file.
    pub fn index(&self) -> Option<String> {
        if self.files.len() == 1 {
            return None;
        }
        let file =
            |(name, (i, _)): (&String, &(usize, u64))| (name.clone(), self.files[*i].name.clone());
        let map: BTreeMap<String, String> = self.places.iter().map(file).collect();
        let index = json!({ "metadata": { "total_size": self.tensor_bytes() }, "weight_map": map });
        Some(format!("{index:#}\n"))
    }
}

/// Bytes of a tensor.
fn size_of(part: &Part, dtype: Dtype) -> Result<u64, String> {
    let bytes = part.elements().and_then(|n| n.checked_mul(dtype.bitsize() / 8));
    let bytes = bytes.filter(|&n| n <= MAX_TENSOR_BYTES);
    bytes.map(|n| n as u64).ok_or_else(|| format!("tensor {} is too large", part.name))
}

/// Name of the file of a model in one file.
pub(super) const SINGLE: &str = "model.safetensors";
/// Name of the file that tells which tensor is in which file.
pub(super) const INDEX: &str = "model.safetensors.index.json";
/// No machine holds a larger tensor; sums of such sizes cannot overflow.
const MAX_TENSOR_BYTES: usize = 1 << 45;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tensors::tests::DIMS;
    use crate::export::weights;
    use safetensors::SafeTensors;
    use safetensors::tensor::TensorView;

    #[test]
    fn a_file_is_that_of_the_library() {
        let all = weights(&DIMS);
        let shards = Shards::of(&all, Dtype::BF16, u64::MAX).unwrap();
        assert_eq!((shards.files.len(), &shards.files[0].name[..]), (1, SINGLE));
        assert!(shards.index().is_none());
        let parts: Vec<_> = all.iter().flat_map(|w| &w.parts).collect();
        let bytes: Vec<_> = parts.iter().map(|p| vec![0u8; p.elements().unwrap() * 2]).collect();
        let views = parts.iter().zip(&bytes).map(|(p, b)| {
            (p.name.as_str(), TensorView::new(Dtype::BF16, p.shape.clone(), b).unwrap())
        });
        let format = [("format".to_owned(), "pt".to_owned())].into();
        let want = safetensors::serialize(views, Some(format)).unwrap();
        let head = &shards.files[0].head;
        assert_eq!(*head, want[..head.len()]);
        assert_eq!(shards.files[0].size_bytes, want.len() as u64);
    }

    #[test]
    fn files_are_as_small_as_asked_and_have_every_tensor_once() {
        let all = weights(&DIMS);
        // The embedding table has 37 x 20 elements: larger than the limit.
        let shards = Shards::of(&all, Dtype::F32, 2000).unwrap();
        let count = shards.files.len();
        assert!(count > 5, "{count}");
        let mut seen = Vec::new();
        for (i, file) in shards.files.iter().enumerate() {
            assert_eq!(file.name, format!("model-{:05}-of-{count:05}.safetensors", i + 1));
            let mut bytes = file.head.clone();
            bytes.resize(file.size_bytes as usize, 0);
            let read = SafeTensors::deserialize(&bytes).unwrap();
            let data = bytes.len() - file.head.len();
            assert!(read.len() == 1 || data <= 2000, "{data}");
            for name in read.names() {
                let (place, offset) = shards.places[name];
                let at = read.tensor(name).unwrap().data().as_ptr() as usize;
                assert_eq!((place, offset as usize), (i, at - bytes.as_ptr() as usize), "{name}");
                seen.push(name.to_owned());
            }
        }
        seen.sort();
        assert_eq!(seen, shards.places.keys().cloned().collect::<Vec<_>>());
        let index: serde_json::Value = serde_json::from_str(&shards.index().unwrap()).unwrap();
        assert_eq!(index["metadata"]["total_size"], shards.tensor_bytes());
        assert_eq!(index["weight_map"].as_object().unwrap().len(), seen.len());
    }
}
