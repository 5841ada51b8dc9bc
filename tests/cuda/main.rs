//! The kernels of `kernels/*.cu` against the CPU backend, bit for bit: on the emulator and, where
//! there is one, on a GPU.
//!
//! `scripts/build-emulator.sh` makes the emulator; NEUROSHARD_EMULATOR names another, and then it
//! must be there.

mod elementwise;
mod rmsnorm;

use std::env;
use std::sync::Arc;
use std::sync::OnceLock;

use half::bf16;
use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::backend::cuda::Cuda;
use neuroshard::backend::cuda::door::Door;
use neuroshard::backend::cuda::driver::Gpu;
use neuroshard::backend::cuda::emulator::Emulator;
use neuroshard::backend::cuda::emulator::Order;
use neuroshard::backend::cuda::graphs::Graphs;
use neuroshard::ops;
use neuroshard::ops::Kernels;
use neuroshard::ops::TensorCore;
use neuroshard::tensor::Element;
use neuroshard::tensor::Tensor;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

/// Rows by columns, each for a reason.
const SHAPES: &[(usize, usize)] = &[
    (0, 5),    // nothing
    (1, 1),    // one
    (3, 7),    // below 16 bytes of anything
    (5, 8),    // 16 bytes of bf16
    (7, 17),   // rows that start at any address
    (3, 127),  // below a turn of a warp
    (5, 128),  // at it
    (6, 129),  // above it
    (2, 257),  // two turns and one
    (9, 520),  // whole 16 bytes, no whole turn, more rows than warps of a block
    (33, 768), // a model's
    (5, 2051), // large, and sharing no factor with anything
];

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
#[allow(dead_code, reason = "for matrix products and attention")]
fn core_of(cuda: &Cuda) -> TensorCore {
    match cuda.door().compute_capability() {
        (8, _) => TensorCore::Ampere,
        _ => TensorCore::Hopper,
    }
}

/// The CPU at its plainest.
fn cpu() -> Cpu {
    Cpu::new(Level::PORTABLE, 1).unwrap()
}

/// A tensor on the device with the elements `data`.
fn upload<E: Element>(cuda: &Cuda, data: &[E], shape: &[usize]) -> Tensor {
    let mut tensor = cuda.zeros(E::DTYPE, shape).unwrap();
    ops::elementwise::copy(cuda, tensor.view_mut(), View::of(data, shape)).unwrap();
    tensor
}

/// The elements of a tensor on the device.
fn download<E: Element>(cuda: &Cuda, tensor: &Tensor) -> Vec<E> {
    let shape = tensor.shape();
    let mut data = vec![E::zeroed(); shape.len()];
    ops::elementwise::copy(cuda, ViewMut::of(&mut data, &shape), tensor.view()).unwrap();
    data
}

/// `n` numbers of a prime period, of size up to 1, with some subnormal ones and zeros of both signs.
fn paint(n: usize, period: usize) -> Vec<f32> {
    let number = |i: usize| {
        let x = ((i * 7919 % period) as f32 + 0.5) / period as f32 * 2.0 - 1.0;
        match i * 31 % period {
            3 => x * 1e-39,
            5 => -0.0,
            7 => 0.0,
            11 => x * 1e-20,
            _ => x,
        }
    };
    (0..n).map(number).collect()
}

/// Equal bits; any NaN equals any other.
fn assert_bits<E: Element + Into<f32>>(what: &str, got: &[E], want: &[E]) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let (got, want): (f32, f32) = (got.into(), want.into());
        let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
        assert!(same, "{what}: [{i}] is {got:e}, not {want:e}");
    }
}
