//! What a CUDA device offers, whoever plays it: the driver of a GPU, or the emulator on a CPU.
//!
//! Everything a [`Door`] is asked for happens in the order of asking, as on one CUDA stream;
//! [`Door::read`] and [`Door::synchronize`] wait. Nothing here panics: a machine without a driver
//! gets a [`Fault`].

use std::any::Any;
use std::fmt;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

/// A device address; null where there is no memory (an empty tensor).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(pub u64);

impl Address {
    /// The address `bytes` further on.
    pub fn plus(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64)
    }
}

/// Memory of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Bytes nobody uses.
    pub free_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
}

/// One argument of a kernel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arg {
    /// A pointer to device memory.
    Pointer(Address),
    /// `uint32_t`.
    U32(u32),
    /// `int32_t`.
    I32(i32),
    /// `uint64_t` or `size_t`.
    U64(u64),
    /// `float`.
    F32(f32),
}

impl Arg {
    /// The value as a kernel's parameter: its bytes come first, zeros after (x86-64 and every GPU
    /// are little-endian).
    pub fn word(self) -> u64 {
        match self {
            Self::Pointer(Address(x)) | Self::U64(x) => x,
            Self::U32(x) => x.into(),
            Self::I32(x) => (x as u32).into(),
            Self::F32(x) => x.to_bits().into(),
        }
    }
}

/// One launch of a kernel.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The kernel's name, as in its `.cu` file.
    pub kernel: &'static str,
    /// Blocks: x, y, z.
    pub grid: [u32; 3],
    /// Threads of a block: x, y, z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub shared_bytes: u32,
    /// In the order of the kernel's parameters.
    pub args: &'a [Arg],
}

/// Matrices of bf16 in device memory, row-major, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Matrix {
    /// The first element: at a multiple of 16 bytes.
    pub address: Address,
    /// How many matrices.
    pub count: usize,
    /// Rows of each.
    pub rows: usize,
    /// Elements of a row: a multiple of 8.
    pub columns: usize,
}

/// One piece of work, written down to be run later.
#[derive(Clone, Debug, PartialEq)]
pub enum Work {
    /// [`Door::launch`].
    Launch {
        /// See [`Launch::kernel`].
        kernel: &'static str,
        /// See [`Launch::grid`].
        grid: [u32; 3],
        /// See [`Launch::block`].
        block: [u32; 3],
        /// See [`Launch::shared_bytes`].
        shared_bytes: u32,
        /// See [`Launch::args`].
        args: Box<[Arg]>,
    },
    /// [`Door::copy`].
    Copy {
        /// Where to.
        to: Address,
        /// Where from.
        from: Address,
        /// How many bytes.
        bytes: usize,
    },
    /// [`Door::clear`].
    Clear {
        /// Where.
        to: Address,
        /// How many bytes.
        bytes: usize,
    },
    /// [`Door::issue`].
    Foreign(ForeignCall),
}

/// Work that a library of NVIDIA's puts on a stream itself.
pub trait Foreign: Debug + Send + Sync {
    /// Asks for it on the stream with this handle ([`Stream::handle`]), without waiting; the stream's
    /// device is that of the calling thread. It may be asked for while the stream is being captured
    /// into a graph, once it has been asked for before.
    fn issue(&self, stream: u64, at: &[Address; 4]) -> Result<(), Fault>;
}

/// A piece of [`Foreign`] work, with the memory it is to use.
#[derive(Clone, Debug)]
pub struct ForeignCall {
    /// What is to be done.
    pub work: Arc<dyn Foreign>,
    /// Where; what each address is, `work` knows.
    pub at: [Address; 4],
}

impl ForeignCall {
    /// What two calls of the same work have in common.
    pub fn identity(&self) -> usize {
        Arc::as_ptr(&self.work).addr()
    }
}

impl PartialEq for ForeignCall {
    fn eq(&self, other: &Self) -> bool {
        // Both are alive, so one address is one work.
        self.identity() == other.identity() && self.at == other.at
    }
}

/// Work that a device has learnt to run by one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GraphId(pub u64);

