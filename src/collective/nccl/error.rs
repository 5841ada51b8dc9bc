//! Why NCCL cannot be had, or failed.

use super::library::{LIBRARY_VARIABLE, Version};
use crate::collective;

/// A failure of NCCL.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// No library.
    #[error(
        "NCCL was not found: install it (pip install nvidia-nccl-cu13, or the package libnccl2) and \
         set {LIBRARY_VARIABLE} to its libnccl.so.2. Tried: {tried}"
    )]
    NotFound {
        /// The loader's words about each.
        tried: String,
    },
    /// A library that is none of NCCL's.
    #[error("{path} cannot be used as NCCL: {why}; set {LIBRARY_VARIABLE} to another libnccl.so.2")]
    Unusable {
        /// Which.
        path: String,
        /// Why not.
        why: String,
    },
    /// A version that does not do.
    #[error("{path} is NCCL {have}, and {want} or newer is needed; set {LIBRARY_VARIABLE} to one")]
    TooOld {
        /// Its version.
        have: Version,
        /// The version needed.
        want: Version,
        /// Which.
        path: String,
    },
    /// Ranks have different ones.
    #[error(
        "rank {rank} has NCCL {theirs}, the first has {first}; give all ranks the same \
         ({LIBRARY_VARIABLE})"
    )]
    Versions {
        /// Who.
        rank: usize,
        /// Its version.
        theirs: Version,
        /// That of the first rank.
        first: Version,
    },
    /// The device is none of CUDA's.
    #[error("{device} is no GPU that NCCL can reach; use parallel.device_link = \"host\"")]
    NoGpu {
        /// What it is.
        device: String,
    },
    /// Several ranks on one GPU, as this NCCL cannot.
    #[error(
        "ranks {} share GPU {bus_id}, and NCCL {have} cannot do that; start one rank for each GPU, \
         or take NCCL 2.30 or newer ({LIBRARY_VARIABLE}), or parallel.device_link = \"host\"",
        list(.ranks)
    )]
    SharedGpu {
        /// Who.
        ranks: Vec<usize>,
        /// The GPU.
        bus_id: String,
        /// Their NCCL.
        have: Version,
    },
    /// Several ranks on one GPU, as this environment does not allow.
    #[error(
        "ranks {} share GPU {bus_id}: start every rank with {setting} in its environment (and, where ranks \
         are processes, under NVIDIA's MPS), or take parallel.device_link = \"host\"",
        list(.ranks)
    )]
    SharedGpuSetting {
        /// Who.
        ranks: Vec<usize>,
        /// The GPU.
        bus_id: String,
        /// `NAME=value`.
        setting: &'static str,
    },
    /// A call failed.
    #[error("{call}: {cause}")]
    Call {
        /// Which.
        call: &'static str,
        /// NCCL's words.
        cause: String,
    },
    /// A call that goes on in the background did not end.
    #[error(
        "{call} did not end within {seconds:.1} s: a rank did not come, or hangs; NCCL_DEBUG=INFO \
         shows where"
    )]
    TimedOut {
        /// Which.
        call: &'static str,
        /// How long it was waited for.
        seconds: f64,
    },
    /// The device failed before NCCL did.
    #[error("{0}")]
    Device(String),
    /// The ranks could not agree by other means.
    #[error("{0}")]
    Ranks(String),
}

impl Error {
    /// As a failure between ranks, of the rank with this number.
    pub fn of_rank(self, rank: usize) -> collective::Error {
        let what = format!("NCCL, on rank {rank}");
        collective::Error::Transport { what, cause: self.to_string() }
    }
}

fn list(ranks: &[usize]) -> String {
    ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}
