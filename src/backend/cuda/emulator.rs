//! The kernels on the host's processor: the emulator of `kernels/emulator`, loaded at run time.
//!
//! It runs the same `.cu` files, compiled by g++ (`scripts/build-emulator.sh`), one thread at a
//! time and to the bit; it is there to check, not to be fast.

use std::env;
use std::ffi::CString;
use std::ffi::c_char;
use std::path::Path;
use std::path::PathBuf;

use libloading::Library;

use super::door::Address;
use super::door::Arg;
use super::door::Door;
use super::door::Fault;
use super::door::Launch;
use super::door::Memory;
use crate::ops::TensorCore;

/// The emulated device.
#[derive(Debug)]
pub struct Emulator {
    calls: Calls,
    path: PathBuf,
    core: TensorCore,
    order: Order,
}

/// Which of a block's threads, and of a grid's blocks, goes first where CUDA leaves it open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The first.
    #[default]
    Ascending,
    /// The last.
    Descending,
    /// Another at every turn.
    Random,
}

impl Emulator {
    /// Where the library is unless something else is said: what the variable NEUROSHARD_EMULATOR
    /// names, else where `scripts/build-emulator.sh` puts it.
    pub fn usual_path() -> PathBuf {
        env::var_os("NEUROSHARD_EMULATOR").map_or_else(|| USUAL_PATH.into(), PathBuf::from)
    }

    /// Opens the library at `path`. Where NEUROSHARD_EMULATOR_TRACE names a file, every launch is
    /// recorded there, for `replay` of `kernels/emulator`.
    pub fn open(path: &Path, core: TensorCore, order: Order) -> Result<Self, Fault> {
        let refused = |cause| Fault::Emulator { path: path.display().to_string(), cause };
        // dlopen looks in the system's folders for a name without a slash.
        let file = path.canonicalize().map_err(|e| {
            refused(format!("{e}; scripts/build-emulator.sh makes it, device.emulator names it"))
        })?;
        // SAFETY: the library's initializers only fill its own table of kernels.
        let library = unsafe { Library::new(&file) }.map_err(|e| refused(e.to_string()))?;
        let calls = Calls::find(&library).map_err(refused)?;
        // Loaded for good: `calls` point into it, and threads of this process may be inside.
        std::mem::forget(library);
        let emulator = Self { calls, path: path.to_owned(), core, order };
        if let Some(trace) = env::var_os("NEUROSHARD_EMULATOR_TRACE") {
            emulator.record(Path::new(&trace))?;
        }
        Ok(emulator)
    }

    /// Appends all later launches of this process to the trace at `path`.
    pub fn record(&self, path: &Path) -> Result<(), Fault> {
        let name = CString::new(path.as_os_str().as_encoded_bytes())
            .map_err(|_| self.fault("a file name with a zero byte".into()))?;
        let mut words = Words::new();
        // SAFETY: a terminated string, and room for words as long as said.
        let failed = unsafe { (self.calls.record)(name.as_ptr(), words.at(), words.len()) };
        self.outcome(failed, words)
    }

    fn fault(&self, cause: String) -> Fault {
        Fault::Emulator { path: self.path.display().to_string(), cause }
    }

    fn outcome(&self, failed: i32, words: Words) -> Result<(), Fault> {
        if failed == 0 { Ok(()) } else { Err(self.fault(words.text())) }
    }

    /// `to` and `from` are addresses of the device or of host memory, as `kind` says.
    fn transfer(&self, kind: Transfer, to: u64, from: u64, bytes: usize) -> Result<(), Fault> {
        let mut words = Words::new();
        // SAFETY: the library checks what is device memory; what is host memory is a slice of
        // `bytes` bytes that the caller borrows. There is room for words as long as said.
        let failed = unsafe {
            let (kind, bytes) = (kind as u32, bytes as u64);
            (self.calls.transfer)(kind, to, from, bytes, words.at(), words.len())
        };
        self.outcome(failed, words)
    }
}

impl Door for Emulator {
    fn describe(&self) -> String {
        match self.core {
            TensorCore::Hopper => "emulated Hopper GPU".into(),
            TensorCore::Ampere => "emulated Ampere GPU".into(),
        }
    }

    fn compute_capability(&self) -> (u32, u32) {
        match self.core {
            TensorCore::Hopper => (9, 0),
            TensorCore::Ampere => (8, 0),
        }
    }

    /// A round number: what the host can give is not counted.
    fn memory(&self) -> Result<Memory, Fault> {
        Ok(Memory { free_bytes: MEMORY_BYTES, total_bytes: MEMORY_BYTES })
    }

    fn alloc(&self, bytes: usize) -> Result<Address, Fault> {
        if bytes == 0 {
            return Ok(Address::default());
        }
        // SAFETY: any size may be asked for.
        match unsafe { (self.calls.alloc)(bytes as u64) } {
            0 => Err(Fault::OutOfMemory { bytes, free: MEMORY_BYTES, total: MEMORY_BYTES }),
            address => Ok(Address(address)),
        }
    }

    fn free(&self, address: Address) {
        // SAFETY: the library frees only what it allocated, once.
        unsafe { (self.calls.free)(address.0) }
    }

