//! The kernels of `kernels/*.cu` against the CPU backend, bit for bit: on the emulator and, where
//! there is one, on a GPU.
//!
//! `scripts/build-emulator.sh` makes the emulator; NEUROSHARD_EMULATOR names another, and then it
//! must be there.

mod attention;
mod case;
mod elementwise;
mod products;
mod rows;
mod tensors;
mod training;
mod warp_groups;

use std::env;
use std::sync::Arc;
use std::sync::OnceLock;

use neuroshard::backend::cuda::Cuda;
use neuroshard::backend::cuda::door::Door;
use neuroshard::backend::cuda::driver::Gpu;
use neuroshard::backend::cuda::emulator::Emulator;
use neuroshard::backend::cuda::emulator::Order;
use neuroshard::backend::cuda::graphs::Graphs;
use neuroshard::ops::TensorCore;

/// Calls `test` with the kernels of each CUDA device there is, and its name.
fn each_door(test: impl Fn(&Cuda, &str)) {
    static DOORS: OnceLock<Vec<(Cuda, String)>> = OnceLock::new();
    let doors = DOORS.get_or_init(|| {
        let mut doors = emulators();
        doors.extend(gpus());
        if doors.is_empty() {
            println!("SKIPPED LOUDLY: no emulator (scripts/build-emulator.sh) and no GPU");
        }
        doors
    });
    doors.iter().for_each(|(cuda, name)| test(cuda, name));
}

/// Two tensor cores, and two orders of threads.
fn emulators() -> Vec<(Cuda, String)> {
    let open = |core, order| Emulator::open(&Emulator::usual_path(), core, order);
    let kinds = [(TensorCore::Hopper, Order::Ascending), (TensorCore::Ampere, Order::Random)];
    let mut found = Vec::new();
    for (core, order) in kinds {
        match open(core, order) {
            Ok(emulator) => found.push((
                Cuda::new(Arc::new(emulator)),
                format!("emulator, {core:?}, threads {order:?}"),
            )),
            Err(e) if env::var_os("NEUROSHARD_EMULATOR").is_some() => panic!("{e}"),
            Err(e) => println!("SKIPPED LOUDLY: {e}"),
        }
    }
    found
}

/// The first GPU of this machine, plain and with work in batches.
fn gpus() -> Vec<(Cuda, String)> {
    match Gpu::open(0) {
        Ok(gpu) => {
            let gpu: Arc<dyn Door> = Arc::new(gpu);
            let batches = Arc::new(Graphs::new(gpu.clone()));
            let name = gpu.describe();
            vec![(Cuda::new(gpu), name.clone()), (Cuda::new(batches), format!("{name}, graphs"))]
        }
        Err(e) => {
            println!("SKIPPED LOUDLY: {e}");
            Vec::new()
        }
    }
}

/// The tensor cores of a device.
fn core_of(cuda: &Cuda) -> TensorCore {
    match cuda.door().compute_capability() {
        (8, _) => TensorCore::Ampere,
        _ => TensorCore::Hopper,
    }
}
