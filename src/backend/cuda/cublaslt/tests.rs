//! Plans against a stand-in for cuBLASLt and for a GPU; and the real library as far as it goes
//! without one.

use std::sync::Arc;

use half::bf16;

use super::choice::Plans;
use super::error::Error;
use super::fake::{CALLED, Kind, OFFERED, STARTS, alive, calls};
use super::host_gpu::{HostGpu, STREAM};
use super::library::{LIBRARY_VARIABLE, Library};
use super::plan::Plan;
use super::session::Session;
use super::shape::Shape;
use crate::backend::cpu::Cpu;
use crate::backend::cpu::Level;
use crate::backend::cuda::Cuda;
use crate::backend::cuda::door::Door;
use crate::backend::cuda::graphs::Graphs;
use crate::backend::cuda::matmul::Layout;
use crate::backend::tuning::Launches;
use crate::backend::tuning::Products;
use crate::ops::Kernels;
use crate::ops::Precision;
use crate::ops::TensorCore;
use crate::ops::elementwise;
use crate::ops::matmul;
use crate::ops::matmul::Start;
use crate::tensor::DType;
use crate::tensor::Tensor;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// The library's stand-in, which offers `kinds`.
fn library(kinds: &[Kind]) -> Library {
    OFFERED.set(kinds.to_vec());
    CALLED.take();
    Library::from_calls(calls(), "a stand-in".into()).unwrap()
}

/// Kernels of `door` with the stand-in.
fn cuda(door: Arc<dyn Door>, kinds: &[Kind], product: Products) -> Cuda {
    let plans = Arc::new(Plans::given(library(kinds)));
    let cuda = Cuda { plans, ..Cuda::new(door) };
    cuda.launching(Launches { product, ..Launches::default() })
}

/// The algorithms that were called.
fn called() -> Vec<Kind> {
    CALLED.with_borrow(|called| called.iter().map(|(kind, _)| *kind).collect())
}

/// Bits of all products of these rows, inputs and outputs: forward, gradient of inputs, gradient of
/// weights overwritten and added to.
fn products(kernels: &dyn Kernels, [n, i, o]: [usize; 3]) -> Vec<Vec<u32>> {
    let precision = Precision::Tc(TensorCore::Hopper);
    let number = |j: usize| ((j * 7919 % 1009) as f32 - 504.0) * f32::exp2((j % 23) as f32 - 11.0);
    let factor = |rows: usize, columns: usize, from: usize| {
        let values: Vec<bf16> =
            (0..rows * columns).map(|j| bf16::from_f32(number(j + from))).collect();
        put(kernels, DType::Bf16, &[rows, columns], &View::of(&values, &[rows, columns]))
    };
    let (inp, weight, dout) = (factor(n, i, 0), factor(o, i, 100), factor(n, o, 200));
    let mut out = kernels.zeros(DType::Bf16, &[n, o]).unwrap();
    let mut dinp = kernels.zeros(DType::Bf16, &[n, i]).unwrap();
    let there: Vec<f32> = (0..o * i).map(number).collect();
    let mut dweight = put(kernels, DType::F32, &[o, i], &View::of(&there, &[o, i]));
    let args =
        matmul::Forward { out: out.view_mut(), inp: inp.view(), weight: weight.view(), precision };
    matmul::forward(kernels, args).unwrap();
    let args = matmul::BackwardInput {
        dinp: dinp.view_mut(),
        dout: dout.view(),
        weight: weight.view(),
        precision,
    };
    matmul::backward_input(kernels, args).unwrap();
    let mut all = vec![bits(kernels, &out), bits(kernels, &dinp)];
    for start in [Start::Zero, Start::Existing] {
        let args = matmul::BackwardWeight {
            dweight: dweight.view_mut(),
            dout: dout.view(),
            inp: inp.view(),
            precision,
            start,
        };
        matmul::backward_weight(kernels, args).unwrap();
        all.push(bits(kernels, &dweight));
    }
    all
}

fn put(kernels: &dyn Kernels, dtype: DType, shape: &[usize], values: &View<'_>) -> Tensor {
    let mut tensor = kernels.zeros(dtype, shape).unwrap();
    elementwise::copy(kernels, tensor.view_mut(), *values).unwrap();
    tensor
}

