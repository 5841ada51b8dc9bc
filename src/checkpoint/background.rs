//! Checkpoints written beside training, which stops only while its state is copied in memory.

use std::fmt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use rayon::prelude::*;

use super::slice::view_of;
use super::{Contents, Error, Group, Source, folder, ranks, write};
use crate::collective::Communicator;
use crate::crypto::Hash;
use crate::ops::Kernels;
use crate::ops::elementwise;
use crate::tensor::DType;
use crate::tensor::HostBuffer;
use crate::tensor::Mem;
use crate::tensor::MemMut;
use crate::tensor::Shape;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// A writer of checkpoints with a thread, a copy of this rank's slices, and a communicator of its
/// own. At most one checkpoint is under way. Every rank calls the same methods in the same order.
pub struct Background {
    checkpoints: PathBuf,
    keep: usize,
    comm: Arc<dyn Communicator>,
    threads: Arc<rayon::ThreadPool>,
    /// Room for the copy, while no writer has it.
    room: HostBuffer,
    running: Option<JoinHandle<(HostBuffer, Result<Written, Error>)>>,
}

/// A checkpoint that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Optimizer steps done.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
    /// Hash of the state.
    pub hash: Hash,
}

impl Background {
    /// A writer into `checkpoints` that keeps the newest `keep` (0: all). `comm` has all ranks, and
    /// nobody else uses it: split it off.
    pub fn new(
        checkpoints: &Path,
        keep: usize,
        comm: Arc<dyn Communicator>,
    ) -> Result<Self, Error> {
        let threads = rayon::ThreadPoolBuilder::new()
            .num_threads(WRITING_THREADS)
            .thread_name(|_| "checkpoint".into())
            .build()
            .map_err(|e| Error::io("start threads for", checkpoints)(std::io::Error::other(e)))?;
        Ok(Self {
            checkpoints: checkpoints.to_owned(),
            keep,
            comm,
            threads: Arc::new(threads),
            room: HostBuffer::zeroed(0),
            running: None,
        })
    }

