//! An NCCL communicator: no call waits without a bound, it ends by Finalize, and by Abort only after
//! a failure.

use std::ffi::c_int;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::calls::{Comm, Config, IN_PROGRESS, Id, SUCCESS, UINT8};
use super::error::Error;
use super::library::{Library, pointer};
use crate::backend::cuda::door::Door;
use crate::collective::device::Turn;

/// One rank's end.
pub(super) struct NcclCommunicator {
    nccl: Library,
    /// The device that it works on.
    door: Arc<dyn Door>,
    /// Null after it has ended; held during every call.
    comm: Mutex<Handle>,
    /// How long Finalize may take.
    patience: Duration,
}

/// An `ncclComm_t`, used by one thread at a time.
struct Handle(Comm);

// SAFETY: NCCL lets any thread use a communicator, one at a time; the mutex sees to that.
unsafe impl Send for Handle {}

impl NcclCommunicator {
    /// A name for a new group, made by one of its ranks for all.
    pub fn id(library: &Library) -> Result<Id, Error> {
        let mut id = Id([0; 128]);
        // SAFETY: the result is in scope.
        let rc = unsafe { (library.calls.get_unique_id)(&mut id) };
        library.check("ncclGetUniqueId", std::ptr::null_mut(), rc)?;
        Ok(id)
    }

    /// Rank `rank` of `size` ranks that have the same `id`; collective. Every one of them comes
    /// within `patience`.
    pub fn start(
        library: &Library,
        door: Arc<dyn Door>,
        id: Id,
        (rank, size): (usize, usize),
        max_ctas: Option<u16>,
        patience: Duration,
    ) -> Result<Self, Error> {
        const CALL: &str = "ncclCommInitRankConfig";
        let number = |n: usize| c_int::try_from(n).map_err(|_| Error::Ranks(format!("{n} ranks")));
        let (rank, size) = (number(rank)?, number(size)?);
        door.bind_thread().map_err(|fault| Error::Device(fault.to_string()))?;
        let mut config = Config::waiting_for_nothing(max_ctas);
        let mut comm = std::ptr::null_mut();
        // SAFETY: `config` is laid out as its size and version say, and NCCL copies it; the handle
        // goes where this value keeps it.
        let rc = unsafe {
            (library.calls.comm_init_rank_config)(&mut comm, size, id, rank, &mut config)
        };
        let started = library.check(CALL, comm, rc);
        let this = Self { nccl: library.clone(), door, comm: Mutex::new(Handle(comm)), patience };
        let ready = started.and_then(|()| this.settle(CALL, &this.lock(), patience));
        ready.inspect_err(|_| this.abort())?;
        Ok(this)
    }

    /// Starts to send and to receive on the stream of `door`. Ends when NCCL has taken it all.
    pub fn exchange(
        &self,
        door: &dyn Door,
        turn: &Turn<'_>,
        patience: Duration,
    ) -> Result<(), Error> {
        door.bind_thread().map_err(|fault| Error::Device(fault.to_string()))?;
        let Some(stream) = door.stream() else {
            return Err(Error::NoGpu { device: door.describe() });
        };
        let (calls, stream) = (&self.nccl.calls, pointer(stream.handle));
        let peer = c_int::try_from(turn.peer).map_err(|_| Error::Ranks("too many".into()))?;
        let handle = self.lock();
        let comm = handle.alive()?;
        // SAFETY: allowed at any time; every start meets its end below.
        let mut outcome = self.nccl.check("ncclGroupStart", comm, unsafe { (calls.group_start)() });
        for span in turn.give {
            let at = pointer(span.at.0).cast_const();
            // SAFETY: the span is live device memory, which the caller keeps, unchanged, until the
            // stream is past this; `comm` is alive and `stream` is of its device.
            let rc = || unsafe { (calls.send)(at, span.bytes, UINT8, peer, comm, stream) };
            outcome = outcome.and_then(|()| self.nccl.check("ncclSend", comm, rc()));
        }
        for span in turn.take {
            let at = pointer(span.at.0);
            // SAFETY: as above; nobody else touches what is received into.
            let rc = || unsafe { (calls.receive)(at, span.bytes, UINT8, peer, comm, stream) };
            outcome = outcome.and_then(|()| self.nccl.check("ncclRecv", comm, rc()));
        }
        // SAFETY: ends the group begun above, on the same thread.
        let ended = self.nccl.check("ncclGroupEnd", comm, unsafe { (calls.group_end)() });
        outcome.and(ended)?;
        self.settle("ncclGroupEnd", &handle, patience)
    }

