//! The file of a saved cluster's outer state, which may be damaged or hostile, and how it is read.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::Error;
use super::Fragment;
use super::Outer;
use super::cluster::InFlight;
use super::cluster::Part;
use super::manifest::FragmentEntry;
use super::manifest::Kind;
use super::manifest::Manifest;
use super::manifest::TENSORS;
use super::manifest::TensorEntry;
use super::manifest::contributed;
use super::save::names;
use crate::aggregate::Memory;
use crate::checkpoint;
use crate::codec::Codec;
use crate::codec::Residual;

/// `outer.safetensors`, read from front to back as its table says.
pub(super) struct Tensors {
    path: PathBuf,
    file: File,
    left: VecDeque<TensorEntry>,
}

/// The f32 tensors of a fragment.
pub(super) struct Floats {
    weights: Vec<f32>,
    momentum: Vec<f32>,
    last_aggregate: Vec<f32>,
    residual: Vec<f32>,
    last_pseudo_gradient: Vec<f32>,
}

impl Tensors {
    /// Opens the file and checks its length and header.
    pub fn open(folder: &Path, manifest: &Manifest) -> Result<Self, Error> {
        let path = folder.join(TENSORS);
        let damaged = |what: &str| Error::Damaged { path: path.clone(), what: what.into() };
        let mut file = File::open(&path).map_err(Error::io("open", &path))?;
        let got = file.metadata().map_err(Error::io("inspect", &path))?.len();
        if got != manifest.size_bytes {
            let want = manifest.size_bytes;
            return Err(damaged(&format!(
                "{got} bytes, should be {want}: truncated or overwritten"
            )));
        }
        let head = Manifest::head_of(&manifest.tensors);
        let head = head.ok_or_else(|| damaged("its tensors are larger than a machine"))?;
        let sizes = manifest.tensors.iter().map(TensorEntry::size_bytes);
        let all = sizes.chain([Some(head.len() as u64)]).try_fold(0u64, |n, s| n.checked_add(s?));
        if all != Some(got) || checkpoint::hash_bytes(&head) != manifest.head_hash {
            return Err(damaged("its table does not fit the file"));
        }
        let mut found = vec![0; head.len()];
        file.read_exact(&mut found).map_err(Error::io("read", &path))?;
        if found != head {
            return Err(damaged("its header is not that of its table"));
        }
        Ok(Self { path, file, left: manifest.tensors.clone().into() })
    }

    /// The elements of the next tensor, if that is `name`. All tensors together are as long as the
    /// file, so what is allocated is there to be read.
    fn next(&mut self, name: &str, kind: Kind, most: u64) -> Result<Option<Vec<u8>>, Error> {
        if self.left.front().is_none_or(|entry| entry.name != name) {
            return Ok(None);
        }
        let Some(entry) = self.left.pop_front() else { return Ok(None) };
        let damaged = |what: String| Error::Damaged { path: self.path.clone(), what };
        let size_bytes =
            entry.size_bytes().filter(|_| entry.dtype == kind && entry.elements <= most);
        let size_bytes = size_bytes.and_then(|size| usize::try_from(size).ok());
        let size_bytes =
            size_bytes.ok_or_else(|| damaged(format!("tensor {name} is none of this model")))?;
        let mut bytes = vec![0; size_bytes];
        self.file.read_exact(&mut bytes).map_err(Error::io("read", &self.path))?;
        if checkpoint::hash_bytes(&bytes) != entry.hash {
            let what = format!("tensor {name} does not match its hash: bytes have changed");
            return Err(damaged(what));
        }
        Ok(Some(bytes))
    }

    /// An f32 tensor of `elements` elements; empty if it is not there.
    fn f32(&mut self, name: &str, elements: usize) -> Result<Vec<f32>, Error> {
        let Some(bytes) = self.next(name, Kind::F32, elements as u64)? else {
            return Ok(Vec::new());
        };
        let (words, _) = bytes.as_chunks::<4>();
        let values: Vec<f32> = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        match values.len() == elements {
            true => Ok(values),
            false => Err(self.lacks(name)),
        }
    }

    fn bytes(&mut self, name: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        self.next(name, Kind::U8, most)
    }

    fn lacks(&self, name: &str) -> Error {
        Error::Damaged { path: self.path.clone(), what: format!("tensor {name} is not whole") }
    }

    /// The f32 tensors of the next fragment; weights and residual must be there.
    pub fn floats(&mut self, fragment: &Fragment) -> Result<Floats, Error> {
        let (p, elements) = (fragment.index, fragment.layout.elements());
        let floats = Floats {
            weights: self.f32(&names::weights(p), elements)?,
            momentum: self.f32(&names::momentum(p), elements)?,
            last_aggregate: self.f32(&names::last_aggregate(p), elements)?,
            residual: self.f32(&names::residual(p), elements)?,
            last_pseudo_gradient: self.f32(&names::last_pseudo_gradient(p), elements)?,
        };
        for (name, values) in
            [(names::weights(p), &floats.weights), (names::residual(p), &floats.residual)]
        {
            if values.len() != elements {
                return Err(self.lacks(&name));
            }
        }
        Ok(floats)
    }

    /// The fragment that `values` belong to, with what is in flight.
    pub fn part(
        &mut self,
        fragment: Fragment,
        entry: &FragmentEntry,
        values: Floats,
        codec: &dyn Codec,
    ) -> Result<Part, Error> {
        let name = names::in_flight(fragment.index);
        let blocks = fragment.layout.blocks().iter();
        let most: usize = blocks.map(|block| 4 + codec.max_bytes(block.len())).sum();
        let bytes = self.bytes(&name, (most + MAX_HEADER_BYTES) as u64)?;
        let in_flight = match (bytes, &entry.in_flight) {
            (Some(bytes), Some(words)) => {
                Some(InFlight { bytes: bytes.into(), contributed: contributed(words) })
            }
            (None, None) => None,
            _ => return Err(self.lacks(&name)),
        };
        let outer = Outer {
            round: entry.round,
            weights: values.weights,
            momentum: values.momentum,
            last: values.last_aggregate,
        };
        Ok(Part {
            fragment,
            outer: Arc::new(outer),
            residual: Residual::from_values(values.residual),
            last: values.last_pseudo_gradient,
            in_flight,
        })
    }

    /// What the rule of a fragment remembers.
    pub fn memory(&mut self, fragment: &Fragment) -> Result<Memory, Error> {
        let name = names::memory(fragment.index);
        let Some(bytes) = self.bytes(&name, u64::MAX)? else { return Err(self.lacks(&name)) };
        let read = Memory::from_bytes(fragment.layout.elements(), &bytes);
        read.map_err(|e| Error::Damaged {
            path: self.path.clone(),
            what: format!("tensor {name}: {e}"),
        })
    }

    /// Everything must have been read.
    pub fn end(self) -> Result<(), Error> {
        match self.left.front() {
            None => Ok(()),
            Some(entry) => {
                let what = format!("tensor {} is none of this model", entry.name);
                Err(Error::Damaged { path: self.path, what })
            }
        }
    }
}

/// The header of an update is shorter.
const MAX_HEADER_BYTES: usize = 1024;