    /// Makes room for copies of `slices` now, so that the first save stops training no longer than
    /// the others. Returns how many bytes that takes.
    pub fn reserve(&mut self, slices: &[Source<'_>]) -> usize {
        let size_bytes = slices.iter().map(|s| s.view.shape().len() * 4).sum();
        if self.running.is_none() && self.room.bytes().len() < size_bytes {
            self.room = HostBuffer::zeroed(size_bytes);
            // The system hands out pages when they are first written to.
            self.room.bytes_mut().par_chunks_mut(COPY_BYTES).for_each(|part| part.fill(0));
        }
        size_bytes
    }

    /// Copies `contents`, which are in the memory of `kernels`, and starts to write them; if a checkpoint is still under way, waits for
    /// it first and returns its outcome. After a failure of that one nothing is started.
    pub fn start(
        &mut self,
        kernels: &dyn Kernels,
        contents: Contents<'_>,
    ) -> Result<Option<Written>, Error> {
        let before = self.wait()?;
        self.reserve(&contents.slices);
        let copied = Copied::of(kernels, contents, &mut self.room);
        let (checkpoints, keep) = (self.checkpoints.clone(), self.keep);
        let (comm, threads) = (self.comm.clone(), self.threads.clone());
        let room = std::mem::replace(&mut self.room, HostBuffer::zeroed(0));
        let job = move || {
            let written =
                threads.install(|| copied.write(&room, &checkpoints, keep, comm.as_ref()));
            (room, written)
        };
        let thread = Builder::new().name("checkpoint".into()).spawn(job);
        self.running = Some(thread.map_err(Error::io("start a thread for", &self.checkpoints))?);
        Ok(before)
    }

    /// Whether nothing is under way on this rank. Other ranks may see an end a little earlier or
    /// later: all must agree before one of them takes the outcome, as [`Self::poll`] does.
    pub fn is_idle(&self) -> bool {
        self.running.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The outcome of the checkpoint under way, once it has ended on all ranks of `comm`, which
    /// is the training's, not the writer's. Collective: the same on all.
    pub fn poll(&mut self, comm: &dyn Communicator) -> Result<Option<Written>, Error> {
        if self.running.is_none() {
            return Ok(None);
        }
        let mut all = vec![0; comm.size()];
        comm.all_gather(&[u8::from(self.is_idle())], &mut all)?;
        match all.contains(&0) {
            true => Ok(None),
            false => self.wait(),
        }
    }

    /// Waits for the checkpoint under way; `None` if there is none. The same on all ranks.
    pub fn wait(&mut self) -> Result<Option<Written>, Error> {
        let Some(running) = self.running.take() else { return Ok(None) };
        match running.join() {
            Ok((room, written)) => {
                self.room = room;
                written.map(Some)
            }
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Who cares for the outcome calls `wait`.
            let _ = running.join();
        }
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Background({}, idle: {})", self.checkpoints.display(), self.is_idle())
    }
}

/// Contents whose slices lie one behind the other in the room.
struct Copied {
    /// All but the slices.
    contents: Contents<'static>,
    /// What the slices are slices of, the first element, and how many.
    slices: Vec<(Group, String, Shape, usize, usize)>,
    /// Whether they could be copied. A failure goes with the write, where all ranks hear of it.
    outcome: Result<(), Error>,
}

impl Copied {
    /// Copies the slices into `room`, which is large enough, those of the host on all threads of the
    /// current pool.
    fn of(kernels: &dyn Kernels, contents: Contents<'_>, room: &mut HostBuffer) -> Self {
        let outcome = copy(kernels, &contents.slices, room);
        let slice = |s: Source<'_>| (s.group, s.name, s.shape, s.first, s.view.shape().len());
        let Contents { progress, table, slices, plan_hash, plan, model, config, attachments } =
            contents;
        let slices = slices.into_iter().map(slice).collect();
        let contents = Contents {
            progress,
            table,
            slices: Vec::new(),
            plan_hash,
            plan,
            model,
            config,
            attachments,
        };
        Self { contents, slices, outcome }
    }

    /// Writes the checkpoint, and removes old ones.
    fn write(
        self,
        room: &HostBuffer,
        checkpoints: &Path,
        keep: usize,
        comm: &dyn Communicator,
    ) -> Result<Written, Error> {
        let mut contents: Contents<'_> = self.contents;
        let mut rest = room.bytes();
        for (group, name, shape, first, len) in self.slices {
            let (bytes, next) = rest.split_at(len * 4);
            let view = View::new(Mem::Host(bytes), DType::F32, Shape::new(&[len]));
            contents.slices.push(Source { group, name, shape, first, view });
            rest = next;
        }
        let (path, hash) = write::write_after(self.outcome, checkpoints, &contents, comm)?;
        ranks::first(comm, || folder::remove_old(checkpoints, keep))?;
        Ok(Written { step: contents.progress.step, path, hash })
    }
}

/// Copies slices into `room`, one behind the other.
fn copy(kernels: &dyn Kernels, slices: &[Source<'_>], room: &mut HostBuffer) -> Result<(), Error> {
    let (mut rest, mut parts) = (room.bytes_mut(), Vec::new());
    for slice in slices {
        let view = view_of(slice)?;
        let (to, next) = rest.split_at_mut(view.size_bytes());
        rest = next;
        match view.host_bytes() {
            Some(from) => parts.extend(to.chunks_mut(COPY_BYTES).zip(from.chunks(COPY_BYTES))),
            None => {
                let to = ViewMut::new(MemMut::Host(to), view.dtype(), view.shape());
                elementwise::copy(kernels, to, view)?;
            }
        }
    }
    parts.into_par_iter().for_each(|(to, from)| to.copy_from_slice(from));
    Ok(())
}

/// Threads that write and hash: one waits for the system while the other computes. More would take
/// cores from training.
const WRITING_THREADS: usize = 2;

/// Bytes a thread copies at a time: enough that the system's copy goes past the caches.
const COPY_BYTES: usize = 32 << 20;
