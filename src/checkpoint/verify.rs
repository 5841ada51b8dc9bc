//! Reading and verifying the tensors of a checkpoint, by all ranks together.

use rayon::prelude::*;

use super::digest;
use super::slice::{self, Index};
use super::span::{Loading, OnDisk};
use super::subtree::{Copies, Piece, Tree};
use super::{Error, SLICE_ELEMENTS, Saved, Target};
use crate::collective::Communicator;
use crate::crypto::Hash;

impl Saved {
    /// Fills this rank's `targets` from the files, and verifies what then is in memory: whole
    /// tensors here, slices together with those of the other ranks, which must make up the tensor.
    /// Collective: all succeed, or all get the same error.
    pub fn read_into(
        &self,
        targets: Vec<Target<'_>>,
        comm: &dyn Communicator,
    ) -> Result<(), Error> {
        let tree = Tree::new();
        let mine = self.load(&tree, targets);
        let hashes = slice::hashes(&tree, self.table(), mine, Copies::Equal, comm)?;
        let loaded = hashes.iter().enumerate().filter_map(|(i, hash)| Some((i, (*hash)?)));
        loaded.into_iter().try_for_each(|(i, hash)| self.compare(i, hash))
    }

    /// Reads and hashes every tensor, each rank its share of the bytes; the state hash, computed
    /// from the bytes on disk. Collective: the same on all ranks.
    pub fn verify(&self, comm: &dyn Communicator) -> Result<Hash, Error> {
        let tree = Tree::new();
        let mine = self.scan(&tree, comm.rank(), comm.size());
        let hashes = slice::hashes(&tree, self.table(), mine, Copies::Refused, comm)?;
        let hashes = slice::all(self.table(), hashes)?;
        hashes.iter().enumerate().try_for_each(|(i, &hash)| self.compare(i, hash))?;
        let hash = digest::combine(&self.manifest().progress, self.table(), &hashes);
        if hash != self.manifest().state_hash {
            return Err(Error::Corrupt { path: self.path().to_owned(), what: "the state".into() });
        }
        Ok(hash)
    }

    /// Reads targets, verifies those that are whole, and returns the pieces of the others.
    fn load(&self, tree: &Tree, targets: Vec<Target<'_>>) -> Result<Vec<Piece>, Error> {
        let index = Index::of(self.table());
        let pieces: Result<Vec<_>, Error> =
            targets.into_par_iter().map(|target| self.load_one(tree, &index, target)).collect();
        Ok(pieces?.concat())
    }

    fn load_one(
        &self,
        tree: &Tree,
        index: &Index<'_>,
        target: Target<'_>,
    ) -> Result<Vec<Piece>, Error> {
        let Target { group, name, shape, first, view } = target;
        let key = group.key(&name);
        let Some(i) = index.find(group, &name, &shape) else {
            let what = format!("no tensor {key} of shape {shape:?}");
            return Err(Error::Mismatch { path: self.path().to_owned(), what });
        };
        let floats = view.host::<f32>().ok_or_else(|| Error::Place { name: name.clone() })?;
        slice::check(&name, shape.len(), first, floats.len())?;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(floats);
        if bytes.is_empty() {
            return Ok(Vec::new());
        }
        let (path, file) = self.file(group)?;
        let (total, first) = (shape.len() as u64 * 4, first as u64 * 4);
        let at = self.manifest().tensors[i].offset + first;
        let pieces = tree
            .pieces(i as u32, total, first, Loading { bytes, file, at })
            .map_err(Error::io("read", &path))?;
        match pieces[..] {
            [whole] if whole.len == total => {
                self.compare(i, Hash(whole.value))?;
                Ok(Vec::new())
            }
            _ => Ok(pieces),
        }
    }

    /// Hashes share `rank` of `ranks` of the bytes on disk.
    fn scan(&self, tree: &Tree, rank: usize, ranks: usize) -> Result<Vec<Piece>, Error> {
        let sizes: Vec<u64> = self.table().iter().map(|row| row.shape.len() as u64 * 4).collect();
        let all = sizes.iter().map(|&s| u128::from(s)).sum::<u128>();
        let border = |r: usize| all * r as u128 / ranks as u128;
        let mut shares = Vec::new();
        let mut base = 0;
        for (i, &size) in sizes.iter().enumerate() {
            // A border inside a tensor moves down to a whole block, on both of its sides.
            let inside = |at: u128| match at.saturating_sub(base).min(u128::from(size)) as u64 {
                at if at == size => at,
                at => at - at % (SLICE_ELEMENTS as u64 * 4),
            };
            let (start, end) = (inside(border(rank)), inside(border(rank + 1)));
            if start < end {
                shares.push((i, start, end));
            }
            base += u128::from(size);
        }
        let one = |(i, start, end): (usize, u64, u64)| {
            let entry = &self.manifest().tensors[i];
            let (path, file) = self.file(entry.group)?;
            let span = OnDisk { file, at: entry.offset + start, len: end - start };
            tree.pieces(i as u32, sizes[i], start, span).map_err(Error::io("read", &path))
        };
        let pieces: Result<Vec<_>, Error> = shares.into_par_iter().map(one).collect();
        Ok(pieces?.concat())
    }

    /// Refuses tensor `i` of the table if its hash is another.
    fn compare(&self, i: usize, hash: Hash) -> Result<(), Error> {
        let entry = &self.manifest().tensors[i];
        if hash == entry.hash {
            return Ok(());
        }
        let path = self.path().join(entry.group.file());
        Err(Error::Corrupt { path, what: format!("tensor {}", entry.group.key(&entry.name)) })
    }
}
