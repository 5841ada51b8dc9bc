//! The tensors of an update, and how they are divided.

use std::ops::Range;

use crate::crypto::Domain;
use crate::crypto::Hash;
use crate::crypto::Hasher;

/// Elements of a chunk: what shares one power of two. Only the last chunk of a tensor may be
/// shorter.
pub const CHUNK: usize = 4096;

/// Elements of a block: what is encoded and decoded at once, by one thread. Only the last block of
/// a tensor may be shorter.
pub const BLOCK: usize = 64 * CHUNK;

/// A tensor of an update.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// The weight's name.
    pub name: String,
    /// Where its elements stand in the flat vector.
    pub range: Range<usize>,
}

/// The tensors of an update in canonical order, one after the other in a flat vector of f32.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    sections: Vec<Section>,
    blocks: Vec<Range<usize>>,
    hash: Hash,
}

impl Layout {
    /// Of tensors with the given names and numbers of elements.
    pub fn new<S: Into<String>>(tensors: impl IntoIterator<Item = (S, usize)>) -> Self {
        let (mut sections, mut blocks, mut end) = (Vec::new(), Vec::new(), 0);
        let mut hasher = Hasher::new(Domain::UpdateLayout);
        for (name, elements) in tensors {
            let (name, range) = (name.into(), end..end + elements);
            hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
            hasher.update(&(elements as u64).to_le_bytes());
            let starts = range.clone().step_by(BLOCK);
            blocks.extend(starts.map(|start| start..range.end.min(start + BLOCK)));
            end = range.end;
            sections.push(Section { name, range });
        }
        Self { sections, blocks, hash: hasher.finish() }
    }

    /// Elements of the flat vector.
    pub fn elements(&self) -> usize {
        self.sections.last().map_or(0, |section| section.range.end)
    }

    /// The tensors.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Ranges of the flat vector that make up its blocks; a block lies in one tensor.
    pub fn blocks(&self) -> &[Range<usize>] {
        &self.blocks
    }

    /// Identity of names, lengths and order.
    pub fn hash(&self) -> Hash {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_all_and_straddle_no_tensor() {
        let sizes = [0, 1, CHUNK, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7];
        let layout = Layout::new(sizes.iter().enumerate().map(|(i, &n)| (format!("w{i}"), n)));
        assert_eq!(layout.elements(), sizes.iter().sum::<usize>());
        let mut next = 0;
        for block in layout.blocks() {
            assert_eq!(block.start, next);
            assert!(!block.is_empty() && block.len() <= BLOCK);
            let inside = |s: &&Section| s.range.start <= block.start && block.end <= s.range.end;
            let section = layout.sections().iter().find(inside);
            assert_eq!((block.start - section.expect("one tensor").range.start) % BLOCK, 0);
            next = block.end;
        }
        assert_eq!(next, layout.elements());
    }

    #[test]
    fn the_identity_is_of_names_lengths_and_order() {
        let of = |tensors: &[(&str, usize)]| Layout::new(tensors.iter().copied()).hash();
        let hash = of(&[("a", 3), ("b", 5)]);
        for other in [&[("b", 5), ("a", 3)][..], &[("a", 5), ("b", 3)], &[("ab", 8)], &[("a", 3)]] {
            assert_ne!(of(other), hash);
        }
    }
}
