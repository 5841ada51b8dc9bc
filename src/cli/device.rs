//! Opening the device that a run file names.

use std::sync::Arc;

use super::Failure;
use crate::backend;
use crate::ops::Kernels;

/// The flags of commands that compute but have no run file.
#[derive(Clone, Debug, clap::Args)]
pub struct DeviceArgs {
    /// Instruction set of the CPU: auto (the fastest there is), portable, avx2, avx512 or avx512bf16.
    /// It never changes results.
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub level: String,
    /// Threads; 0: one for each core. They never change results.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,
}

impl DeviceArgs {
    /// Opens the device.
    pub fn open(&self) -> Result<Arc<dyn Kernels>, Failure> {
        open(&self.config(self.threads))
    }

    /// The device with so many threads, as a run file names it.
    pub fn config(&self, threads: usize) -> backend::Config {
        backend::Config { level: self.level.clone(), threads, ..backend::Config::default() }
    }
}

/// Opens the device that `config` names, and gives hashing as many threads.
pub fn open(config: &backend::Config) -> Result<Arc<dyn Kernels>, Failure> {
    let kernels = backend::select(config)?;
    // A second pool in one process is no error: tests call this more than once.
    let _ = rayon::ThreadPoolBuilder::new().num_threads(config.threads).build_global();
    Ok(kernels)
}

/// The most memory that this process has had at a time, where the system tells.
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}
