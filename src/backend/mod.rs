//! Where operations run. With `collective`, the only home of `unsafe`.
//!
//! [`select`] is called once, by the command line; everybody else is handed `&dyn Kernels`.

pub mod cpu;

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

use crate::ops::Kernels;

/// Where to run, and how: the `[device]` table of a run file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Instruction set: `auto` (the best there is), `portable`, `avx2`, `avx512` or `avx512bf16`.
    /// Default `auto`. It changes speed, never results.
    pub level: String,
    /// Threads; 0 (the default) takes one per available core. It changes speed, never results.
    pub threads: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { level: "auto".into(), threads: 0 }
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
    let level = cpu::Level::by_name(&config.level)
        .map_err(|reason| Unavailable { key: "device.level", reason })?;
    let cpu = cpu::Cpu::new(level, config.threads)
        .map_err(|reason| Unavailable { key: "device.threads", reason })?;
    Ok(Arc::new(cpu))
}
