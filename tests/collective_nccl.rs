//! Ranks whose GPUs exchange over NCCL: the contract of communicators, in device memory.
//!
//! Plain `cargo test` runs two ranks on the GPUs that are there, or says loudly that there are none;
//! and the same schedule with the kernels of the emulator, where that is built. `--ranks N` starts N
//! ranks, several on a GPU if need be; under mpirun or srun each process is a rank.

mod cases;
#[path = "emulated/mod.rs"]
mod emulated;
#[path = "cases/on_devices.rs"]
mod on_devices;

use std::env;
use std::process::{Command, exit};
use std::sync::Arc;
use std::time::{Duration, Instant};

use neuroshard::backend;
use neuroshard::backend::cuda::driver;
use neuroshard::collective;
use neuroshard::collective::{Communicator, DeviceCommunicator, DeviceWish, Parts, Share, nccl};
use neuroshard::ops::Kernels;
use neuroshard::tensor::DType;
use on_devices::OnDevices;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    // Cargo may ask for a list, or pass a filter.
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    if let [flag, ranks] = &arguments[..]
        && flag == "--ranks"
    {
        let ranks: usize = ranks.parse().unwrap_or_else(|_| panic!("--ranks {ranks}"));
        exit(start(ranks, gpus().max(1)));
    }
    let launched = ["NEUROSHARD_RENDEZVOUS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_ID"];
    if launched.iter().any(|name| env::var(name).is_ok()) {
        return as_a_rank();
    }
    emulated::cases();
    match (nccl::probe(), gpus()) {
        (Ok(_), gpus) if gpus > 0 => {
            if start(2, gpus) != 0 {
                exit(1);
            }
        }
        (Err(why), _) => println!("SKIPPED LOUDLY: nothing ran over NCCL. {why}"),
        (Ok(library), _) => {
            println!("SKIPPED LOUDLY: nothing ran over NCCL. {library:?} is there, but no GPU");
        }
    }
    println!("test result: ok");
}

/// How many GPUs there are.
fn gpus() -> usize {
    driver::seen().map_or(0, |(_, gpus)| gpus.len())
}

/// Starts a process for each rank; 0 if all went well.
fn start(ranks: usize, gpus: usize) -> i32 {
    let dir = tempfile::tempdir().unwrap();
    let spawn = |rank: usize| {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env("NEUROSHARD_RENDEZVOUS", format!("file://{}/meet", dir.path().display()));
        command.env("NEUROSHARD_RANK", rank.to_string());
        command.env("NEUROSHARD_RANKS", ranks.to_string());
        if ranks > gpus {
            let few = if ranks > 2 * gpus { "1" } else { "2" };
            let settings =
                [("MULTI_RANK_GPU_ENABLE", "1"), ("NVLS_ENABLE", "0"), ("MAX_CTAS", few)];
            command.envs(settings.map(|(name, value)| (format!("NCCL_{name}"), value)));
        }
        command.spawn().unwrap()
    };
    let children: Vec<_> = (0..ranks).map(spawn).collect();
    let ends = children.into_iter().map(|mut child| child.wait().unwrap());
    ends.map(|end| end.code().unwrap_or(1)).max().unwrap_or(0)
}

/// All cases, as one rank of a job.
fn as_a_rank() {
    let how = collective::Start { run_dir: env::temp_dir(), patience: LONG };
    let job = collective::start(&how).unwrap_or_else(|error| {
        eprintln!("{error}");
        exit(3)
    });
    let comm = job.world.clone();
    comm.set_patience(LONG);
    let index = Some(job.hosts.local_rank() % gpus().max(1));
    let config = backend::Config { kind: backend::Kind::Cuda, index, ..Default::default() };
    let kernels = backend::select(&config).unwrap_or_else(|error| {
        eprintln!("rank {}: {error}", comm.rank());
        comm.abort(3)
    });
    let wish = DeviceWish::Nccl;
    let ranks = collective::device_ranks(comm.as_ref(), kernels.as_ref(), wish, comm.rank());
    let devices = match ranks.map(|ranks| ranks.group) {
        Ok(Some(devices)) => devices,
        Ok(None) => return println!("SKIPPED LOUDLY: one rank has nobody to exchange with"),
        Err(error) => {
            eprintln!("rank {}: {error}", comm.rank());
            exit(3)
        }
    };
    let speaks = comm.rank() == 0;
    let on_devices: Arc<dyn Communicator> = Arc::new(OnDevices {
        comm: comm.clone(),
        kernels: kernels.clone(),
        devices: devices.clone(),
    });
    for (name, case) in cases::ALL {
        case(&on_devices);
        if speaks {
            println!("test {name} on {} GPU ranks, {} ... ok", comm.size(), devices.describe());
        }
    }
    // The bits do not depend on when who comes.
    for _ in 0..ROUNDS {
        cases::ALL[0].1(&on_devices);
    }
    let seconds = time(kernels.as_ref(), devices.as_ref());
    if speaks {
        let gb = BENCH_BYTES as f64 / 1e9;
        println!("{ROUNDS} rounds more have the same bits");
        println!("all-reduce of {gb:.3} GB: {:.3} ms, {:.1} GB/s", seconds * 1e3, gb / seconds);
    }
    drop((on_devices, devices));
    comm.barrier().unwrap();
}

/// Seconds of an all-reduce: the median.
fn time(kernels: &dyn Kernels, devices: &dyn DeviceCommunicator) -> f64 {
    let len = BENCH_BYTES / size_of::<f32>();
    let mut tensor = kernels.zeros(DType::F32, &[len]).unwrap();
    let parts = Parts::even(len, devices.size(), 4096);
    let mut times: Vec<Duration> = (0..21)
        .map(|_| {
            let started = Instant::now();
            let after = devices.computed().unwrap();
            let share = Share { data: tensor.view_mut(), parts: parts.clone() };
            devices.all_reduce(&after, vec![share]).unwrap();
            started.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2].as_secs_f64()
}

/// Longer than any wait of this test.
const LONG: Duration = Duration::from_secs(120);
/// Of the sum that is repeated.
const ROUNDS: usize = 100;
const BENCH_BYTES: usize = 256 << 20;
