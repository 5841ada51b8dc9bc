//! Bytes that a training step really sends, against what `neuroshard plan` says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use neuroshard::backend;
use neuroshard::collective::{self, Link, Request};
use neuroshard::config::RunConfig;
use neuroshard::data::{Dataset, Loader};
use neuroshard::shard::Forecast;
use neuroshard::shard::Machine;
use neuroshard::shard::Mesh;
use neuroshard::shard::Placement;
use neuroshard::shard::PlacementInput;
use neuroshard::shard::place;
use neuroshard::train::{Plan, Trainer};

/// A link that counts what goes through it.
#[derive(Debug)]
struct Counting {
    link: Arc<dyn Link>,
    bytes: Arc<AtomicU64>,
}

impl Link for Counting {
    fn rank(&self) -> usize {
        self.link.rank()
    }
    fn size(&self) -> usize {
        self.link.size()
    }
    fn describe(&self) -> String {
        "counted".into()
    }
    fn send(&self, to: usize, tag: u32, bytes: Vec<u8>) -> Request {
        self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.link.send(to, tag, bytes)
    }
    fn receive(&self, from: usize, tag: u32, len: usize) -> Request {
        self.link.receive(from, tag, len)
    }
    fn abort(&self, code: i32) -> ! {
        self.link.abort(code)
    }
}

const SMALL: &str = r#"
[model]
width = 128
layers = 4
heads = 4
kv_heads = 2
ffn = 512
vocab = 2048
[device]
threads = 1
[train]
steps = 8
seq_len = 32
batch_sequences = 8
micro_batch_sequences = 1
[parallel]
shards = 4
"#;

const MACHINE: Machine = Machine {
    flops_per_s: 1e12,
    memory_bytes_per_s: 1e12,
    network_bytes_per_s: 1e9,
    host_bytes_per_s: 1e9,
    latency_s: 0.0,
    host_ranks: 1,
};

/// The plan of a job of `ranks` ranks, its data, and where its layers go.
fn planned(sets: &[&str], ranks: usize) -> (RunConfig, Plan, Loader, PlacementInput, Placement) {
    let sets: Vec<String> = sets.iter().map(|s| (*s).to_owned()).collect();
    let config = RunConfig::from_text("small", SMALL, &sets).unwrap();
    let vocab = config.model.dims().unwrap().vocab;
    let dataset = Arc::new(Dataset::open(&config.data, vocab).unwrap());
    let plan = Plan::new(&config.parts(), dataset.hash()).unwrap();
    let (seq_len, batch) = (plan.train.seq_len, plan.train.batch_sequences);
    let loader = Loader::new(dataset, plan.seed, seq_len, batch).unwrap();
    let memory = vec![u64::MAX; ranks];
    let input = PlacementInput::new(plan.job(), plan.parallel.stages, memory).unwrap();
    let placement = place(&input).unwrap();
    (config, plan, loader, input, placement)
}

/// Bytes that each rank sends in its second step.
fn counted(sets: &[&str], ranks: usize) -> Vec<u64> {
    let (config, plan, loader, _, placement) = planned(sets, ranks);
    // Hosts of their own, so that everything goes over the link.
    let hosts: Vec<u64> = (0..ranks as u64).collect();
    let run = |link: Arc<dyn Link>| {
        let bytes = Arc::new(AtomicU64::new(0));
        let counting = Arc::new(Counting { link, bytes: bytes.clone() });
        let world = collective::group(counting, hosts.clone()).unwrap();
        let kernels = backend::select(&config.device).unwrap();
        let mesh = Mesh::new(world, plan.parallel.stages, plan.parallel.shards).unwrap();
        let layers = placement.stages[mesh.stage()].clone();
        let mut trainer = Trainer::new(kernels, &plan, &mesh, layers).unwrap();
        let mut step = || {
            let mine = trainer.sequences();
            let batch = loader.sequences(trainer.done(), mine.start, mine.len()).unwrap();
            trainer.step(&batch, 0).unwrap();
            bytes.load(Ordering::Relaxed)
        };
        let first = step();
        step() - first
    };
    thread::scope(|scope| {
        let links = collective::channels(ranks).into_iter();
        let ranks: Vec<_> = links.map(|link| scope.spawn(|| run(link))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

#[test]
fn a_step_sends_what_the_plan_says() {
    for (ranks, sets) in [
        (2, &["parallel.zero=0"][..]),
        (4, &["parallel.zero=0"]),
        (4, &["parallel.zero=1"]),
        (2, &["parallel.zero=2"]),
        (4, &["parallel.zero=3"]),
        (4, &["parallel.zero=3", "model.recompute=true"]),
        (2, &["parallel.stages=2"]),
        (4, &["parallel.stages=2"]),
        (8, &["parallel.stages=2", "parallel.zero=3"]),
        (4, &["parallel.stages=4", "train.seq_len=64"]),
    ] {
        let (.., input, placement) = planned(sets, ranks);
        let forecast = Forecast::of(&input, &placement, &MACHINE);
        let counted = counted(sets, ranks);
        let stages = counted.chunks(placement.data_ranks).zip(&forecast.traffic);
        for (stage, (counted, said)) in stages.enumerate() {
            // Small tensors are whole blocks, so single ranks differ; their sum does not.
            let counted = counted.iter().sum::<u64>() as f64;
            let said = said.reduce_scatter + said.all_gather + said.pipeline;
            let said = (said * placement.data_ranks as u64) as f64;
            // Headers, and the small all-gather of losses and norms, come on top.
            let ratio = counted / said;
            assert!((0.999..1.03).contains(&ratio), "{sets:?}, stage {stage}: {counted} of {said}");
        }
    }
}

#[test]
fn a_rank_alone_sends_nothing() {
    assert_eq!(counted(&["parallel.zero=3"], 1), [0]);
}
