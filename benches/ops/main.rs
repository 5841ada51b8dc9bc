//! Every operation under criterion: `cargo bench --bench ops` runs `op/pass/dtype/shape` (a filter
//! chooses some) at shapes of presets on one thread and on all. The cases are those of
//! `neuroshard bench kernels`, which sets them beside the machine's ceilings. As a test
//! (`cargo test --benches`) everything runs once at tiny extents.

use std::sync::OnceLock;
use std::time::Duration;

use criterion::BenchmarkId;
use criterion::Criterion;
use criterion::Throughput;
use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::bench::Bound;
use neuroshard::bench::Case;
use neuroshard::bench::Selection;
use neuroshard::model::Config;
use neuroshard::ops::Precision;
use neuroshard::ops::TensorCore;

/// Shapes of these presets, of a micro-batch of so many tokens in sequences of so many.
fn selection() -> Selection {
    let (presets, tokens): (&[&str], _) =
        if as_test() { (&["nano"], 4) } else { (&["tiny", "125m"], 1024) };
    let model = |preset: &&str| {
        let config = Config { preset: Some((*preset).into()), ..Config::default() };
        ((*preset).to_owned(), config.dims().unwrap())
    };
    let models = presets.iter().map(model).collect();
    let tc = Precision::Tc(TensorCore::default());
    let precisions = vec![Precision::F32, Precision::Bf16, tc];
    Selection { precisions, models, tokens, seq_len: tokens / 2, ..Selection::default() }
}

/// Cargo gives `--bench` to benches only; criterion runs everything once without it.
fn as_test() -> bool {
    !std::env::args().any(|arg| arg == "--bench")
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

fn run(cases: &[Case]) {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    let cpus = cpus();
    for cases in cases.chunk_by(|a, b| a.op == b.op) {
        let mut group = criterion.benchmark_group(cases[0].op);
        for (case, cpu) in cases.iter().flat_map(|case| cpus.iter().map(move |cpu| (case, cpu))) {
            if let Err(why) = case.prepare(cpu).and_then(|mut prepared| prepared.run(cpu)) {
                eprintln!("SKIPPED LOUDLY: {case:?}: {why}");
                continue;
            }
            group.throughput(match case.bound {
                Bound::Copy => Throughput::Bytes(case.bytes()),
                Bound::Products(_) => Throughput::Elements(case.flops),
            });
            let name = format!("{}/{}/{} {}", case.pass, case.dtype(), case.shape, case.place);
            let id = BenchmarkId::new(name, format!("{}x{}", cpu.level(), cpu.threads()));
            group.bench_function(id, |bencher| {
                let mut prepared = case.prepare(cpu).unwrap();
                bencher.iter(|| prepared.run(cpu).unwrap());
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

fn main() {
    run(&selection().cases().unwrap());
}
