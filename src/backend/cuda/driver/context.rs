//! A GPU's context and the kernels loaded into it.

use std::collections::HashMap;
use std::ffi::CString;
use std::ffi::c_char;
use std::ffi::c_int;
use std::sync::Mutex;

use cudarc::driver::DriverError;
use cudarc::driver::result;
use cudarc::driver::sys;
use cudarc::driver::sys::CUdevice_attribute as Attribute;

use super::fault::locked;
use super::fault::words;
use crate::backend::cuda::door::Fault;
use crate::backend::cuda::embedded;

/// The primary context of a GPU, with every embedded module.
#[derive(Debug)]
pub(super) struct Context {
    pub index: usize,
    pub name: String,
    pub capability: (u32, u32),
    pub bus_id: String,
    device: sys::CUdevice,
    context: sys::CUcontext,
    modules: Vec<sys::CUmodule>,
    functions: Mutex<HashMap<&'static str, Function>>,
    /// The kernel launched last.
    last: Mutex<&'static str>,
    /// Shared memory that a block may have at most, in bytes.
    max_shared_bytes: u32,
}

/// A kernel, and the dynamic shared memory it has been allowed so far, in bytes.
#[derive(Clone, Copy, Debug)]
struct Function {
    handle: sys::CUfunction,
    allowed_bytes: u32,
}

// SAFETY: the driver takes handles of contexts, modules and functions from any thread.
unsafe impl Send for Context {}
// SAFETY: as above; what changes is behind a mutex.
unsafe impl Sync for Context {}

/// A GPU that is there, for `neuroshard doctor`.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its name.
    pub name: String,
    /// Compute capability.
    pub capability: (u32, u32),
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Multiprocessors.
    pub multiprocessors: u32,
    /// Highest clock of the multiprocessors, in kHz.
    pub clock_khz: u32,
    /// Highest clock of the memory, in kHz.
    pub memory_clock_khz: u32,
}

/// The CUDA version that the driver supports (1000 * major + 10 * minor), and the GPUs.
pub fn seen() -> Result<(u32, Vec<Seen>), Fault> {
    let version = start()?;
    let mut gpus = Vec::new();
    for index in 0..count()? {
        let device = device(index)?;
        // SAFETY: the device is one that the driver has just named.
        let memory = unsafe { result::device::total_mem(device) };
        gpus.push(Seen {
            name: result::device::get_name(device).map_err(|e| early("cuDeviceGetName", e))?,
            capability: capability(device)?,
            memory_bytes: memory.map_err(|e| early("cuDeviceTotalMem", e))? as u64,
            multiprocessors: attribute(
                device,
                Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT,
            )?,
            clock_khz: attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE)?,
            memory_clock_khz: attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE)?,
        });
    }
    Ok((version, gpus))
}

impl Context {
    /// Opens GPU `index` and loads the kernels.
    pub fn open(index: usize) -> Result<Self, Fault> {
        let (have, want) = (start()?, wanted_version());
        if have < want {
            return Err(Fault::DriverTooOld { have, want });
        }
        let count = count()?;
        if index >= count {
            return Err(Fault::NoDevice { index, count });
        }
        let device = device(index)?;
        let capability = capability(device)?;
        if capability < (8, 0) {
            return Err(Fault::NoBf16 { capability });
        }
        if embedded::FATBINS.is_empty() {
            return Err(Fault::BuiltWithoutKernels);
        }
        let name = result::device::get_name(device).map_err(|e| early("cuDeviceGetName", e))?;
        let bus_id = bus_id(device)?;
        let optin = Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
        let max_shared_bytes = attribute(device, optin)?;
        // SAFETY: the driver has named the device.
        let context = unsafe { result::primary_ctx::retain(device) };
        let context = context.map_err(|e| early("cuDevicePrimaryCtxRetain", e))?;
        let mut opened = Self {
            index,
            name,
            capability,
            bus_id,
            device,
            context,
            modules: Vec::new(),
            functions: Mutex::default(),
            last: Mutex::new("none"),
            max_shared_bytes,
        };
        opened.bind()?;
        for (file, fatbin) in embedded::FATBINS {
            // SAFETY: a whole fatbin of nvcc's, which the driver parses by the sizes in it.
            let module = unsafe { result::module::load_data(fatbin.as_ptr().cast()) };
            opened.modules.push(module.map_err(|e| Fault::Driver {
                call: "cuModuleLoadData",
                cause: format!("kernels/{file}.cu: {}", words(e)),
            })?);
        }
        Ok(opened)
    }

    /// Makes this the context of the calling thread.
    pub fn bind(&self) -> Result<(), Fault> {
        // SAFETY: the context is retained as long as `self` lives.
        let bound = unsafe { result::ctx::set_current(self.context) };
        bound.map_err(|e| self.fault("cuCtxSetCurrent", e))
    }

