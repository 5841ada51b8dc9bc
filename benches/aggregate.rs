//! Aggregation under criterion: `cargo bench --bench aggregate`. One thread, so that a time is
//! core-seconds; decoding counts. Updates are encoded as peers send them; they repeat after a few
//! blocks, which aggregation cannot see. As a test (`cargo test --benches`) all run once, tiny.
//!
//! `gram`, `solve` and `combine` are the parts of `whole`. Updates whose supports lie `apart` meet
//! in 1 of 64 elements; where they are `near`, in most; dense ones in all.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use neuroshard::aggregate::{Aggregator, Clip, Config, Contribution, Input, Mix, Rule};
use neuroshard::codec;
use neuroshard::codec::{About, BLOCK, Codec, Codes, Layout, Update, encode};
use neuroshard::crypto::{Hash, PeerId};
use neuroshard::rng::{Address, Purpose, fill_normal};

/// An update of a few blocks, again and again.
struct Repeated<'a> {
    update: Update<'a>,
    blocks: usize,
}

impl Contribution for Repeated<'_> {
    fn block(&self, index: usize, codes: &mut Codes) -> Result<(), codec::Error> {
        self.update.block(index % self.blocks, codes)
    }
}

/// What is aggregated.
struct Case {
    name: &'static str,
    codec: codec::Kind,
    /// How much of an update is its own, beside what all have in common.
    own: f32,
    peers: usize,
    blocks: usize,
    config: Config,
}

/// 125 million elements, or a slice of a billion.
const SMALL: usize = 477;
const SLICE: usize = 64;

fn cases() -> Vec<Case> {
    let rule = |rule| Config { rule, ..Config::default() };
    let bare = |rule| Config { rule, clip: Clip::None, mix: Mix::None, ..Config::default() };
    let case =
        |name, codec, own, peers, blocks, config| Case { name, codec, own, peers, blocks, config };
    let (top, f32) = (codec::Kind::TopK, codec::Kind::F32);
    vec![
        case("default, top_k, apart", top, 1.0, 16, SMALL, rule(Rule::GeometricMedian)),
        case("default, top_k, near", top, 0.1, 16, SMALL, rule(Rule::GeometricMedian)),
        case("plain mean, top_k, apart", top, 1.0, 16, SMALL, Config::plain_mean()),
        case("median, top_k, near", top, 0.1, 16, SMALL, bare(Rule::Median)),
        case("default, top_k, apart", top, 1.0, 64, SLICE, rule(Rule::GeometricMedian)),
        case("default, top_k, near", top, 0.1, 64, SLICE, rule(Rule::GeometricMedian)),
        case("default, f32", f32, 1.0, 16, SLICE, rule(Rule::GeometricMedian)),
        case("trimmed mean, f32", f32, 1.0, 16, SLICE, bare(Rule::TrimmedMean)),
        case("median, f32", f32, 1.0, 64, SLICE / 8, bare(Rule::Median)),
    ]
}

/// Encoded updates of `blocks` blocks.
fn updates(case: &Case, codec: &dyn Codec, layout: &Layout) -> Vec<Vec<u8>> {
    let normal = |seed: u64| {
        let mut values = vec![0.0; layout.elements()];
        let first = Address { seed, purpose: Purpose::Test, step: 0, index: 0 };
        fill_normal(first, 1.0, &mut values);
        values
    };
    let common = normal(0);
    let one = |i: usize| {
        let mut values = normal(1 + i as u64);
        values.iter_mut().zip(&common).for_each(|(x, c)| *x = case.own * *x + (1.0 - case.own) * c);
        encode(codec, layout, &ABOUT, &mut values).expect("finite")
    };
    (0..case.peers).map(one).collect()
}

const ABOUT: About = About { job: Hash([1; 32]), round: 0, fragment: 0 };

fn bench(criterion: &mut Criterion, case: &Case) {
    let is_test = !std::env::args().any(|arg| arg == "--bench");
    let (repeat, blocks) = if is_test { (1, 2) } else { (8, case.blocks) };
    let codec = codec::Config { kind: case.codec, ..codec::Config::default() };
    let codec = codec.codec().expect("a codec");
    let short = Layout::new([("w", repeat * BLOCK)]);
    let layout = Layout::new([("w", blocks * BLOCK)]);
    let bytes = updates(case, codec.as_ref(), &short);
    let parse = |bytes| Update::parse(bytes, codec.as_ref(), &short, &ABOUT).expect("an update");
    let repeated: Vec<_> =
        bytes.iter().map(|b| Repeated { update: parse(b), blocks: repeat }).collect();
    let input = |(i, update)| Input { peer: PeerId::numbered(i as u64), update };
    let inputs: Vec<Input<'_>> =
        repeated.iter().map(|r| r as &dyn Contribution).enumerate().map(input).collect();
    let rule = Aggregator::new(&case.config).expect("a rule");
    let mut out = vec![0.0; layout.elements()];

    let name =
        format!("aggregate/{} n={} {}M", case.name, case.peers, layout.elements() / 1_000_000);
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(layout.elements() as u64));
    group.bench_function(BenchmarkId::from_parameter("whole"), |bencher| {
        let run = |mut rule: Aggregator| {
            rule.aggregate(0, &layout, &inputs, &mut out).expect("an aggregate");
        };
        bencher.iter_batched(|| rule.clone(), run, BatchSize::PerIteration);
    });
    let gram = || rule.gram(&layout, &inputs, 0..blocks).expect("decodes");
    group.bench_function("gram", |bencher| bencher.iter(|| black_box(gram())));
    let gram = gram();
    let solve = || rule.solve(0, &layout, &inputs, &gram).expect("a solution");
    group.bench_function("solve", |bencher| bencher.iter(|| black_box(solve())));
    let solution = solve();
    group.bench_function("combine", |bencher| {
        bencher.iter(|| {
            let outcome = rule.combine(&layout, &inputs, &solution, 0..blocks, &mut out);
            outcome.expect("decodes")
        });
    });
    group.finish();
}

fn main() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("the first pool");
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    cases().iter().for_each(|case| bench(&mut criterion, case));
    criterion.final_summary();
}
