//! Where operations run. With `collective`, the only home of `unsafe`.
//!
//! [`select`] is called once, by the command line; everybody else is handed `&dyn Kernels`.

pub mod cpu;
pub mod cuda;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::ops::Kernels;
use crate::ops::TensorCore;
use cuda::driver::Gpu;
use cuda::emulator::Emulator;
use cuda::emulator::Order;
use cuda::graphs::Graphs;

/// Where to run, and how: the `[device]` table of a run file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What computes: `cpu`, `cuda` (an NVIDIA GPU) or `emulator` (the GPU's kernels on the CPU:
    /// slow, for checks). Default `cpu`. It changes speed, never results.
    pub kind: Kind,
    /// Instruction set: `auto` (the best there is), `portable`, `avx2`, `avx512` or `avx512bf16`.
    /// Default `auto`. It changes speed, never results.
    pub level: String,
    /// Threads; 0 (the default) takes one per available core. It changes speed, never results.
    pub threads: usize,
    /// The GPU of kind `cuda`, counted from 0 among those that CUDA_VISIBLE_DEVICES leaves. Default:
    /// the rank's number on its host.
    pub index: Option<usize>,
    /// The library of kind `emulator`, made by scripts/build-emulator.sh. Default: what the variable
    /// NEUROSHARD_EMULATOR names, else `target/emulator/libneuroshard_emulator.so`.
    pub emulator: Option<PathBuf>,
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The host's processor.
    #[default]
    Cpu,
    /// An NVIDIA GPU.
    Cuda,
    /// The GPU's kernels, run on the host's processor.
    Emulator,
}

impl Default for Config {
    fn default() -> Self {
        let kind = Kind::default();
        Self { kind, level: "auto".into(), threads: 0, index: None, emulator: None }
    }
}

/// The device cannot be had.
#[derive(Debug, thiserror::Error)]
pub struct Unavailable {
    /// The key of the configuration that asked for it.
    pub key: &'static str,
    /// Why not, and what would do.
    pub reason: String,
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

/// Opens the device that `config` names.
pub fn select(config: &Config) -> Result<Arc<dyn Kernels>, Unavailable> {
    match config.kind {
        Kind::Cpu => Ok(Arc::new(host(config)?)),
        Kind::Cuda => {
            let gpu = Gpu::open(config.index.unwrap_or(0))
                .map_err(|e| Unavailable { key: "device.kind", reason: e.to_string() })?;
            Ok(Arc::new(cuda::Cuda::new(Arc::new(Graphs::new(Arc::new(gpu))))))
        }
        Kind::Emulator => {
            let path = config.emulator.clone().unwrap_or_else(Emulator::usual_path);
            let door = Emulator::open(&path, TensorCore::default(), Order::default())
                .map_err(|e| Unavailable { key: "device.emulator", reason: e.to_string() })?;
            Ok(Arc::new(cuda::Cuda::new(Arc::new(door))))
        }
    }
}

/// The processor of this host.
fn host(config: &Config) -> Result<cpu::Cpu, Unavailable> {
    let level = cpu::Level::by_name(&config.level)
        .map_err(|reason| Unavailable { key: "device.level", reason })?;
    cpu::Cpu::new(level, config.threads)
        .map_err(|reason| Unavailable { key: "device.threads", reason })
}