/// A CUDA device, seen through its one stream.
pub trait Door: Debug + Send + Sync {
    /// For logs: `cuda:0 NVIDIA H200`.
    fn describe(&self) -> String;
    /// Major and minor: (9, 0) is Hopper.
    fn compute_capability(&self) -> (u32, u32);
    /// Memory now.
    fn memory(&self) -> Result<Memory, Fault>;
    /// `bytes` zero bytes, aligned to 256; null for none.
    fn alloc(&self, bytes: usize) -> Result<Address, Fault>;
    /// Gives back what [`Self::alloc`] gave. A failure shows at the next call.
    fn free(&self, address: Address);
    /// Copies from the host; `from` may change as soon as this returns.
    fn write(&self, to: Address, from: &[u8]) -> Result<(), Fault>;
    /// Copies to the host, and waits.
    fn read(&self, to: &mut [u8], from: Address) -> Result<(), Fault>;
    /// Copies on the device; the ranges do not overlap.
    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Fault>;
    /// Sets bytes to zero.
    fn clear(&self, to: Address, bytes: usize) -> Result<(), Fault>;
    /// Runs a kernel.
    ///
    /// The arguments are the kernel's parameters in number, order and type, and its accesses stay
    /// inside live allocations: only the launchers of this backend call this, each next to the
    /// kernel it launches.
    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault>;
    /// Waits for everything, and tells whether any of it failed.
    fn synchronize(&self) -> Result<(), Fault>;
    /// Runs pieces of work, one after the other.
    fn run(&self, work: &[Work]) -> Result<(), Fault> {
        work.iter().try_for_each(|work| match work {
            Work::Launch { kernel, grid, block, shared_bytes, args } => self.launch(&Launch {
                kernel,
                grid: *grid,
                block: *block,
                shared_bytes: *shared_bytes,
                args,
            }),
            Work::Copy { to, from, bytes } => self.copy(*to, *from, *bytes),
            Work::Clear { to, bytes } => self.clear(*to, *bytes),
            Work::Foreign(call) => self.issue(call),
        })
    }
    /// Has a library do its work; only on doors that have a [`Self::stream`].
    ///
    /// As with [`Self::launch`], the work's accesses stay inside live allocations: only the launchers
    /// of this backend call this.
    fn issue(&self, call: &ForeignCall) -> Result<(), Fault> {
        let cause = format!("this device has no stream for {:?}", call.work);
        Err(Fault::Driver { call: "work of a library", cause })
    }
    /// Makes a graph of `work`, without running it; none where the device has no graphs.
    fn record(&self, work: &[Work]) -> Result<Option<GraphId>, Fault> {
        let _ = work;
        Ok(None)
    }
    /// Runs a graph.
    fn replay(&self, graph: GraphId) -> Result<(), Fault> {
        Err(Fault::Driver { call: "replay", cause: format!("there is no {graph:?}") })
    }
    /// Gives up a graph, which is not used again.
    fn forget(&self, graph: GraphId) {
        let _ = graph;
    }
    /// The same device through a second stream: what is asked of the one runs beside what is asked
    /// of the other, and [`Self::wait_for`] alone puts them in order. Memory of the one is memory of
    /// the other. A door that has none says so.
    fn beside(&self) -> Result<Arc<dyn Door>, Fault> {
        let cause = "this device has no second stream".to_owned();
        Err(Fault::Driver { call: "a second stream", cause })
    }
    /// The end of everything asked of this stream so far.
    fn mark(&self) -> Result<Mark, Fault> {
        Ok(Mark::default())
    }
    /// Everything asked from now on begins after `mark`, of whichever stream; does not wait.
    fn wait_for(&self, _mark: &Mark) -> Result<(), Fault> {
        Ok(())
    }
    /// Whether the device has come to `mark`; tells of failures on the way there.
    fn passed(&self, _mark: &Mark) -> Result<bool, Fault> {
        self.synchronize().map(|()| true)
    }
    /// How long the device takes for what `work` asks of it, and waits for it. A door to a GPU takes
    /// the time between two events in the stream, which does not count the way there; by default it
    /// is the time that the host sees.
    fn time(&self, work: &mut dyn FnMut()) -> Result<Duration, Fault> {
        self.synchronize()?;
        let start = Instant::now();
        work();
        self.synchronize()?;
        Ok(start.elapsed())
    }
    /// Matrices for the tensor memory accelerator, by swizzled boxes of 64 by 64 elements;
    /// none where there is no such thing.
    fn tensor_map(&self, matrix: &Matrix) -> Result<Option<[u8; 128]>, Fault> {
        let _ = matrix;
        Ok(None)
    }
    /// What other libraries of NVIDIA's need to work on this stream; none where they cannot.
    fn stream(&self) -> Option<Stream> {
        None
    }
    /// Makes the device that of the calling thread, for libraries that ask the thread.
    fn bind_thread(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// A point in a stream; the door that made it knows what is inside.
#[derive(Clone)]
pub struct Mark(pub Arc<dyn Any + Send + Sync>);

impl Default for Mark {
    /// Of a door that does everything at once.
    fn default() -> Self {
        Self(Arc::new(()))
    }
}

impl Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mark")
    }
}