    /// The kernel `name`, allowed `shared_bytes` of dynamic shared memory.
    pub fn function(
        &self,
        name: &'static str,
        shared_bytes: u32,
    ) -> Result<sys::CUfunction, Fault> {
        let mut functions = locked(&self.functions);
        let function = match functions.get(name) {
            Some(&function) => function,
            None => Function { handle: self.find(name)?, allowed_bytes: USUAL_SHARED_BYTES },
        };
        let allowed_bytes = function.allowed_bytes.max(shared_bytes);
        if allowed_bytes > function.allowed_bytes {
            self.allow(name, function.handle, allowed_bytes)?;
        }
        functions.insert(name, Function { allowed_bytes, ..function });
        Ok(function.handle)
    }

    fn find(&self, name: &'static str) -> Result<sys::CUfunction, Fault> {
        for &module in &self.modules {
            let c_name = CString::new(name).map_err(|_| Fault::NoKernel(name.into()))?;
            // SAFETY: the module is loaded as long as `self` lives.
            match unsafe { result::module::get_function(module, c_name) } {
                Ok(function) => return Ok(function),
                Err(e) if e.0 == sys::CUresult::CUDA_ERROR_NOT_FOUND => {}
                Err(e) => return Err(self.fault("cuModuleGetFunction", e)),
            }
        }
        Err(Fault::NoKernel(name.into()))
    }

    /// More dynamic shared memory than a kernel has without asking.
    fn allow(
        &self,
        name: &'static str,
        function: sys::CUfunction,
        bytes: u32,
    ) -> Result<(), Fault> {
        if bytes > self.max_shared_bytes {
            let cause = format!(
                "{bytes} bytes of shared memory; this GPU has {} for a block",
                self.max_shared_bytes
            );
            return Err(Fault::Launch { kernel: name, cause });
        }
        let most = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        // SAFETY: the function is one of a loaded module.
        let set = unsafe { result::function::set_function_attribute(function, most, bytes as i32) };
        set.map_err(|e| self.launch_fault(name, e))
    }

    /// Notes that `kernel` has been launched.
    pub fn launched(&self, kernel: &'static str) {
        *locked(&self.last) = kernel;
    }

    /// The kernel launched last.
    pub fn last_kernel(&self) -> String {
        (*locked(&self.last)).to_owned()
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let bound = self.bind();
        // SAFETY: whoever used modules and context held `self`. Failures mean that the device has
        // failed, which was told before.
        unsafe {
            if bound.is_ok() {
                for &module in &self.modules {
                    let _ = result::module::unload(module);
                }
            }
            let _ = result::primary_ctx::release(self.device);
        }
    }
}

/// Loads and starts the driver; the CUDA version that it supports.
fn start() -> Result<u32, Fault> {
    // SAFETY: opens the library, and closes it again.
    if !unsafe { sys::is_culib_present() } {
        return Err(Fault::NoDriver);
    }
    let mut version: c_int = 0;
    // SAFETY: room for one number; this call needs no initialization.
    let asked = unsafe { sys::cuDriverGetVersion(&mut version) }.result();
    asked.map_err(|e| early("cuDriverGetVersion", e))?;
    match result::init() {
        Ok(()) => Ok(version.max(0) as u32),
        Err(e) if e.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => {
            Err(Fault::NoDevice { index: 0, count: 0 })
        }
        Err(e) => Err(early("cuInit", e)),
    }
}

fn count() -> Result<usize, Fault> {
    let count = result::device::get_count().map_err(|e| early("cuDeviceGetCount", e))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

fn device(index: usize) -> Result<sys::CUdevice, Fault> {
    result::device::get(index as c_int).map_err(|e| early("cuDeviceGet", e))
}

fn capability(device: sys::CUdevice) -> Result<(u32, u32), Fault> {
    let major = Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR;
    let minor = Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR;
    Ok((attribute(device, major)?, attribute(device, minor)?))
}

fn attribute(device: sys::CUdevice, which: Attribute) -> Result<u32, Fault> {
    // SAFETY: the driver has named the device.
    let value = unsafe { result::device::get_attribute(device, which) };
    Ok(value.map_err(|e| early("cuDeviceGetAttribute", e))?.max(0) as u32)
}

fn bus_id(device: sys::CUdevice) -> Result<String, Fault> {
    let mut text = [0u8; 32];
    let (room, length) = (text.as_mut_ptr().cast::<c_char>(), text.len() as c_int);
    // SAFETY: there is room for as many bytes as said, and the driver has named the device.
    let asked = unsafe { sys::cuDeviceGetPCIBusId(room, length, device) }.result();
    asked.map_err(|e| early("cuDeviceGetPCIBusId", e))?;
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    Ok(String::from_utf8_lossy(&text[..end]).to_lowercase())
}

/// The failure of a call before there is a context.
fn early(call: &'static str, error: DriverError) -> Fault {
    Fault::Driver { call, cause: words(error) }
}

/// The CUDA version that the embedded kernels need: that of their compiler, without its minor
/// number (CUDA compatibility guide, minor version compatibility).
fn wanted_version() -> u32 {
    let major = embedded::COMPILER.split('.').next().and_then(|major| major.parse::<u32>().ok());
    1000 * major.unwrap_or(13)
}

/// Dynamic shared memory that every kernel may have.
const USUAL_SHARED_BYTES: u32 = 48 << 10;
