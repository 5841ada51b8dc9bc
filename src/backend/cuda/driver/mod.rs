//! The driver of a GPU as a [`Door`]: one context, its kernels, and a stream.
//!
//! libcuda is loaded at run time. Nothing of it is called before it is known to be there
//! ([`Gpu::open`]); from then on every failure is a [`Fault`]. None of this has run on a GPU yet.

mod context;
mod fault;
mod graph;
mod staging;
mod tensor_map;

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use cudarc::driver::result;
use cudarc::driver::result::stream::StreamKind;
use cudarc::driver::sys;

pub use context::Seen;
pub use context::seen;

use super::door::Address;
use super::door::Door;
use super::door::Fault;
use super::door::ForeignCall;
use super::door::GraphId;
use super::door::Launch;
use super::door::Mark;
use super::door::Matrix;
use super::door::Memory;
use super::door::Stream;
use super::door::Work;
use context::Context;
use fault::locked;
use graph::Graph;
use staging::Staging;

/// A GPU through one stream.
#[derive(Debug)]
pub struct Gpu {
    context: Arc<Context>,
    stream: Handle,
    staging: Mutex<Staging>,
    graphs: Mutex<HashMap<u64, Graph>>,
    next_graph: AtomicU64,
}

/// A stream of the driver's, destroyed when dropped.
#[derive(Debug)]
struct Handle(sys::CUstream);

// SAFETY: the driver takes a stream from any thread.
unsafe impl Send for Handle {}
// SAFETY: as above; the driver's calls on a stream are thread-safe.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: this stream was created by `Gpu::on` and is not used again. A failure means that
        // the device has failed, which was told before.
        let _ = unsafe { result::stream::destroy(self.0) };
    }
}

impl Gpu {
    /// GPU `index` of those that this process may see.
    pub fn open(index: usize) -> Result<Self, Fault> {
        Self::on(Arc::new(Context::open(index)?))
    }

    /// A new stream of `context`.
    fn on(context: Arc<Context>) -> Result<Self, Fault> {
        context.bind()?;
        let stream = result::stream::create(StreamKind::NonBlocking);
        let stream = Handle(stream.map_err(|e| context.fault("cuStreamCreate", e))?);
        Ok(Self {
            context,
            stream,
            staging: Mutex::default(),
            graphs: Mutex::default(),
            next_graph: AtomicU64::new(0),
        })
    }
}

impl Drop for Gpu {
    fn drop(&mut self) {
        // What is under way uses memory that is about to go: pinned buffers, graphs.
        let _ = self.synchronize();
        locked(&self.staging).free();
        locked(&self.graphs).clear();
    }
}

impl Door for Gpu {
    fn describe(&self) -> String {
        format!("cuda:{} {}", self.context.index, self.context.name)
    }

    fn compute_capability(&self) -> (u32, u32) {
        self.context.capability
    }

    fn memory(&self) -> Result<Memory, Fault> {
        self.context.bind()?;
        let (free, total) =
            result::mem_get_info().map_err(|e| self.context.fault("cuMemGetInfo", e))?;
        Ok(Memory { free_bytes: free as u64, total_bytes: total as u64 })
    }

