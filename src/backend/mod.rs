//! Where operations run. With `collective`, the only home of `unsafe`.
//!
//! [`select`] is called once, by the command line; everybody else is handed `&dyn Kernels`.

pub mod cpu;
pub mod cuda;
pub mod tuning;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

use tuning::Launches;
use tuning::Tuning;

use crate::ops::Kernels;
use crate::ops::TensorCore;
use cuda::driver::Gpu;
use cuda::emulator::Emulator;
use cuda::emulator::Order;
use cuda::graphs::Graphs;

/// `[device]`: what to compute on, and how. It changes speed, never results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What computes.
    pub kind: Kind,
    /// Instruction set of kind `cpu`: `auto` (the fastest there is), `portable`, `avx2`, `avx512`
    /// or `avx512bf16`.
    pub level: String,
    /// Threads of a rank; 0: one per available core.
    pub threads: usize,
    /// The GPU of kind `cuda`, counted from 0 among those that CUDA_VISIBLE_DEVICES leaves.
    /// Default: the rank's number on its host.
    pub index: Option<usize>,
    /// The library of kind `emulator`, made by scripts/build-emulator.sh. Default: what the
    /// variable NEUROSHARD_EMULATOR names, else `target/emulator/libneuroshard_emulator.so`.
    #[schemars(extend("format" = "path"))]
    pub emulator: Option<PathBuf>,
    /// A file of launch parameters for kinds `cuda` and `emulator`, as `neuroshard bench kernels
    /// --sweep` writes it. Default: the built-in ones.
    #[schemars(extend("format" = "path"))]
    pub tuning: Option<PathBuf>,
}

/// What computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
        Self { kind, level: "auto".into(), threads: 0, index: None, emulator: None, tuning: None }
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
    if config.kind == Kind::Cpu {
        return match &config.tuning {
            None => Ok(Arc::new(host(config)?)),
            Some(_) => {
                let reason = "a CPU has no launch parameters; leave it out".into();
                Err(Unavailable { key: "device.tuning", reason })
            }
        };
    }
    let device = gpu(config)?;
    let Some(tuning) = tuning(config)? else { return Ok(Arc::new(device)) };
    let described = device.describe();
    if !tuning.is_for(&described) {
        let reason = format!(
            "it was measured on {}, and this is {described}; `neuroshard bench kernels --sweep` \
             writes one for this device",
            tuning.device
        );
        return Err(Unavailable { key: "device.tuning", reason });
    }
    Ok(Arc::new(device.launching(tuning.launch)))
}

/// The tuning file that `config` names.
pub fn tuning(config: &Config) -> Result<Option<Tuning>, Unavailable> {
    let loaded = config.tuning.as_deref().map(Tuning::load).transpose();
    loaded.map_err(|reason| Unavailable { key: "device.tuning", reason })
}

/// Makes kernels of one device with other launch parameters.
pub type Tunable = Box<dyn Fn(Launches) -> Arc<dyn Kernels>>;

/// Opens the device that `config` names to be tuned; none where there is nothing to tune.
pub fn tunable(config: &Config) -> Result<Option<Tunable>, Unavailable> {
    if config.kind == Kind::Cpu {
        return Ok(None);
    }
    let device = gpu(config)?;
    Ok(Some(Box::new(move |launches| Arc::new(device.launching(launches)))))
}

/// A GPU, or what plays one.
fn gpu(config: &Config) -> Result<cuda::Cuda, Unavailable> {
    match config.kind {
        Kind::Cpu => {
            Err(Unavailable { key: "device.kind", reason: "a CPU is no GPU; say cuda".into() })
        }
        Kind::Cuda => {
            let gpu = Gpu::open(config.index.unwrap_or(0))
                .map_err(|e| Unavailable { key: "device.kind", reason: e.to_string() })?;
            Ok(cuda::Cuda::new(Arc::new(Graphs::new(Arc::new(gpu)))))
        }
        Kind::Emulator => {
            let path = config.emulator.clone().unwrap_or_else(Emulator::usual_path);
            let door = Emulator::open(&path, TensorCore::default(), Order::default())
                .map_err(|e| Unavailable { key: "device.emulator", reason: e.to_string() })?;
            Ok(cuda::Cuda::new(Arc::new(door)))
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
