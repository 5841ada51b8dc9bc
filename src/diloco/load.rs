//! Reads a saved cluster, which may be damaged, foreign or hostile.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::Cluster;
use super::Error;
use super::Settings;
use super::Setup;
use super::cluster::Part;
use super::fragments;
use super::manifest::INNER;
use super::manifest::MANIFEST;
use super::manifest::Manifest;
use super::save::identity;
use super::tensors::Tensors;
use crate::aggregate::Memory;
use crate::checkpoint;
use crate::codec::Codec;
use crate::crypto::Hash;
use crate::crypto::PeerId;
use crate::ops::Kernels;
use crate::shard::Mesh;
use crate::train::Plan;
use crate::train::Trainer;

/// What a saved cluster must fit.
#[derive(Clone, Debug)]
pub struct Resume<'a> {
    /// On what to compute.
    pub kernels: Arc<dyn Kernels>,
    /// The inner training.
    pub plan: &'a Plan,
    /// The cluster's ranks.
    pub mesh: &'a Mesh,
    /// The outer loop.
    pub settings: Settings,
    /// How updates are written.
    pub codec: Arc<dyn Codec>,
    /// Identity of the job.
    pub job: Hash,
    /// Who this cluster is.
    pub peer: PeerId,
}

impl Cluster {
    /// The cluster that [`Cluster::save`] wrote into the folder `path`, and what the rules of its
    /// fragments remember. Every byte is verified; what is of another job is refused, and the
    /// difference named; no memory is taken on the file's word alone.
    ///
    /// Collective: every rank of the cluster reads the outer state, together they read the inner
    /// training; how many have written it does not matter. If one fails, all do.
    pub fn load(path: &Path, resume: &Resume<'_>) -> Result<(Self, Vec<Memory>), Error> {
        let world = resume.mesh.world().as_ref();
        let (manifest, parts, memories) = checkpoint::all_agree(world, outer_state(path, resume))?;
        let layers: Range<usize> = 0..resume.plan.dims.layers;
        let inner = checkpoint::path_of(&path.join(INNER), manifest.step);
        let (kernels, plan) = (resume.kernels.clone(), resume.plan);
        let trainer = Trainer::resumed(kernels, plan, resume.mesh, layers, &inner)?;
        let setup = Setup {
            trainer,
            settings: resume.settings.clone(),
            codec: resume.codec.clone(),
            job: resume.job,
            peer: resume.peer,
            assignment: manifest.assignment,
        };
        let cluster = Self::of(setup, parts);
        // The files may each be whole, and of different moments.
        let is_whole = cluster.state_hash()? == manifest.state_hash;
        let whole = if is_whole { Ok(()) } else { Err(other_moment(path)) };
        checkpoint::all_agree(world, whole)?;
        Ok((cluster, memories))
    }
}

/// What stands beside the inner training.
type OuterState = (Manifest, Vec<Part>, Vec<Memory>);

/// Reads the outer state, alone.
fn outer_state(path: &Path, resume: &Resume<'_>) -> Result<OuterState, Error> {
    let manifest = Manifest::read(path)?;
    let (at, codec) = (path.join(MANIFEST), resume.codec.as_ref());
    check(&at, &manifest, &identity(&resume.settings, codec, resume.job, resume.peer))?;
    let whole = fragments(&resume.plan.dims, resume.settings.fragments);
    if manifest.fragments.len() != whole.len() {
        let what = format!("{} fragments, not {}", manifest.fragments.len(), whole.len());
        return Err(Error::Damaged { path: at, what });
    }
    let mut file = Tensors::open(path, &manifest)?;
    let mut floats = Vec::new();
    for fragment in &whole {
        floats.push(file.floats(fragment)?);
    }
    let (mut parts, mut memories) = (Vec::new(), Vec::new());
    for ((fragment, entry), values) in whole.into_iter().zip(&manifest.fragments).zip(floats) {
        parts.push(file.part(fragment, entry, values, codec)?);
        memories.push(file.memory(&parts[parts.len() - 1].fragment)?);
    }
    file.end()?;
    Ok((manifest, parts, memories))
}

fn other_moment(path: &Path) -> Error {
    let what = "the state that its files make up has another hash".into();
    Error::Damaged { path: path.join(MANIFEST), what }
}

fn check(path: &Path, manifest: &Manifest, now: &BTreeMap<String, String>) -> Result<(), Error> {
    let nothing = String::from("not there");
    let keys: BTreeSet<_> = manifest.job.keys().chain(now.keys()).collect();
    let differences: Vec<_> = keys
        .into_iter()
        .filter_map(|key| {
            let was = manifest.job.get(key).unwrap_or(&nothing);
            let is = now.get(key).unwrap_or(&nothing);
            (was != is).then(|| format!("{key} was {was}, is {is}"))
        })
        .collect();
    match differences.is_empty() {
        true => Ok(()),
        false => {
            let (path, differences) = (path.to_owned(), differences.join("; "));
            Err(Error::OtherJob { path, differences })
        }
    }
}
