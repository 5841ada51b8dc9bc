//! `neuroshard doctor`: what of a machine, its GPUs and a cluster is here, and what each missing thing costs.

use std::fmt;

use super::output::Stdout;
use super::{Ending, Failure, machine};
use crate::backend::cuda::cublaslt;
use crate::backend::cuda::door::Fault;
use crate::backend::cuda::driver;
use crate::backend::cuda::driver::Gpu;
use crate::backend::cuda::embedded;
use crate::backend::cuda::emulator::Emulator;
use crate::backend::cuda::emulator::Order;
use crate::collective::mpi;
use crate::collective::nccl;
use crate::ops::TensorCore;

/// No flags: it looks at everything, and changes nothing.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints one line for each thing; what is missing is no failure.
pub fn run(_: &Args, out: &mut Stdout) -> Result<Ending, Failure> {
    for (what, words) in machine::lines() {
        out.line(there(what, words))?;
    }
    driver(out)?;
    kernels(out)?;
    cublaslt(out)?;
    match nccl::probe() {
        Ok(nccl) => out.line(there("NCCL", format!("{} ({})", nccl.version(), nccl.path())))?,
        Err(error) => missing(out, "NCCL", error, NO_NCCL)?,
    }
    match mpi::probe() {
        Ok(words) => out.line(there("MPI", words))?,
        Err(error) => missing(out, "MPI", one_line(&error.to_string()), NO_MPI)?,
    }
    let path = Emulator::usual_path();
    match Emulator::open(&path, TensorCore::default(), Order::default()) {
        Ok(_) => out.line(there("emulator", path.display()))?,
        Err(fault) => missing(out, "emulator", fault, NO_EMULATOR)?,
    }
    Ok(Ending::Done)
}

fn driver(out: &mut Stdout) -> Result<(), Failure> {
    let (version, gpus) = match driver::seen() {
        Ok(seen) => seen,
        Err(fault @ Fault::NoDevice { .. }) => return missing(out, "GPU", fault, NO_GPU),
        Err(fault) => return missing(out, "driver", fault, NO_GPU),
    };
    out.line(there("driver", format!("CUDA {}.{}", version / 1000, version % 1000 / 10)))?;
    for (index, gpu) in gpus.iter().enumerate() {
        let (major, minor) = gpu.capability;
        let gib = gpu.memory_bytes as f64 / f64::from(1 << 30);
        let bf16 = if major < 8 { "; too old: no bf16 tensor cores" } else { "" };
        let text = format!(
            "{}, compute capability {major}.{minor}, {gib:.1} GiB, {} multiprocessors, clocks up to \
             {} and {} (memory) MHz{bf16}",
            gpu.name,
            gpu.multiprocessors,
            gpu.clock_khz / 1000,
            gpu.memory_clock_khz / 1000
        );
        out.line(there(&format!("GPU {index}"), text))?;
    }
    if gpus.is_empty() { missing(out, "GPU", "none can be seen", NO_GPU) } else { Ok(()) }
}

fn kernels(out: &mut Stdout) -> Result<(), Failure> {
    if embedded::FATBINS.is_empty() {
        return missing(out, "kernels", Fault::BuiltWithoutKernels, NO_KERNELS);
    }
    let text = format!(
        "{} files for {}, compiled by nvcc {}",
        embedded::FATBINS.len(),
        embedded::ARCHITECTURES.join(", "),
        embedded::COMPILER
    );
    out.line(there("kernels", text))
}

/// The library, and whether it would plan products on the first GPU.
fn cublaslt(out: &mut Stdout) -> Result<(), Failure> {
    let library = match cublaslt::Library::load() {
        Ok(library) => library,
        Err(error) => return missing(out, "cuBLASLt", error, NO_CUBLASLT),
    };
    out.line(there("cuBLASLt", format!("{} ({})", library.version(), library.path())))?;
    let gpu = match Gpu::open(0) {
        Ok(gpu) => gpu,
        Err(fault) => return missing(out, "plans", fault, NO_CUBLASLT),
    };
    match cublaslt::Session::open(library, &gpu) {
        Ok(_) => out.line(there("plans", PLANS)),
        Err(error) => missing(out, "plans", error, NO_CUBLASLT),
    }
}

/// Lines as one.
fn one_line(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("; ").replace(":; ", ": ")
}

fn there(what: &str, text: impl fmt::Display) -> String {
    format!("{what:<10} {text}")
}

fn missing(
    out: &mut Stdout,
    what: &str,
    why: impl fmt::Display,
    cost: &str,
) -> Result<(), Failure> {
    out.line(there(what, format!("missing: {why}")))?;
    out.line(there("", format!("costs: {cost}")))
}

const NO_GPU: &str = "device.kind = \"cuda\" does not work; the CPU computes the same bits, slower";
const NO_KERNELS: &str =
    "device.kind = \"cuda\" does not work in this program, whatever GPU there is";
const NO_CUBLASLT: &str = "nothing but speed: this program's own kernels make every matrix product";
const PLANS: &str =
    "cuBLASLt may compute products of the tc profile; each shape is probed when it first comes";
const NO_NCCL: &str = "ranks exchange by way of host memory, not from GPU to GPU";
const NO_MPI: &str = "ranks that mpirun or srun --mpi=pmix starts do not find one another; sockets do the same: srun \
     --mpi=none, NEUROSHARD_RENDEZVOUS, or --ranks N on one machine";
const NO_EMULATOR: &str = "kernels of GPUs cannot be checked without a GPU";
