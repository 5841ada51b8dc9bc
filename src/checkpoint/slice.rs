//! From slices on many ranks to one hash per tensor.

use std::collections::HashMap;
use std::ops::Range;

use rayon::prelude::*;

use super::digest::hash_bytes;
use super::ranks;
use super::span::InMemory;
use super::subtree::{Clash, Copies, Piece, Tree};
use super::{Error, Group, Row, SLICE_ELEMENTS, Source};
use crate::collective::Communicator;
use crate::crypto::Hash;
use crate::ops::Kernels;
use crate::ops::digest;
use crate::ops::elementwise;
use crate::tensor::DType;
use crate::tensor::HostBuffer;
use crate::tensor::Mem;
use crate::tensor::Shape;
use crate::tensor::View;

/// The table of all tensors, by name.
pub(super) struct Index<'a> {
    table: &'a [Row],
    places: HashMap<(Group, &'a str), usize>,
}

impl<'a> Index<'a> {
    /// Of a table.
    pub fn of(table: &'a [Row]) -> Self {
        let place = |(i, row): (usize, &'a Row)| ((row.group, row.name.as_str()), i);
        Self { table, places: table.iter().enumerate().map(place).collect() }
    }

    /// The place in the table of a slice's tensor, after checking what the slice says of it; `None`
    /// if there is no such tensor of this shape.
    pub fn find(&self, group: Group, name: &str, shape: &Shape) -> Option<usize> {
        let &i = self.places.get(&(group, name))?;
        (self.table[i].shape == *shape).then_some(i)
    }
}

/// Refuses slices that are no runs of blocks within their tensor. All counts in elements.
pub(super) fn check(name: &str, total: usize, first: usize, len: usize) -> Result<(), Error> {
    let end = first.checked_add(len).filter(|&end| end <= total);
    let whole = |at: usize| at == total || at.is_multiple_of(SLICE_ELEMENTS);
    match end {
        Some(end) if whole(first) && whole(end) => Ok(()),
        _ => Err(Error::Slices { name: name.into(), why: "a slice is not made of whole blocks" }),
    }
}

/// The view of a slice of f32, wherever it lives, checked.
pub(super) fn view_of<'a>(source: &Source<'a>) -> Result<View<'a>, Error> {
    if source.view.dtype() != DType::F32 {
        return Err(Error::Place { name: source.name.clone() });
    }
    check(&source.name, source.shape.len(), source.first, source.view.shape().len())?;
    Ok(source.view)
}

/// The bytes of a slice of f32 on the host.
pub(super) fn bytes_of<'a>(source: &Source<'a>) -> Result<&'a [u8], Error> {
    let bytes = view_of(source)?.host_bytes();
    bytes.ok_or_else(|| Error::Place { name: source.name.clone() })
}

/// Calls `each` with every slice that has elements, on all threads of the current pool: its place
/// in the table, where it starts in its tensor, and its bytes.
pub(super) fn pieces_of(
    table: &[Row],
    slices: &[Source<'_>],
    each: impl Fn(usize, u64, &[u8]) -> Result<Vec<Piece>, Error> + Sync,
) -> Result<Vec<Piece>, Error> {
    let index = Index::of(table);
    let one = |slice: &Source<'_>| {
        let bytes = bytes_of(slice)?;
        let unknown = || Error::Slices { name: slice.name.clone(), why: "not in the table" };
        let i = index.find(slice.group, &slice.name, &slice.shape).ok_or_else(unknown)?;
        match bytes.is_empty() {
            true => Ok(Vec::new()),
            false => each(i, slice.first as u64 * 4, bytes),
        }
    };
    let pieces: Result<Vec<_>, Error> = slices.par_iter().map(one).collect();
    Ok(pieces?.concat())
}

