//! Writes a cluster to disk: a folder that is whole or not there at all.
//!
//! `00000100/` holds `inner/00000100/`, a checkpoint of the inner training; `outer.safetensors` with
//! outer weights, momentum, residuals, updates in flight and what the aggregation rules remember;
//! and `outer.json`, with a hash of each of those, sealed. It is made under a temporary name, synced,
//! and renamed.

use std::collections::BTreeMap;
use std::fs;
use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use super::Cluster;
use super::Error;
use super::Settings;
use super::manifest::FORMAT;
use super::manifest::FragmentEntry;
use super::manifest::INNER;
use super::manifest::Kind;
use super::manifest::MANIFEST;
use super::manifest::Manifest;
use super::manifest::TENSORS;
use super::manifest::TensorEntry;
use super::manifest::VERSION;
use super::manifest::words;
use crate::aggregate::Aggregator;
use crate::checkpoint;
use crate::codec::Codec;
use crate::crypto::Hash;
use crate::crypto::PeerId;

impl Cluster {
    /// Saves everything that decides the next rounds into a folder of `dir`, named after the inner
    /// steps done; its path. `config` are the run's settings, for people; `rules` are those of the
    /// fragments, and keep what they remember. A folder of that name is replaced once the new one is
    /// whole.
    ///
    /// Collective: the ranks of the cluster write the inner training together. All of them hold the
    /// same outer state, which the first one writes; so the bytes do not depend on their number.
    ///
    /// # Panics
    /// If there is not one rule per fragment (a bug of the caller).
    pub fn save(&self, dir: &Path, config: &str, rules: &[Aggregator]) -> Result<PathBuf, Error> {
        assert_eq!(rules.len(), self.parts.len(), "a rule per fragment");
        let world = self.trainer.mesh().world().as_ref();
        let unfinished = dir.join(format!("{UNFINISHED}{:08}-cluster", self.done()));
        let path = checkpoint::path_of(dir, self.done());
        let published = checkpoint::on_first(world, || make(dir, &unfinished))
            .and_then(|()| Ok(self.trainer.save(&unfinished.join(INNER), config, &[])?))
            .and_then(|_| self.state_hash())
            .and_then(|state_hash| {
                checkpoint::on_first(world, || {
                    self.write(&unfinished, state_hash, rules)?;
                    publish(dir, &unfinished, &path)
                })
            });
        if published.is_err() && world.rank() == 0 {
            // The error that matters is the first one.
            let _ = fs::remove_dir_all(&unfinished);
        }
        published.map(|()| path)
    }

    /// Writes what stands beside the inner training. For one rank.
    fn write(&self, folder: &Path, state_hash: Hash, rules: &[Aggregator]) -> Result<(), Error> {
        let memories: Vec<_> = rules.iter().map(|rule| rule.memory().to_bytes()).collect();
        let contents = self.contents(&memories);
        let entry = |(name, kind, bytes): &(String, Kind, &[u8])| TensorEntry {
            name: name.clone(),
            dtype: *kind,
            elements: (bytes.len() / if *kind == Kind::F32 { 4 } else { 1 }) as u64,
            hash: checkpoint::hash_bytes(bytes),
        };
        let tensors: Vec<_> = contents.iter().map(entry).collect();
        let path = folder.join(TENSORS);
        let head = Manifest::head_of(&tensors).unwrap_or_default();
        let data = contents.iter().map(|(_, _, bytes)| *bytes);
        let parts: Vec<&[u8]> = std::iter::once(&head[..]).chain(data).collect();
        write_synced(&path, &parts)?;
        let fragment = |part: &super::cluster::Part| FragmentEntry {
            round: part.outer.round(),
            in_flight: part.in_flight.as_ref().map(|sent| words(&sent.contributed)),
        };
        let manifest = Manifest {
            seal: String::new(),
            format: FORMAT.into(),
            version: VERSION,
            step: self.done(),
            state_hash,
            job: identity(&self.settings, self.codec().as_ref(), self.job, self.peer()),
            assignment: self.assignment,
            fragments: self.parts.iter().map(fragment).collect(),
            size_bytes: parts.iter().map(|part| part.len() as u64).sum(),
            head_hash: checkpoint::hash_bytes(&head),
            tensors,
        };
        write_synced(&folder.join(MANIFEST), &[manifest.sealed_text().as_bytes()])?;
        sync(&folder.join(INNER))?;
        sync(folder)
    }