    fn write(&self, to: Address, from: &[u8]) -> Result<(), Fault> {
        self.transfer(Transfer::Write, to.0, from.as_ptr() as u64, from.len())
    }

    fn read(&self, to: &mut [u8], from: Address) -> Result<(), Fault> {
        self.transfer(Transfer::Read, to.as_mut_ptr() as u64, from.0, to.len())
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Fault> {
        self.transfer(Transfer::Copy, to.0, from.0, bytes)
    }

    fn clear(&self, to: Address, bytes: usize) -> Result<(), Fault> {
        self.transfer(Transfer::Clear, to.0, 0, bytes)
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        let kernel = CString::new(launch.kernel)
            .map_err(|_| Fault::NoKernel(launch.kernel.escape_default().to_string()))?;
        let words: Vec<u64> = launch.args.iter().map(|arg| arg.word()).collect();
        let kinds: Vec<u8> = launch.args.iter().map(kind).collect();
        let wish = Wish {
            kernel: kernel.as_ptr(),
            blocks: launch.grid,
            threads: launch.block,
            shared_bytes: launch.shared_bytes,
            ampere: (self.core == TensorCore::Ampere).into(),
            order: self.order as u32,
            seed: 1,
            argument_count: words.len() as u64,
            words: words.as_ptr(),
            kinds: kinds.as_ptr().cast(),
        };
        let mut message = Words::new();
        // SAFETY: the arrays live during the call and have the lengths said; the library compares
        // number and kinds of the arguments with the kernel's parameters. That a kernel's accesses
        // stay inside its allocations is the launchers' and the kernels' affair, as on a GPU.
        match unsafe { (self.calls.launch)(&wish, message.at(), message.len()) } {
            0 => Ok(()),
            2 => Err(Fault::NoKernel(launch.kernel.into())),
            _ => Err(Fault::Launch { kernel: launch.kernel, cause: message.text() }),
        }
    }

    /// Everything has already happened.
    fn synchronize(&self) -> Result<(), Fault> {
        Ok(())
    }
}

/// The letter of an argument in a kernel's signature, `kernels/emulator/cuda_cpu.h`.
fn kind(arg: &Arg) -> u8 {
    match arg {
        Arg::Pointer(_) => b'p',
        Arg::U32(_) | Arg::I32(_) => b'u',
        Arg::U64(_) => b'U',
        Arg::F32(_) => b'f',
    }
}

/// Kinds of transfers, `kernels/emulator/library.cc`.
#[derive(Clone, Copy)]
enum Transfer {
    Write = 0,
    Read = 1,
    Copy = 2,
    Clear = 3,
}

/// `NeuroshardLaunch` of `kernels/emulator/library.cc`.
#[repr(C)]
struct Wish {
    kernel: *const c_char,
    blocks: [u32; 3],
    threads: [u32; 3],
    shared_bytes: u32,
    ampere: u32,
    order: u32,
    seed: u32,
    argument_count: u64,
    words: *const u64,
    kinds: *const c_char,
}

/// The library's functions, `kernels/emulator/library.cc`.
#[derive(Clone, Copy, Debug)]
struct Calls {
    alloc: unsafe extern "C" fn(u64) -> u64,
    free: unsafe extern "C" fn(u64),
    record: unsafe extern "C" fn(*const c_char, *mut c_char, u64) -> i32,
    transfer: unsafe extern "C" fn(u32, u64, u64, u64, *mut c_char, u64) -> i32,
    launch: unsafe extern "C" fn(*const Wish, *mut c_char, u64) -> i32,
}

impl Calls {
    fn find(library: &Library) -> Result<Self, String> {
        let missing = |e: libloading::Error| format!("{e}; build it again");
        // SAFETY: the types are those of the functions in library.cc, whose version is compared
        // before any other is called.
        unsafe {
            let version = library
                .get::<unsafe extern "C" fn() -> u32>(b"neuroshard_emulator_version\0")
                .map_err(missing)?;
            let version = version();
            if version != VERSION {
                return Err(format!("version {version}, not {VERSION}; build it again"));
            }
            Ok(Self {
                alloc: *library.get(b"neuroshard_emulator_alloc\0").map_err(missing)?,
                free: *library.get(b"neuroshard_emulator_free\0").map_err(missing)?,
                record: *library.get(b"neuroshard_emulator_record\0").map_err(missing)?,
                transfer: *library.get(b"neuroshard_emulator_transfer\0").map_err(missing)?,
                launch: *library.get(b"neuroshard_emulator_launch\0").map_err(missing)?,
            })
        }
    }
}

/// Room for what the library has to say.
struct Words(Vec<u8>);

impl Words {
    fn new() -> Self {
        Self(vec![0; 4096])
    }
    fn at(&mut self) -> *mut c_char {
        self.0.as_mut_ptr().cast()
    }
    fn len(&self) -> u64 {
        self.0.len() as u64
    }
    fn text(self) -> String {
        let said = self.0.split(|&byte| byte == 0).next().unwrap_or_default();
        String::from_utf8_lossy(said).into_owned()
    }
}

/// Of the functions in library.cc.
const VERSION: u32 = 1;
const USUAL_PATH: &str = "target/emulator/libneuroshard_emulator.so";
const MEMORY_BYTES: u64 = 64 << 30;