    fn alloc(&self, bytes: usize) -> Result<Address, Fault> {
        if bytes == 0 {
            return Ok(Address::default());
        }
        self.context.bind()?;
        // SAFETY: the memory is cleared before anyone can read it.
        let address = match unsafe { result::malloc_sync(bytes) } {
            Ok(address) => Address(address),
            Err(e) if e.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                let memory = self.memory()?;
                let (free, total) = (memory.free_bytes, memory.total_bytes);
                return Err(Fault::OutOfMemory { bytes, free, total });
            }
            Err(e) => return Err(self.context.fault("cuMemAlloc", e)),
        };
        self.clear(address, bytes)?;
        // Another stream may be the first to use it.
        self.synchronize()?;
        Ok(address)
    }

    fn free(&self, address: Address) {
        if address == Address::default() || self.context.bind().is_err() {
            return;
        }
        // SAFETY: `alloc` made it, its owner gives it back once, and the driver waits for what uses
        // it. A failure shows at the next call.
        let _ = unsafe { result::free_sync(address.0) };
    }

    fn write(&self, to: Address, from: &[u8]) -> Result<(), Fault> {
        self.context.bind()?;
        locked(&self.staging).write(&self.context, self.stream.0, to, from)
    }

    fn read(&self, to: &mut [u8], from: Address) -> Result<(), Fault> {
        self.context.bind()?;
        locked(&self.staging).read(&self.context, self.stream.0, to, from)
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Fault> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.bind()?;
        // SAFETY: both ranges lie in live allocations, as the views of a tensor do.
        let copied = unsafe { result::memcpy_dtod_async(to.0, from.0, bytes, self.stream.0) };
        copied.map_err(|e| self.context.fault("cuMemcpyDtoDAsync", e))
    }

    fn clear(&self, to: Address, bytes: usize) -> Result<(), Fault> {
        if bytes == 0 {
            return Ok(());
        }
        self.context.bind()?;
        // SAFETY: the range lies in a live allocation, as the views of a tensor do.
        let cleared = unsafe { result::memset_d8_async(to.0, 0, bytes, self.stream.0) };
        cleared.map_err(|e| self.context.fault("cuMemsetD8Async", e))
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        self.context.bind()?;
        let function = self.context.function(launch.kernel, launch.shared_bytes)?;
        let mut words: Vec<u64> = launch.args.iter().map(|arg| arg.word()).collect();
        let mut parameters: Vec<*mut c_void> =
            words.iter_mut().map(|word| (&raw mut *word).cast()).collect();
        let ([gx, gy, gz], [bx, by, bz]) = (launch.grid, launch.block);
        // SAFETY: the driver copies as many bytes of each word as the parameter has. That number,
        // order and types are the kernel's, and that its accesses stay inside live allocations, is
        // the contract of `Door::launch`; the emulator checks both for every launcher.
        let launched = unsafe {
            let (grid, block) = ((gx, gy, gz), (bx, by, bz));
            let (shared, stream) = (launch.shared_bytes, self.stream.0);
            result::launch_kernel(function, grid, block, shared, stream, &mut parameters)
        };
        launched.map_err(|e| self.context.launch_fault(launch.kernel, e))?;
        self.context.launched(launch.kernel);
        Ok(())
    }

    fn issue(&self, call: &ForeignCall) -> Result<(), Fault> {
        self.context.bind()?;
        call.work.issue(self.stream.0 as u64, &call.at)?;
        self.context.launched("of a library");
        Ok(())
    }

    fn synchronize(&self) -> Result<(), Fault> {
        self.context.bind()?;
        // SAFETY: the stream lives as long as `self`.
        let done = unsafe { result::stream::synchronize(self.stream.0) };
        done.map_err(|e| self.context.fault("cuStreamSynchronize", e))
    }

    fn time(&self, work: &mut dyn FnMut()) -> Result<Duration, Fault> {
        self.context.bind()?;
        let [start, end] = [Event::timed(&self.context)?, Event::timed(&self.context)?];
        start.record(&self.context, self.stream.0)?;
        work();
        end.record(&self.context, self.stream.0)?;
        self.synchronize()?;
        // SAFETY: both events are alive, keep times, and have passed.
        let ms = unsafe { result::event::elapsed(start.0, end.0) };
        let ms = ms.map_err(|e| self.context.fault("cuEventElapsedTime", e))?;
        Ok(Duration::from_secs_f64(f64::from(ms).max(0.0) / 1e3))
    }

    fn record(&self, work: &[Work]) -> Result<Option<GraphId>, Fault> {
        self.context.bind()?;
        let graph = Graph::capture(self, work)?;
        let id = self.next_graph.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        locked(&self.graphs).insert(id, graph);
        Ok(Some(GraphId(id)))
    }

    fn replay(&self, id: GraphId) -> Result<(), Fault> {
        self.context.bind()?;
        match locked(&self.graphs).get(&id.0) {
            Some(graph) => graph.launch(&self.context, self.stream.0),
            None => Err(Fault::Driver { call: "replay", cause: format!("there is no {id:?}") }),
        }
    }

    fn forget(&self, id: GraphId) {
        if self.context.bind().is_ok() {
            locked(&self.graphs).remove(&id.0);
        }
    }

    fn beside(&self) -> Result<Arc<dyn Door>, Fault> {
        Ok(Arc::new(Self::on(self.context.clone())?))
    }

    fn mark(&self) -> Result<Mark, Fault> {
        self.context.bind()?;
        let event = Event::new(&self.context)?;
        event.record(&self.context, self.stream.0)?;
        Ok(Mark(Arc::new(event)))
    }

    fn wait_for(&self, mark: &Mark) -> Result<(), Fault> {
        let Some(event) = mark.0.downcast_ref::<Event>() else { return Ok(()) };
        self.context.bind()?;
        let flags = sys::CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: stream and event are alive.
        let waits = unsafe { result::stream::wait_event(self.stream.0, event.0, flags) };
        waits.map_err(|e| self.context.fault("cuStreamWaitEvent", e))
    }

    fn passed(&self, mark: &Mark) -> Result<bool, Fault> {
        let Some(event) = mark.0.downcast_ref::<Event>() else { return Ok(true) };
        self.context.bind()?;
        // SAFETY: the event is alive.
        match unsafe { result::event::query(event.0) } {
            Ok(()) => Ok(true),
            Err(e) if e.0 == sys::CUresult::CUDA_ERROR_NOT_READY => Ok(false),
            Err(e) => Err(self.context.fault("cuEventQuery", e)),
        }
    }

    fn tensor_map(&self, matrix: &Matrix) -> Result<Option<[u8; 128]>, Fault> {
        self.context.bind()?;
        tensor_map::encode(&self.context, matrix).map(Some)
    }

    fn stream(&self) -> Option<Stream> {
        Some(Stream { handle: self.stream.0 as u64, bus_id: self.context.bus_id.clone() })
    }

    fn bind_thread(&self) -> Result<(), Fault> {
        self.context.bind()
    }
}