/// A stream of the driver's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stream {
    /// The `CUstream`, which is the runtime's `cudaStream_t`.
    pub handle: u64,
    /// The GPU's address on the bus, such as `0000:1b:00.0`: unlike its number, the same in every process.
    pub bus_id: String,
}

/// Why a device cannot be had, or failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// No CUDA driver is installed.
    #[error(
        "there is no NVIDIA driver here (libcuda.so.1 was not found); install one, or use \
         device.kind = \"cpu\""
    )]
    NoDriver,
    /// The driver is older than the kernels need.
    #[error(
        "the NVIDIA driver supports CUDA {}.{}, and {}.{} is needed; update it (580 or newer)",
        .have / 1000, .have % 1000 / 10, .want / 1000, .want % 1000 / 10
    )]
    DriverTooOld {
        /// Version it supports: 1000 * major + 10 * minor.
        have: u32,
        /// Version needed.
        want: u32,
    },
    /// There are not that many GPUs.
    #[error(
        "there is no GPU {index}: {count} can be seen (CUDA_VISIBLE_DEVICES and device.index choose)"
    )]
    NoDevice {
        /// The GPU asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The GPU has no bf16 tensor cores.
    #[error(
        "the GPU has compute capability {}.{}; 8.0 (Ampere) or newer is needed for bf16",
        .capability.0, .capability.1
    )]
    NoBf16 {
        /// Its compute capability.
        capability: (u32, u32),
    },
    /// This program was built where no nvcc was.
    #[error(
        "this program was built without kernels: run scripts/setup-cuda.sh (or set NVCC), then \
         build it again"
    )]
    BuiltWithoutKernels,
    /// Not enough memory.
    #[error("out of device memory: {bytes} bytes asked for, {free} free of {total}")]
    OutOfMemory {
        /// Bytes asked for.
        bytes: usize,
        /// Bytes free.
        free: u64,
        /// Bytes in all.
        total: u64,
    },
    /// No embedded module has this kernel.
    #[error("no kernel is called {0}; a kernel and its launcher come from different versions")]
    NoKernel(String),
    /// A launch was refused.
    #[error("kernel {kernel}: {cause}")]
    Launch {
        /// The kernel.
        kernel: &'static str,
        /// The driver's words.
        cause: String,
    },
    /// The device failed and takes no more work from this process.
    #[error(
        "the device failed in or before kernel {after_kernel}: {cause}; the process must end (the \
         last checkpoint is good)"
    )]
    Sticky {
        /// The kernel launched last when the failure showed.
        after_kernel: String,
        /// The driver's words.
        cause: String,
    },
    /// A call of the driver failed otherwise.
    #[error("{call}: {cause}")]
    Driver {
        /// The call.
        call: &'static str,
        /// The driver's words.
        cause: String,
    },
    /// A library that works on the device's stream refused.
    #[error("{call}: {cause}")]
    Foreign {
        /// Its call.
        call: &'static str,
        /// Its words.
        cause: String,
    },
    /// The emulator cannot be had, or refused.
    #[error("the emulator {path}: {cause}")]
    Emulator {
        /// Its library.
        path: String,
        /// Its words.
        cause: String,
    },
}
