//! Where every tensor lies in the two files: a matter of the table alone, never of the ranks.

use super::{Error, Group, Row};

/// Both files.
#[derive(Debug)]
pub(super) struct Layout {
    /// In the order of the manifest.
    pub files: Vec<FileLayout>,
    /// Where each tensor of the table starts in its file, in bytes.
    pub offsets: Vec<u64>,
    /// Bytes of each tensor of the table.
    pub sizes: Vec<u64>,
}

/// One safetensors file.
#[derive(Debug)]
pub(super) struct FileLayout {
    /// Its name.
    pub name: &'static str,
    /// All before the first tensor.
    pub head: Vec<u8>,
    /// Its length.
    pub size_bytes: u64,
}

impl Layout {
    /// The layout that the safetensors library gives to these tensors: by name.
    pub fn of(table: &[Row]) -> Result<Self, Error> {
        let sizes: Vec<u64> = table.iter().map(|row| row.shape.len() as u64 * 4).collect();
        let mut layout = Self { files: Vec::new(), offsets: vec![0; table.len()], sizes };
        for name in [Group::Weights.file(), Group::FirstMoments.file()] {
            let file = layout.place(name, table)?;
            layout.files.push(file);
        }
        Ok(layout)
    }

    /// Places the tensors of file `name`.
    fn place(&mut self, name: &'static str, table: &[Row]) -> Result<FileLayout, Error> {
        let mut inside: Vec<(String, usize)> = (0..table.len())
            .filter(|&i| table[i].group.file() == name)
            .map(|i| (table[i].group.key(&table[i].name), i))
            .collect();
        inside.sort();
        let (mut entries, mut end) = (Vec::new(), 0usize);
        for (key, i) in inside {
            let start = end;
            end += self.sizes[i] as usize;
            self.offsets[i] = start as u64;
            let shape = table[i].shape.to_vec();
            let dtype = safetensors::Dtype::F32;
            let data_offsets = (start, end);
            entries.push((key, safetensors::tensor::TensorInfo { dtype, shape, data_offsets }));
        }
        let refused = |why: String| Error::Malformed { path: name.into(), why };
        let format = [("format".to_owned(), "pt".to_owned())].into();
        let metadata = safetensors::tensor::Metadata::new(Some(format), entries)
            .map_err(|e| refused(e.to_string()))?;
        let mut text = serde_json::to_vec(&metadata).map_err(|e| refused(e.to_string()))?;
        text.resize(text.len().next_multiple_of(8), b' ');
        let head = [&(text.len() as u64).to_le_bytes()[..], &text].concat();
        for (row, offset) in table.iter().zip(&mut self.offsets) {
            if row.group.file() == name {
                *offset += head.len() as u64;
            }
        }
        let size_bytes = (head.len() + end) as u64;
        Ok(FileLayout { name, head, size_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Shape;
    use safetensors::tensor::TensorView;

    #[test]
    fn heads_are_those_of_the_library() {
        let shapes =
            [("model.b", vec![7, 5]), ("model.a", vec![3]), ("lm_head", vec![300, 3, 101])];
        let expected: Vec<_> = shapes.iter().map(|(n, s)| (n.to_string(), Shape::new(s))).collect();
        let table = super::super::table(&expected);
        let layout = Layout::of(&table).unwrap();
        for file in &layout.files {
            let rows = table.iter().enumerate().filter(|(_, r)| r.group.file() == file.name);
            let data: Vec<(String, Vec<u8>, Vec<usize>)> = rows
                .map(|(i, r)| {
                    (r.group.key(&r.name), vec![i as u8 + 1; r.shape.len() * 4], r.shape.to_vec())
                })
                .collect();
            let views = data.iter().map(|(name, bytes, shape)| {
                let view = TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes).unwrap();
                (name.as_str(), view)
            });
            let format = [("format".to_owned(), "pt".to_owned())].into();
            let want = safetensors::serialize(views, Some(format)).unwrap();
            assert_eq!(file.head, want[..file.head.len()]);
            assert_eq!(file.size_bytes, want.len() as u64);
            for (i, row) in table.iter().enumerate().filter(|(_, r)| r.group.file() == file.name) {
                let at = layout.offsets[i] as usize;
                let bytes = &want[at..at + row.shape.len() * 4];
                assert!(bytes.iter().all(|&b| b == i as u8 + 1), "{row:?}");
            }
        }
    }
}
