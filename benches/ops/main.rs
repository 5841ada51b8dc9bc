//! Every operation: what it computes or moves per second, beside what this machine can do.
//!
//! `cargo bench --bench ops` runs criterion over `op/pass/dtype/shape` (a filter chooses some).
//! `cargo bench --bench ops -- --table` prints Markdown within some minutes: medians, and ratios
//! to ceilings that are measured in turn with them; names of operations after it choose some.
//! `cargo test --benches` runs everything once at tiny extents.

mod adamw;
mod attention;
mod ceiling;
mod cross_entropy;
mod digest;
mod elementwise;
mod embedding;
mod matmul;
mod norm;
mod rmsnorm;
mod rope;
mod swiglu;
mod table;

use std::sync::OnceLock;
use std::time::Duration;

use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use half::bf16;
use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::ops::Precision;
use neuroshard::tensor::DType;
use neuroshard::tensor::Element;
use neuroshard::tensor::Tensor;

/// One call of an operation at one shape.
struct Case {
    op: &'static str,
    /// `pass/dtype/shape`.
    name: String,
    work: Work,
    /// Allocates and fills the arguments.
    prepare: Box<dyn Fn() -> Body>,
}

/// Calls the operation once.
type Body = Box<dyn FnMut(&Cpu)>;

/// What a call cannot do without.
#[derive(Clone, Copy, Debug)]
enum Work {
    /// Bytes read and bytes written, each once: inputs and outputs that no cache holds.
    Bytes(usize),
    /// Multiplications and additions.
    Flops(usize, Precision),
}

impl Work {
    fn amount(self) -> usize {
        match self {
            Self::Bytes(amount) | Self::Flops(amount, _) => amount,
        }
    }
}

/// How large the arguments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    /// So small that all cases together take seconds.
    Tiny,
    /// Models' shapes; past the last cache where memory is the limit.
    Full,
}

impl Size {
    /// Rows of `columns` such that `arrays` of them take [`FOOTPRINT_BYTES`] together.
    fn rows(self, columns: usize, arrays: usize) -> usize {
        match self {
            Self::Tiny => 6,
            Self::Full => FOOTPRINT_BYTES / (size_of::<f32>() * columns * arrays),
        }
    }
}

/// [`painted`] in the type that activations of `precision` have.
fn painted_for(precision: Precision, shape: &[usize]) -> Tensor {
    let wide = painted(shape);
    match precision.activations() {
        DType::Bf16 => {
            let narrow: Vec<_> = wide.host().iter().map(|&x| half::bf16::from_f32(x)).collect();
            Tensor::from_slice(&narrow, shape)
        }
        _ => wide,
    }
}

/// A tensor of numbers in -1..1 of a prime period.
fn painted(shape: &[usize]) -> Tensor {
    painted_in(DType::F32, shape)
}

/// As [`painted`], f32 or bf16.
fn painted_in(dtype: DType, shape: &[usize]) -> Tensor {
    let number = |i: usize| (i * 7919 % PERIOD) as f32 / 510.5 - 0.999;
    let mut tensor = Tensor::zeros(dtype, shape);
    match dtype {
        DType::Bf16 => repeat(tensor.host_mut(), |i| bf16::from_f32(number(i))),
        _ => repeat(tensor.host_mut(), number),
    }
    tensor
}

fn repeat<E: Element>(to: &mut [E], number: impl Fn(usize) -> E) {
    let numbers: Vec<E> = (0..PERIOD).map(number).collect();
    for chunk in to.chunks_mut(PERIOD) {
        chunk.copy_from_slice(&numbers[..chunk.len()]);
    }
}

/// How activations are called in the names of cases.
fn name_of(dtype: DType) -> &'static str {
    if dtype == DType::Bf16 { "bf16" } else { "f32" }
}

fn dtype(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "f32",
        Precision::Bf16 => "bf16",
        Precision::Tc(_) => "tc",
    }
}

fn cases(size: Size) -> Vec<Case> {
    let all = [
        rmsnorm::cases(size),
        rope::cases(size),
        swiglu::cases(size),
        adamw::cases(size),
        cross_entropy::cases(size),
        digest::cases(size),
        embedding::cases(size),
        norm::cases(size),
        elementwise::cases(size),
        matmul::cases(size),
        attention::cases(size),
    ];
    all.into_iter().flatten().collect()
}

/// The best level, found once: finding it takes a measurement.
fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(Level::best)
}

/// Kernels of the best level on one thread and, if there are more, on all cores.
fn cpus() -> Vec<Cpu> {
    let all = Cpu::new(level(), 0).unwrap();
    let one = Cpu::new(level(), 1).unwrap();
    if all.threads() > 1 { vec![one, all] } else { vec![one] }
}

fn run_criterion(cases: &[Case]) {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let cpus = cpus();
    for cases in cases.chunk_by(|a, b| a.op == b.op) {
        let mut group = criterion.benchmark_group(cases[0].op);
        for (case, cpu) in cases.iter().flat_map(|case| cpus.iter().map(move |cpu| (case, cpu))) {
            group.throughput(match case.work {
                Work::Bytes(bytes) => Throughput::Bytes(bytes as u64),
                Work::Flops(flops, _) => Throughput::Elements(flops as u64),
            });
            let id = BenchmarkId::new(&case.name, format!("{}x{}", cpu.level(), cpu.threads()));
            group.bench_function(id, |bencher| {
                let mut body = (case.prepare)();
                bencher.iter(|| body(cpu));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| args.iter().any(|arg| arg == flag);
    // `cargo bench` passes --bench, `cargo test` does not.
    let size = if has("--test") || !has("--bench") { Size::Tiny } else { Size::Full };
    let mut cases = cases(size);
    if has("--table") {
        let chosen: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
        cases.retain(|case| chosen.is_empty() || chosen.iter().any(|op| *op == case.op));
        return table::print(&cases, &cpus(), size);
    }
    run_criterion(&cases);
    if size == Size::Tiny {
        table::print(&cases, &cpus(), size);
    }
}

/// Types of activations.
const ACTIVATIONS: [DType; 2] = [DType::F32, DType::Bf16];
/// A prime.
const PERIOD: usize = 1021;
/// More than twice the last cache of large servers.
const FOOTPRINT_BYTES: usize = 1 << 30;
