//! Work as CUDA graphs: captured from the stream that it would have run on.
//!
//! What a library puts on the stream is captured with the rest: its kernels become nodes between
//! ours. Such work has run before (`Foreign::issue`), so the library loads and allocates nothing then.

use cudarc::driver::result;
use cudarc::driver::sys;

use super::Gpu;
use super::context::Context;
use crate::backend::cuda::door::Door;
use crate::backend::cuda::door::Fault;
use crate::backend::cuda::door::Work;

/// A graph that can be launched.
#[derive(Debug)]
pub(super) struct Graph(sys::CUgraphExec);

// SAFETY: the driver takes a graph from any thread; one at a time launches it, under a mutex.
unsafe impl Send for Graph {}

impl Graph {
    /// A graph of `work`, which is not run.
    pub fn capture(gpu: &Gpu, work: &[Work]) -> Result<Self, Fault> {
        // Looked up before, since a capture refuses calls that load something.
        for work in work {
            if let Work::Launch { kernel, shared_bytes, .. } = work {
                gpu.context.function(kernel, *shared_bytes)?;
            }
        }
        let (context, stream) = (&gpu.context, gpu.stream.0);
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        // SAFETY: the stream is alive.
        let begun = unsafe { result::stream::begin_capture(stream, mode) };
        begun.map_err(|e| context.fault("cuStreamBeginCapture", e))?;
        let outcome = gpu.run(work);
        // Ended in any case: the stream takes no other work before.
        // SAFETY: the stream is alive, and being captured.
        let captured = unsafe { result::stream::end_capture(stream) };
        outcome?;
        let graph = captured.map_err(|e| context.fault("cuStreamEndCapture", e))?;
        let mut exec = std::ptr::null_mut();
        // SAFETY: room for one handle, and a graph that is there; it is not needed afterwards.
        let made = unsafe {
            let made = sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0).result();
            let _ = result::graph::destroy(graph);
            made
        };
        made.map_err(|e| context.fault("cuGraphInstantiate", e))?;
        Ok(Self(exec))
    }

    /// Runs it on `stream`.
    pub fn launch(&self, context: &Context, stream: sys::CUstream) -> Result<(), Fault> {
        // SAFETY: graph and stream are alive; what its work may touch was settled when it was
        // launched the first time.
        let launched = unsafe { result::graph::launch(self.0, stream) };
        context.launched("of a graph");
        launched.map_err(|e| context.fault("cuGraphLaunch", e))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: made by `capture`, and not used again; the driver keeps what is under way.
        let _ = unsafe { result::graph::exec_destroy(self.0) };
    }
}
