//! NeuroShard: an SPMD trainer for clusters that do not trust each other.
//!
//! Modules stand in layer order; each imports only from above it. `ARCHITECTURE.md` tells why.

pub mod crypto;
pub mod metrics;
pub mod plot;
pub mod rng;
pub mod tensor;

pub mod codec;
pub mod ops;

pub mod aggregate;
#[allow(unsafe_code, reason = "SIMD intrinsics; see backend/mod.rs")]
pub mod backend;
pub mod data;
pub mod model;

#[allow(unsafe_code, reason = "foreign functions of MPI, shared memory; see collective/mod.rs")]
pub mod collective;
pub mod optim;

pub mod bench;

pub mod checkpoint;
pub mod export;

pub mod shard;

pub mod train;

pub mod diloco;

pub mod launch;
pub mod report;
pub mod watch;

pub mod simulate;

pub mod config;

pub mod cli;