/// The pieces of slices in memory; those of a device are hashed there, all but their ends.
pub(super) fn hash_slices(
    kernels: &dyn Kernels,
    tree: &Tree,
    table: &[Row],
    slices: &[Source<'_>],
) -> Result<Vec<Piece>, Error> {
    let hash = |slices: &[Source<'_>]| {
        pieces_of(table, slices, |i, first, bytes| {
            let total = table[i].shape.len() as u64 * 4;
            tree.pieces(i as u32, total, first, InMemory(bytes))
                .map_err(|_| Error::Place { name: table[i].name.clone() })
        })
    };
    let (here, there): (Vec<_>, Vec<_>) =
        slices.iter().cloned().partition(|slice| slice.view.host_bytes().is_some());
    let mut pieces = hash(&here)?;
    let (index, mut room) = (Index::of(table), HostBuffer::zeroed(0));
    for slice in there {
        let len = view_of(&slice)?.shape().len();
        let inside = subtrees_inside(slice.first, len, slice.shape.len());
        let view = view_of(&slice)?.reshape(&[len]);
        let part = |range: Range<usize>| Source {
            first: slice.first + range.start,
            view: view.rows(range),
            ..slice.clone()
        };
        for end in [0..inside.start, inside.end..len] {
            let end = part(end);
            let bytes = elementwise::on_host(kernels, end.view, &mut room)?;
            let view = View::new(Mem::Host(bytes), end.view.dtype(), end.view.shape());
            pieces.extend(hash(&[Source { view, ..end }])?);
        }
        if inside.is_empty() {
            continue;
        }
        let unknown = || Error::Slices { name: slice.name.clone(), why: "not in the table" };
        let tensor = index.find(slice.group, &slice.name, &slice.shape).ok_or_else(unknown)? as u32;
        let (mut values, middle) = (vec![[0; 32]; inside.len() / SUBTREE], part(inside));
        let (offset, len) = (middle.first as u64 * 4, digest::SUBTREE_BYTES as u64);
        let inp = middle.view;
        let args = digest::Subtrees { values: &mut values, inp, key: tree.key(), offset };
        digest::subtrees(kernels, args)?;
        let offsets = (offset..).step_by(digest::SUBTREE_BYTES);
        let piece = |(value, offset)| Piece { tensor, offset, len, value };
        pieces.extend(values.iter().copied().zip(offsets).map(piece));
    }
    merge(tree, table, pieces, Copies::Refused)
}

/// The elements of a slice of `len` elements that make up whole subtrees of a tensor of `total`
/// elements, in which it begins at `first`; none where the tensor is a single one.
fn subtrees_inside(first: usize, len: usize, total: usize) -> Range<usize> {
    let start = first.next_multiple_of(SUBTREE) - first;
    let end = ((first + len) / SUBTREE * SUBTREE).saturating_sub(first);
    if total <= SUBTREE || start >= end { 0..0 } else { start..end }
}

/// Elements in a subtree.
const SUBTREE: usize = digest::SUBTREE_BYTES / 4;

/// Merges pieces as far as possible.
pub(super) fn merge(
    tree: &Tree,
    table: &[Row],
    pieces: Vec<Piece>,
    copies: Copies,
) -> Result<Vec<Piece>, Error> {
    let totals: Vec<u64> = table.iter().map(|row| row.shape.len() as u64 * 4).collect();
    tree.merge(pieces, &totals, copies).map_err(|clash| match clash {
        Clash::Overlap(i) => Error::Slices {
            name: table.get(i as usize).map_or("?", |row| &row.name).into(),
            why: "two ranks have the same elements",
        },
        Clash::Differ(i) => Error::Corrupt {
            path: table[i as usize].group.file().into(),
            what: format!(
                "tensor {}, of which two ranks read different bytes,",
                table[i as usize].name
            ),
        },
    })
}

/// The hash of every tensor, from the pieces of all ranks; `None` for one that nobody has a piece
/// of. Collective.
pub(super) fn hashes(
    tree: &Tree,
    table: &[Row],
    mine: Result<Vec<Piece>, Error>,
    copies: Copies,
    comm: &dyn Communicator,
) -> Result<Vec<Option<Hash>>, Error> {
    let merge = |pieces| merge(tree, table, pieces, copies);
    let merged = ranks::merge(comm, mine.and_then(merge), |a, b| merge([a, b].concat()))?;
    let nothing = |row: &Row| row.shape.is_empty().then(|| hash_bytes(&[]));
    let mut hashes: Vec<Option<Hash>> = table.iter().map(nothing).collect();
    for piece in merged {
        let row = &table[piece.tensor as usize];
        if piece.len != row.shape.len() as u64 * 4 {
            let why = "the ranks have it only in part";
            return Err(Error::Slices { name: row.name.clone(), why });
        }
        hashes[piece.tensor as usize] = Some(Hash(piece.value));
    }
    Ok(hashes)
}

/// The hashes of all tensors, if all are there.
pub(super) fn all(table: &[Row], hashes: Vec<Option<Hash>>) -> Result<Vec<Hash>, Error> {
    let one = |(row, hash): (&Row, Option<Hash>)| {
        hash.ok_or_else(|| Error::Slices { name: row.name.clone(), why: "no rank has it" })
    };
    table.iter().zip(hashes).map(one).collect()
}