fn bits(kernels: &dyn Kernels, tensor: &Tensor) -> Vec<u32> {
    let (shape, len) = (tensor.shape(), tensor.shape().len());
    if tensor.dtype() == DType::Bf16 {
        let mut host = vec![bf16::ZERO; len];
        elementwise::copy(kernels, ViewMut::of(&mut host, &shape), tensor.view()).unwrap();
        return host.iter().map(|x| x.to_bits().into()).collect();
    }
    let mut host = vec![0.0f32; len];
    elementwise::copy(kernels, ViewMut::of(&mut host, &shape), tensor.view()).unwrap();
    host.iter().map(|x| x.to_bits()).collect()
}

/// Rows, inputs, outputs: whole runs of 16 bytes everywhere, and extents that differ.
const SHAPE: [usize; 3] = [48, 64, 40];

/// What a CPU computes.
fn right(shape: [usize; 3]) -> Vec<Vec<u32>> {
    products(&Cpu::new(Level::PORTABLE, 1).unwrap(), shape)
}

#[test]
fn a_plan_that_gives_our_bits_serves_in_every_layout() {
    for shape in [SHAPE, [24, 128, 8]] {
        let device = cuda(Arc::new(HostGpu::new()), &[Kind::Exact], Products::Cublaslt);
        assert_eq!(products(&device, shape), right(shape));
        let lines = device.decisions();
        assert_eq!(lines.len(), 4, "{lines:?}");
        for line in &lines {
            assert!(line.contains("cublaslt (cuBLASLt 13.0.2, algorithm 0, tile 20"), "{line}");
            assert!(line.contains("bits equal"), "{line}");
        }
        // What is decided is not asked again.
        CALLED.take();
        assert_eq!(products(&device, shape), right(shape));
        assert_eq!(called(), [Kind::Exact; 4]);
        CALLED.with_borrow(|called| assert!(called.iter().all(|(_, s)| *s == STREAM as usize)));
        drop(device);
        assert_eq!(alive(), 0, "everything of the library's is given back");
    }
}

#[test]
fn plans_that_lie_are_refused_whatever_they_do() {
    let liars = [
        Kind::OneBit,
        Kind::Shared,
        Kind::Downward,
        Kind::Flushes,
        Kind::Idle,
        Kind::Otherwise,
        Kind::Fails,
    ];
    for liar in liars {
        let gpu = Arc::new(HostGpu::new());
        let device = cuda(gpu.clone(), &[liar], Products::Cublaslt);
        assert_eq!(products(&device, SHAPE), right(SHAPE), "{liar:?}");
        let lines = device.decisions();
        assert!(lines.iter().all(|line| line.contains(": ours (")), "{liar:?}: {lines:?}");
        gpu.log();
        CALLED.take();
        assert_eq!(products(&device, SHAPE), right(SHAPE), "{liar:?}");
        assert!(called().is_empty(), "{liar:?}");
        let kernels = gpu.log();
        assert_eq!(kernels.len(), 4, "{kernels:?}");
        assert!(kernels.iter().all(|kernel| kernel.ends_with("_tc")), "{kernels:?}");
    }
}

#[test]
fn the_first_right_one_serves_and_the_others_are_not_even_called_if_they_tell() {
    let offered = [
        Kind::Splits,
        Kind::OneBit,
        Kind::Reduces,
        Kind::Fails,
        Kind::Large,
        Kind::Shared,
        Kind::Exact,
    ];
    let device = cuda(Arc::new(HostGpu::new()), &offered, Products::Cublaslt);
    assert_eq!(products(&device, SHAPE), right(SHAPE));
    let lines = device.decisions();
    assert!(lines.iter().all(|line| line.contains("cublaslt (")), "{lines:?}");
    CALLED.take();
    products(&device, SHAPE);
    assert_eq!(called(), [Kind::Exact; 4]);
}

#[test]
fn nothing_offered_no_handle_or_no_memory_leaves_the_product_to_us() {
    let device = cuda(Arc::new(HostGpu::new()), &[], Products::Cublaslt);
    assert_eq!(products(&device, SHAPE), right(SHAPE));
    let lines = device.decisions();
    assert!(lines[0].contains("no algorithm for matmul backward_input 48 x 64 x 40"), "{lines:?}");
    let device = cuda(Arc::new(HostGpu::new()), &[Kind::Splits], Products::Cublaslt);
    products(&device, SHAPE);
    assert!(device.decisions()[0].contains("1 split k or reduce"), "{:?}", device.decisions());
    STARTS.set(false);
    let device = cuda(Arc::new(HostGpu::new()), &[Kind::Exact], Products::Auto);
    assert_eq!(products(&device, SHAPE), right(SHAPE));
    assert!(called().is_empty() && device.decisions().is_empty());
    STARTS.set(true);
    // Not even the workspace.
    let gpu = HostGpu::new().with(4 << 20, true);
    let device = cuda(Arc::new(gpu), &[Kind::Exact], Products::Auto);
    assert_eq!(products(&device, SHAPE), right(SHAPE));
    assert!(called().is_empty());
}