/// A point in a stream.
#[derive(Debug)]
struct Event(sys::CUevent);

// SAFETY: the driver takes an event from any thread.
unsafe impl Send for Event {}
// SAFETY: as above; the driver's calls on an event are thread-safe.
unsafe impl Sync for Event {}

impl Event {
    fn new(context: &Context) -> Result<Self, Fault> {
        Self::with(context, sys::CUevent_flags::CU_EVENT_DISABLE_TIMING)
    }

    /// One that keeps the time at which it passed.
    fn timed(context: &Context) -> Result<Self, Fault> {
        Self::with(context, sys::CUevent_flags::CU_EVENT_DEFAULT)
    }

    fn with(context: &Context, flags: sys::CUevent_flags) -> Result<Self, Fault> {
        let event = result::event::create(flags);
        Ok(Self(event.map_err(|e| context.fault("cuEventCreate", e))?))
    }

    fn record(&self, context: &Context, stream: sys::CUstream) -> Result<(), Fault> {
        // SAFETY: event and stream are alive, and of one context.
        let recorded = unsafe { result::event::record(self.0, stream) };
        recorded.map_err(|e| context.fault("cuEventRecord", e))
    }

    fn wait(&self, context: &Context) -> Result<(), Fault> {
        // SAFETY: the event is alive.
        let done = unsafe { result::event::synchronize(self.0) };
        done.map_err(|e| context.fault("cuEventSynchronize", e))
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: created by `new`, and not used again; the driver keeps what is under way.
        let _ = unsafe { result::event::destroy(self.0) };
    }
}
