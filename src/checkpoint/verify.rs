//! Reading and verifying the tensors of a checkpoint, by all ranks together.

use super::blocks::{self, Block, InFile};
use super::digest;
use super::slice::{self, Index};
use super::span::{Loading, OnDisk};
use super::subtree::{Copies, Piece, Tree};
use super::{Error, SLICE_ELEMENTS, Saved, Target};
use crate::collective::Communicator;
use crate::crypto::Hash;
use crate::ops::Kernels;
use crate::ops::elementwise;
use crate::tensor::Tensor;

impl Saved {
    /// Fills this rank's `targets` from the files, and verifies what then is in memory: whole
    /// tensors here, slices together with those of the other ranks, which must make up the tensor.
    /// `kernels` are those whose memory the targets are in. Collective: all succeed, or all get the
    /// same error.
    pub fn read_into(
        &self,
        kernels: &dyn Kernels,
        targets: Vec<Target<'_>>,
        comm: &dyn Communicator,
    ) -> Result<(), Error> {
        let tree = Tree::new();
        let mine = self.load(kernels, &tree, targets);
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
    fn load(
        &self,
        kernels: &dyn Kernels,
        tree: &Tree,
        targets: Vec<Target<'_>>,
    ) -> Result<Vec<Piece>, Error> {
        let index = Index::of(self.table());
        let (here, there): (Vec<_>, Vec<_>) =
            targets.into_iter().partition(|target| target.view.as_view().host_bytes().is_some());
        let mut slices = Vec::new();
        for target in here {
            slices.extend(self.slice_of(&index, target)?);
        }
        let mut pieces = self.read_in_order(tree, slices)?;
        for target in there {
            pieces.extend(self.load_onto_device(kernels, tree, &index, target)?);
        }
        let merged = slice::merge(tree, self.table(), pieces, Copies::Equal)?;
        let is_whole = |piece: &Piece| piece.len == self.size_of(piece.tensor as usize);
        let (whole, parts): (Vec<_>, Vec<_>) = merged.into_iter().partition(is_whole);
        whole.iter().try_for_each(|p| self.compare(p.tensor as usize, Hash(p.value)))?;
        Ok(parts)
    }

    /// Reads a target on a device, by way of host memory.
    fn load_onto_device(
        &self,
        kernels: &dyn Kernels,
        tree: &Tree,
        index: &Index<'_>,
        target: Target<'_>,
    ) -> Result<Vec<Piece>, Error> {
        let Target { group, name, shape, first, view } = target;
        let mut host = Tensor::zeros(view.dtype(), &view.shape());
        let staged = Target { group, name, shape, first, view: host.view_mut() };
        let pieces = self.read_in_order(tree, self.slice_of(index, staged)?.into_iter().collect());
        elementwise::copy(kernels, view, host.view())?;
        pieces
    }

    /// What is to be read for a target; nothing for one without elements.
    fn slice_of<'a>(
        &'a self,
        index: &Index<'_>,
        target: Target<'a>,
    ) -> Result<Option<Block<Loading<'a>>>, Error> {
        let Target { group, name, shape, first, view } = target;
        let Some(tensor) = index.find(group, &name, &shape) else {
            let what = format!("no tensor {} of shape {shape:?}", group.key(&name));
            return Err(Error::Mismatch { path: self.path().to_owned(), what });
        };
        let floats = view.host::<f32>().ok_or_else(|| Error::Place { name: name.clone() })?;
        slice::check(&name, shape.len(), first, floats.len())?;
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(floats);
        if bytes.is_empty() {
            return Ok(None);
        }
        let (_, file) = self.file(group)?;
        let (total, first) = (self.size_of(tensor), first as u64 * 4);
        let at = self.manifest().tensors[tensor].offset + first;
        Ok(Some(Block { tensor, total, first, span: Loading { bytes, file, at } }))
    }

    /// Hashes share `rank` of `ranks` of the bytes on disk.
    fn scan(&self, tree: &Tree, rank: usize, ranks: usize) -> Result<Vec<Piece>, Error> {
        let sizes: Vec<u64> = (0..self.table().len()).map(|i| self.size_of(i)).collect();
        let all = sizes.iter().map(|&s| u128::from(s)).sum::<u128>();
        let border = |r: usize| all * r as u128 / ranks as u128;
        let (mut slices, mut base) = (Vec::new(), 0);
        for (tensor, &total) in sizes.iter().enumerate() {
            // A border inside a tensor moves down to a whole block, on both of its sides.
            let inside = |at: u128| match at.saturating_sub(base).min(u128::from(total)) as u64 {
                at if at == total => at,
                at => at - at % (SLICE_ELEMENTS as u64 * 4),
            };
            let (first, end) = (inside(border(rank)), inside(border(rank + 1)));
            let entry = &self.manifest().tensors[tensor];
            if first < end {
                let (_, file) = self.file(entry.group)?;
                let span = OnDisk { file, at: entry.offset + first, len: end - first };
                slices.push(Block { tensor, total, first, span });
            }
            base += u128::from(total);
        }
        self.read_in_order(tree, slices)
    }

    /// Reads and hashes slices in the order in which the files have them.
    fn read_in_order<S: InFile>(
        &self,
        tree: &Tree,
        mut slices: Vec<Block<S>>,
    ) -> Result<Vec<Piece>, Error> {
        let file = |tensor: usize| self.table()[tensor].group.file();
        slices.sort_by_key(|slice| (file(slice.tensor), slice.span.place().1));
        let failed = |tensor, error| Error::io("read", &self.path().join(file(tensor)))(error);
        blocks::read(tree, slices, failed)
    }

    /// Bytes of tensor `i` of the table.
    fn size_of(&self, i: usize) -> u64 {
        self.table()[i].shape.len() as u64 * 4
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