#[test]
fn who_asks_for_ours_gets_ours_and_rows_of_any_length_are_ours() {
    let device = cuda(Arc::new(HostGpu::new()), &[Kind::Exact], Products::Ours);
    assert_eq!(products(&device, SHAPE), right(SHAPE));
    let odd = [7, 9, 5];
    let device = device.launching(Launches { product: Products::Cublaslt, ..Launches::default() });
    assert_eq!(products(&device, odd), right(odd));
    assert!(called().is_empty());
    // Which is faster is measured; both are right.
    let device = device.launching(Launches::default());
    for _ in 0..3 {
        assert_eq!(products(&device, SHAPE), right(SHAPE));
    }
    let lines = device.decisions();
    assert!(lines.iter().all(|line| line.contains("bits equal")), "{lines:?}");
}

#[test]
fn work_of_the_library_is_part_of_graphs() {
    let precision = Precision::Tc(TensorCore::Hopper);
    for captures in [true, false] {
        let gpu = Arc::new(HostGpu::new().with(1 << 30, captures));
        let graphs = Arc::new(Graphs::new(gpu.clone()));
        let device = cuda(graphs, &[Kind::Exact], Products::Cublaslt);
        let values: Vec<bf16> = (0..64 * 64).map(|i| bf16::from_f32((i % 31) as f32)).collect();
        let a = put(&device, DType::Bf16, &[64, 64], &View::of(&values, &[64, 64]));
        let mut out: Vec<_> =
            (0..9).map(|_| device.zeros(DType::Bf16, &[64, 64]).unwrap()).collect();
        let mut results = Vec::new();
        for round in 0..4 {
            for out in &mut out {
                let (out, inp, weight) = (out.view_mut(), a.view(), a.view());
                let args = matmul::Forward { out, inp, weight, precision };
                matmul::forward(&device, args).unwrap();
            }
            device.synchronize().unwrap();
            let log = gpu.log();
            let count = |what: &str| log.iter().filter(|line| *line == what).count();
            if round > 0 {
                assert_eq!(count("library"), 9, "{log:?}");
                assert_eq!(count("graph"), usize::from(captures), "{round}: {log:?}");
            }
            results.push(bits(&device, &out[8]));
        }
        assert!(results.iter().all(|bits| *bits == results[0]));
    }
}

/// The library that is there, for what needs no driver.
fn real() -> Option<Library> {
    match Library::load() {
        Ok(library) => Some(library),
        Err(error) => {
            println!("SKIPPED LOUDLY: {error}");
            None
        }
    }
}

#[test]
fn the_real_library_tells_its_version_and_takes_our_descriptions() {
    let Some(lt) = real() else { return };
    println!("{lt:?}; {LIBRARY_VARIABLE} names another");
    assert!(lt.version().0 >= 12);
    for layout in [Layout::Forward, Layout::BackwardInput, Layout::BackwardWeight] {
        let shape = Shape { layout, extents: [256, 512, 1024], start: Start::Zero };
        super::session::Described::new(&lt, &shape).unwrap();
    }
    super::session::preferences(&lt, 32 << 20).unwrap();
}

#[test]
fn the_real_library_refuses_a_handle_where_there_is_no_driver() {
    let Some(lt) = real() else { return };
    match Session::on_bound_device(lt) {
        Err(Error::Call { call: "cublasLtCreate", status, cause }) => {
            assert!(status != 0 && !cause.is_empty(), "{status}: {cause}");
            println!("refused: {cause} (status {status})");
        }
        Err(other) => panic!("another error: {other}"),
        // A GPU is here: then heuristics are asked, too.
        Ok(session) => {
            let shape = Shape { layout: Layout::Forward, extents: [512; 3], start: Start::Zero };
            let plans = Plan::candidates(&session, &shape, 32 << 20).unwrap();
            plans.iter().for_each(|plan| println!("{plan}"));
        }
    }
}