    /// Tells of a failure that has come to light since, of this rank or another.
    pub fn check(&self) -> Result<(), Error> {
        self.state("ncclCommGetAsyncError", self.lock().alive()?).map(drop)
    }

    /// Ends it now, and what is under way on the device with it.
    pub fn abort(&self) {
        let mut handle = self.lock();
        let comm = std::mem::replace(&mut handle.0, std::ptr::null_mut());
        if !comm.is_null() && self.door.bind_thread().is_ok() {
            // SAFETY: alive until here; nobody can use it any more.
            let _ = unsafe { (self.nccl.calls.comm_abort)(comm) };
        }
    }

    /// Ends it after everything under way has ended on all ranks.
    fn finalize(&self) -> Result<(), Error> {
        const CALL: &str = "ncclCommFinalize";
        let mut handle = self.lock();
        let comm = handle.alive()?;
        self.door.bind_thread().map_err(|fault| Error::Device(fault.to_string()))?;
        // SAFETY: alive, and finalized once: nobody else has it when this is called.
        self.nccl.check(CALL, comm, unsafe { (self.nccl.calls.comm_finalize)(comm) })?;
        self.settle(CALL, &handle, self.patience.min(LONGEST_FAREWELL))?;
        handle.0 = std::ptr::null_mut();
        // SAFETY: finalized; nobody can use it any more.
        let rc = unsafe { (self.nccl.calls.comm_destroy)(comm) };
        self.nccl.check("ncclCommDestroy", std::ptr::null_mut(), rc)
    }

    /// Waits until what `call` began in the background has ended.
    fn settle(&self, call: &'static str, handle: &Handle, patience: Duration) -> Result<(), Error> {
        let comm = handle.alive()?;
        let (started, mut pause) = (Instant::now(), SHORTEST_PAUSE);
        while self.state(call, comm)? == IN_PROGRESS {
            let waited = started.elapsed();
            if waited > patience {
                return Err(Error::TimedOut { call, seconds: waited.as_secs_f64() });
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Ok(())
    }

    /// Success or in progress; a failure is that of `call` or of what it began.
    fn state(&self, call: &'static str, comm: Comm) -> Result<c_int, Error> {
        let mut state = SUCCESS;
        // SAFETY: `comm` is alive, the result in scope.
        let rc = unsafe { (self.nccl.calls.comm_get_async_error)(comm, &mut state) };
        self.nccl.check("ncclCommGetAsyncError", comm, rc)?;
        self.nccl.check(call, comm, state).map(|()| state)
    }

    fn lock(&self) -> MutexGuard<'_, Handle> {
        // Nothing panics while it is held; if something did, the handle is still right.
        self.comm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Handle {
    fn alive(&self) -> Result<Comm, Error> {
        match self.0.is_null() {
            true => Err(Error::Ranks("the NCCL communicator has ended after a failure".into())),
            false => Ok(self.0),
        }
    }
}

impl Drop for NcclCommunicator {
    fn drop(&mut self) {
        if self.lock().0.is_null() {
            return;
        }
        if self.finalize().is_err() {
            self.abort();
        }
    }
}

impl fmt::Debug for NcclCommunicator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NcclCommunicator({:?} on {})", self.nccl, self.door.describe())
    }
}

/// Between two looks at what goes on in the background.
const SHORTEST_PAUSE: Duration = Duration::from_micros(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);
/// Who is still busy when others leave may be dead.
const LONGEST_FAREWELL: Duration = Duration::from_secs(20);
