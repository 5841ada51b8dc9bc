//! The host backend: one generic body per operation, compiled once per instruction set.
//!
//! Bodies are generic over [`lanes::Lanes`] and `#[inline(always)]`; `level::at_level!` wraps each
//! in a shell per instruction set. rayon splits independent outputs; no sum is ever split.

mod activation;
mod adamw;
mod attention;
mod columns;
mod copies;
mod cross_entropy;
mod digest;
mod elementwise;
mod embedding;
mod flush;
pub mod lanes;
mod level;
pub mod math;
mod matmul;
mod norm;
mod peak;
mod rmsnorm;
mod rope;
mod scratch;
mod split;
mod swiglu;
pub mod tc;

pub use level::Level;

use std::sync::Arc;

use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::host;
use crate::ops::host_mut;
use crate::tensor::DType;
use crate::tensor::Tensor;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Kernels of the host at one instruction-set level, on a pool of threads of their own.
#[derive(Clone, Debug)]
pub struct Cpu {
    level: Level,
    pool: Arc<rayon::ThreadPool>,
}

impl Cpu {
    /// At `level`, on `threads` threads; 0 takes one per available core.
    pub fn new(level: Level, threads: usize) -> Result<Self, String> {
        if threads > MAX_THREADS {
            return Err(format!("{threads} threads; at most {MAX_THREADS}"));
        }
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("kernel-{i}"))
            .build()
            .map_err(|e| format!("cannot start {threads} threads: {e}"))?;
        Ok(Self { level, pool: Arc::new(pool) })
    }

    /// The instruction set in use.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Threads in use.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// Runs `f` on the pool, so that rayon's iterators in it use these threads.
    fn run<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        self.pool.install(f)
    }
}

impl Kernels for Cpu {
    fn describe(&self) -> String {
        let threads = self.threads();
        format!("cpu {}, {threads} thread{}", self.level, if threads == 1 { "" } else { "s" })
    }

    fn zeros(&self, dtype: DType, shape: &[usize]) -> Result<Tensor, OpError> {
        Ok(Tensor::zeros(dtype, shape))
    }

    /// The register peak of as many threads as there are cores for, all at once.
    fn peak_flops(&self, precision: Precision) -> f64 {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let rates = self.pool.broadcast(|_| peak::flops_per_s(self.level, precision));
        let share = cores.min(rates.len()) as f64 / rates.len() as f64;
        rates.iter().sum::<f64>() * share
    }

    fn enter(&self, work: &mut (dyn FnMut() + Send)) {
        self.run(work);
    }

    fn cache_bytes(&self) -> usize {
        copies::cache_bytes()
    }

    fn copy_rate(&self, out: ViewMut<'_>, inp: View<'_>) -> Result<f64, OpError> {
        let (out, inp) = (host_mut("copy_rate out", out)?, host("copy_rate inp", inp)?);
        Ok(copies::bytes_per_s(self, out, inp))
    }
}

/// More threads than any host has; a larger number is a typing error.
const MAX_THREADS: usize = 4096;