    /// Names and bytes of all that is kept: f32 first, so that all of them lie aligned. What is
    /// empty is left out.
    fn contents<'a>(&'a self, memories: &'a [Vec<u8>]) -> Vec<(String, Kind, &'a [u8])> {
        let (mut floats, mut bytes) = (Vec::new(), Vec::new());
        for (p, (part, memory)) in self.parts.iter().zip(memories).enumerate() {
            let outer = &part.outer;
            for (name, values) in [
                (names::weights(p), &outer.weights[..]),
                (names::momentum(p), &outer.momentum),
                (names::last_aggregate(p), &outer.last),
                (names::residual(p), part.residual.values()),
                (names::last_pseudo_gradient(p), &part.last),
            ] {
                floats.push((name, Kind::F32, bytemuck::cast_slice(values)));
            }
            let sent = part.in_flight.as_ref().map_or(&[][..], |sent| &sent.bytes);
            bytes.push((names::in_flight(p), Kind::U8, sent));
            bytes.push((names::memory(p), Kind::U8, memory));
        }
        floats.extend(bytes);
        floats.retain(|(_, _, bytes)| !bytes.is_empty());
        floats
    }
}

/// Names of tensors of the file, by fragment.
pub(super) mod names {
    pub fn weights(p: usize) -> String {
        format!("fragments.{p}.outer.weights")
    }

    pub fn momentum(p: usize) -> String {
        format!("fragments.{p}.outer.momentum")
    }

    pub fn last_aggregate(p: usize) -> String {
        format!("fragments.{p}.outer.last_aggregate")
    }

    pub fn residual(p: usize) -> String {
        format!("fragments.{p}.residual")
    }

    pub fn last_pseudo_gradient(p: usize) -> String {
        format!("fragments.{p}.last_pseudo_gradient")
    }

    pub fn memory(p: usize) -> String {
        format!("fragments.{p}.rule.memory")
    }

    pub fn in_flight(p: usize) -> String {
        format!("fragments.{p}.in_flight")
    }
}

/// What must be the same to go on, by key.
pub(super) fn identity(
    settings: &Settings,
    codec: &dyn Codec,
    job: Hash,
    peer: PeerId,
) -> BTreeMap<String, String> {
    // A table of plain numbers and strings: this cannot fail.
    let fields = match serde_json::to_value(settings) {
        Ok(serde_json::Value::Object(fields)) => fields,
        _ => Default::default(),
    };
    let decides = |(key, _): &(String, serde_json::Value)| key != "correlation";
    let text =
        |(key, value): (String, serde_json::Value)| (format!("outer.{key}"), value.to_string());
    let mut all: BTreeMap<_, _> = fields.into_iter().filter(decides).map(text).collect();
    let spec: String = codec.spec().iter().map(|byte| format!("{byte:02x}")).collect();
    all.extend([("codec".to_owned(), spec), ("job".to_owned(), job.to_string())]);
    all.insert("peer".to_owned(), peer.to_string());
    all
}

/// Makes the folder that is not whole yet, an old one of its name removed.
fn make(dir: &Path, unfinished: &Path) -> Result<(), Error> {
    fs::create_dir_all(dir).map_err(Error::io("create", dir))?;
    remove_if_there(unfinished)?;
    fs::create_dir(unfinished).map_err(Error::io("create", unfinished))
}

/// Renames the finished folder into place; after that it exists.
fn publish(dir: &Path, unfinished: &Path, path: &Path) -> Result<(), Error> {
    if path.exists() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let replaced = dir.join(format!("{UNFINISHED}replaced-{name}"));
        remove_if_there(&replaced)?;
        fs::rename(path, &replaced).map_err(Error::io("rename", path))?;
        fs::rename(unfinished, path).map_err(Error::io("rename", unfinished))?;
        remove_if_there(&replaced)?;
    } else {
        fs::rename(unfinished, path).map_err(Error::io("rename", unfinished))?;
    }
    sync(dir)
}

/// Writes a file and waits until the disk has it.
fn write_synced(path: &Path, parts: &[&[u8]]) -> Result<(), Error> {
    let mut file = File::create_new(path).map_err(Error::io("create", path))?;
    parts.iter().try_for_each(|part| file.write_all(part)).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// Waits until the disk has the entries of a folder.
fn sync(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|f| f.sync_all()).map_err(Error::io("sync", dir))
}

/// Removes a folder that may not exist.
fn remove_if_there(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", dir)(e)),
        _ => Ok(()),
    }
}

/// Begins the name of a folder that is not whole; [`checkpoint::remove_unfinished`] removes those
/// that were left.
const UNFINISHED: &str = ".unfinished-";
