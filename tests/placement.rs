//! Placement of layers on stages: against every possible division of small models, and the memory
//! and time that it goes by.

use neuroshard::backend;
use neuroshard::collective;
use neuroshard::model;
use neuroshard::model::BlockActivations;
use neuroshard::model::Dims;
use neuroshard::model::Extent;
use neuroshard::model::Passes;
use neuroshard::model::Scratch;
use neuroshard::model::{Slot, WeightSizes};
use neuroshard::ops::DeviceMemory;
use neuroshard::ops::{Precision, TensorCore};
use neuroshard::shard::Config;
use neuroshard::shard::Forecast;
use neuroshard::shard::Job;
use neuroshard::shard::Machine;
use neuroshard::shard::Place;
use neuroshard::shard::PlacementInput;
use neuroshard::shard::RankMemory;
use neuroshard::shard::StageCosts;
use neuroshard::shard::Zero;
use neuroshard::shard::fastest;
use neuroshard::shard::memory_of_ranks;
use neuroshard::shard::place;
use neuroshard::tensor::Tensor;
use proptest::prelude::*;

fn dims(layers: usize, vocab: usize, tied: bool) -> Dims {
    let (layers, vocab, tied) = (Some(layers), Some(vocab), Some(tied));
    model::Config { layers, vocab, tied, ..Default::default() }.dims().unwrap()
}

fn preset(name: &str) -> Dims {
    model::Config { preset: Some(name.into()), ..Default::default() }.dims().unwrap()
}

fn job(dims: Dims) -> Job {
    Job {
        dims,
        batch_sequences: 16,
        micro_batch_sequences: 1,
        seq_len: 128,
        shards: 8,
        zero: Zero::Moments,
        passes: Passes::Stored,
        precision: Precision::Bf16,
    }
}

fn jobs() -> impl Strategy<Value = Job> {
    let extents = (1usize..=9, prop_oneof![Just(64usize), Just(4096), Just(40_000)], any::<bool>());
    let rest = (0usize..4, any::<bool>(), prop_oneof![Just(1usize), Just(2)]);
    (extents, rest).prop_map(|((layers, vocab, tied), (zero, recompute, micro))| Job {
        zero: Zero::ALL[zero],
        passes: if recompute { Passes::Recomputed } else { Passes::Stored },
        micro_batch_sequences: micro,
        ..job(dims(layers, vocab, tied))
    })
}

/// Every way to put `layers` layers on `stages` stages, at least one on each.
fn divisions(layers: usize, stages: usize) -> Vec<Vec<usize>> {
    if stages == 1 {
        return vec![vec![layers]];
    }
    (1..=layers.saturating_sub(stages - 1))
        .flat_map(|first| {
            let rest = divisions(layers - first, stages - 1);
            rest.into_iter().map(move |rest| [vec![first], rest].concat())
        })
        .collect()
}

fn place_at(input: &PlacementInput, stage: usize, layers: usize) -> Place {
    Place { stages: input.stages, stage, layers, data_ranks: input.data_ranks() }
}

/// Time of the slowest stage of the best division that fits, by trying all.
fn best_by_trying_all(input: &PlacementInput) -> Option<u128> {
    let costs = StageCosts::of(&input.job);
    let data_ranks = input.data_ranks();
    let fits = |division: &Vec<usize>| {
        division.iter().enumerate().all(|(stage, &layers)| {
            let need = RankMemory::of(&input.job, &place_at(input, stage, layers)).total();
            input.memory_bytes[stage * data_ranks..(stage + 1) * data_ranks]
                .iter()
                .all(|&available| need <= available)
        })
    };
    let slowest = |division: Vec<usize>| {
        let stages = division.iter().enumerate();
        stages.map(|(stage, &layers)| costs.stage(stage, input.stages, layers)).max().unwrap()
    };
    divisions(input.job.dims.layers, input.stages).into_iter().filter(fits).map(slowest).min()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn placements_are_whole_fit_and_cannot_be_faster(
        job in jobs(),
        stages in 1usize..=4,
        data_ranks in prop_oneof![Just(1usize), Just(2), Just(4)],
        scale in 0.3f64..1.6,
        shares in prop::collection::vec(0.5f64..1.5, 16),
    ) {
        prop_assume!(stages <= job.dims.layers);
        // Around what an even division needs, so that about half of the cases fit.
        let layers = job.dims.layers.div_ceil(stages);
        let even = Place { stages, stage: 0, layers, data_ranks };
        let typical = RankMemory::of(&job, &even).total() as f64 * scale;
        let memory: Vec<u64> =
            (0..stages * data_ranks).map(|rank| (typical * shares[rank]) as u64).collect();
        let input = PlacementInput::new(job, stages, memory).unwrap();
        let best = best_by_trying_all(&input);
        match place(&input) {
            Ok(placement) => {
                let mut next = 0;
                for (stage, range) in placement.stages.iter().enumerate() {
                    prop_assert_eq!(range.start, next);
                    prop_assert!(!range.is_empty());
                    next = range.end;
                    let need = RankMemory::of(&input.job, &place_at(&input, stage, range.len()));
                    prop_assert_eq!(need, placement.memory[stage]);
                    prop_assert!(need.total() <= placement.available_bytes[stage]);
                }
                prop_assert_eq!(next, input.job.dims.layers);
                let costs = StageCosts::of(&input.job);
                let slowest = placement.stages.iter().enumerate()
                    .map(|(stage, range)| costs.stage(stage, stages, range.len())).max();
                prop_assert_eq!(slowest, best);
            }
            Err(why) => {
                prop_assert_eq!(best, None, "{}", why);
                let at = |bytes: u64| PlacementInput {
                    memory_bytes: vec![bytes; input.memory_bytes.len()],
                    ..input.clone()
                };
                prop_assert!(place(&at(why.needed_bytes)).is_ok());
                prop_assert!(place(&at(why.needed_bytes - (1 << 20))).is_err());
                for remedy in &why.remedies {
                    prop_assert!(place(&applied(&input, remedy)).is_ok(), "{}", remedy);
                }
            }
        }
    }

    #[test]
    fn a_layer_more_never_takes_less_memory(job in jobs(), stages in 1usize..=4) {
        for stage in 0..stages {
            let total = |layers: usize| {
                let place = Place { stages, stage, layers, data_ranks: 2 };
                RankMemory::of(&job, &place).total()
            };
            for layers in 1..6 {
                prop_assert!(total(layers) <= total(layers + 1));
            }
        }
    }
}

/// `input` with the settings of a remedy.
fn applied(input: &PlacementInput, remedy: &str) -> PlacementInput {
    let mut to = input.clone();
    for change in remedy.split(", ") {
        if let Some(ranks) = change.strip_suffix(" ranks") {
            let least = *input.memory_bytes.iter().min().unwrap();
            to.memory_bytes.resize(ranks.parse().unwrap(), least);
            continue;
        }
        let (key, value) = change.split_once(" = ").unwrap();
        match key {
            "parallel.stages" => to.stages = value.parse().unwrap(),
            "parallel.zero" => to.job.zero = Zero::try_from(value.parse::<u8>().unwrap()).unwrap(),
            "model.recompute" => to.job.passes = Passes::Recomputed,
            "train.micro_batch_sequences" => {
                to.job.micro_batch_sequences = value.parse().unwrap();
            }
            other => panic!("what is {other}?"),
        }
    }
    PlacementInput::new(to.job, to.stages, to.memory_bytes).unwrap()
}

#[test]
fn uneven_memory_gives_uneven_stages() {
    let job = Job { shards: 1, batch_sequences: 4, ..job(dims(9, 64, false)) };
    let need = |stage: usize, layers: usize| {
        RankMemory::of(&job, &Place { stages: 3, stage, layers, data_ranks: 1 }).total()
    };
    let counts = |memory: Vec<u64>| -> Vec<usize> {
        let input = PlacementInput::new(job.clone(), 3, memory).unwrap();
        place(&input).unwrap().stages.iter().map(|range| range.len()).collect()
    };
    assert_eq!(counts(vec![u64::MAX; 3]), [3, 3, 3]);
    assert_eq!(counts(vec![need(0, 1), u64::MAX, u64::MAX]), [1, 4, 4]);
    assert_eq!(counts(vec![u64::MAX, need(1, 2) + 5, need(2, 2)]), [5, 2, 2]);
    // The head costs as much as many blocks: the last stage has few.
    let heavy = Job { dims: dims(9, 40_000, false), ..job.clone() };
    let input = PlacementInput::new(heavy, 3, vec![u64::MAX; 3]).unwrap();
    assert_eq!(place(&input).unwrap().stages, [0..4, 4..8, 8..9]);
}

#[test]
fn the_memory_of_a_stage_is_the_least_of_its_ranks() {
    let job = Job { shards: 2, ..job(dims(4, 64, false)) };
    let place_of = Place { stages: 2, stage: 1, layers: 1, data_ranks: 2 };
    let small = RankMemory::of(&job, &place_of).total();
    let input = PlacementInput::new(job, 2, vec![u64::MAX, u64::MAX, u64::MAX, small]).unwrap();
    let placement = place(&input).unwrap();
    assert_eq!(placement.stages, [0..3, 3..4]);
    assert_eq!(placement.available_bytes, [u64::MAX, small]);
}

#[test]
fn what_does_not_fit_is_refused_with_a_table_and_what_would_help() {
    let mut job = Job { shards: 1, batch_sequences: 8, ..job(preset("1b")) };
    let refuse = |job: &Job, ranks: usize, bytes: u64| {
        let input = PlacementInput::new(job.clone(), 1, vec![bytes; ranks]).unwrap();
        place(&input).unwrap_err()
    };
    let alone = refuse(&job, 1, 8 << 30);
    let text = alone.to_string();
    for word in ["moments (2 x f32)", "too much by", "ranks", "parallel.stages", "every rank needs"]
    {
        assert!(text.contains(word), "no {word} in {text}");
    }
    assert!(alone.table.memory[0].total() > 8 << 30);
    assert!(alone.remedies.iter().all(|remedy| remedy.contains(" ranks")), "{:?}", alone.remedies);
    job.shards = 8;
    let eight = refuse(&job, 8, 9 << 30);
    assert!(eight.remedies.iter().any(|remedy| remedy == "parallel.stages = 2"), "{eight}");
    let nothing = refuse(&job, 1, 1 << 20);
    assert!(
        nothing.remedies.is_empty() && nothing.to_string().contains("make it fit"),
        "{nothing}"
    );
}

#[test]
fn sizes_that_cannot_be_are_refused() {
    for (stages, ranks, word) in [
        (0, 4, "not within 1..=6"),
        (7, 7, "not within 1..=6"),
        (3, 4, "a multiple of 3"),
        (2, 0, "a multiple of 2"),
        (1, 3, "3 ranks do not divide the 8 shards"),
        (2, 32, "16 ranks in each stage do not divide the 8 shards"),
    ] {
        let refused = PlacementInput::new(job(preset("nano")), stages, vec![1 << 40; ranks]);
        let why = refused.unwrap_err();
        assert!(why.contains(word), "{why}");
    }
}

#[test]
fn state_is_what_the_model_has() {
    for tied in [false, true] {
        let mut job = job(dims(6, 4096, tied));
        let bytes = 4 * job.dims.parameters();
        let table = 4 * (job.dims.vocab * job.dims.width) as u64;
        let gradients = bytes + if tied { table } else { 0 };
        let of = |job: &Job, data_ranks: usize| {
            RankMemory::of(job, &Place { data_ranks, ..Place::alone(&job.dims) })
        };
        let one = of(&job, 1);
        assert_eq!((one.weights, one.gradients, one.moments), (bytes, gradients, 2 * bytes));
        assert_eq!((one.tree, one.gathered, one.communication), (3 * gradients, 0, 0));
        assert_eq!(one.checkpoint, 3 * bytes);
        assert_eq!(of(&job, 8).tree, 0);
        let two = Job { zero: Zero::Gradients, ..job.clone() };
        let block = (bytes - 4 * job.dims.width as u64 - table * if tied { 1 } else { 2 }) / 6;
        // Of four shards: trees of three values for the embedding, a block and the head, and a
        // block on its way.
        let head = table + 4 * job.dims.width as u64;
        assert_eq!(of(&two, 2).tree, 3 * (table + block + head) + block);
        // Slices of all ranks together are all, but for whole blocks of 16 KiB.
        let slack = 8 * (6 * 6 + 3) * (16 << 10);
        for (zero, divided) in
            [(Zero::Moments, [1, 1, 8]), (Zero::Gradients, [1, 8, 8]), (Zero::Weights, [8, 8, 8])]
        {
            job.zero = zero;
            let eight = of(&job, 8);
            let held = [eight.weights, eight.gradients, eight.moments];
            for ((held, all), parts) in
                held.into_iter().zip([bytes, gradients, 2 * bytes]).zip(divided)
            {
                let sum = held * parts;
                assert!((all..=all + 2 * slack).contains(&sum), "{zero:?}: {sum} of {all}");
            }
        }
    }
}

#[test]
fn rounded_weights_are_those_that_passes_read() {
    for tied in [false, true] {
        let dims = dims(6, 4096, tied);
        let tc = Job { precision: Precision::Tc(TensorCore::Hopper), ..job(dims) };
        let of = |zero: Zero, data_ranks: usize| {
            let job = Job { zero, ..tc.clone() };
            RankMemory::of(&job, &Place { data_ranks, ..Place::alone(&job.dims) })
        };
        let norms = (13 * dims.width) as u64;
        let all = 2 * (dims.parameters() - norms) + 4 * norms;
        for (zero, data_ranks) in [(Zero::Nothing, 1), (Zero::Gradients, 8), (Zero::Weights, 1)] {
            let memory = of(zero, data_ranks);
            assert_eq!((memory.rounded, memory.gathered), (all, 0), "{zero:?}");
        }
        let divided = of(Zero::Weights, 8);
        let blocks = WeightSizes::of(&dims).block.iter().sum::<u128>() as u64;
        let two_blocks = 2 * (2 * (blocks - 2 * dims.width as u64) + 8 * dims.width as u64);
        assert_eq!(divided.rounded, 0);
        assert_eq!(divided.gathered, all - 3 * two_blocks + two_blocks);
        // What goes from stage to stage is half as much.
        let sent = |job: &Job| forecast(job, 2, 2, &MACHINE).traffic[0].pipeline;
        assert_eq!(2 * sent(&tc), sent(&Job { precision: Precision::Bf16, ..tc.clone() }));
    }
}

#[test]
fn activations_are_those_that_a_stage_allocates() {
    let kernels = backend::select(&backend::Config::default()).unwrap();
    let bytes = |tensor: &Tensor| tensor.size_bytes() as u64;
    let of_block = |acts: &BlockActivations| {
        let BlockActivations { attn_norm, attn_rstd, qkv, heads, lse, .. } = acts;
        let BlockActivations { ffn_norm, ffn_rstd, ffn_in, swiglu, .. } = acts;
        [attn_norm, attn_rstd, qkv, heads, lse, ffn_norm, ffn_rstd, ffn_in, swiglu]
            .map(bytes)
            .iter()
            .sum::<u64>()
    };
    let all = |tensors: &[Tensor]| tensors.iter().map(bytes).sum::<u64>();
    for (nth, passes) in
        [Passes::Stored, Passes::Recomputed, Passes::Forward].repeat(2).into_iter().enumerate()
    {
        let precision = if nth < 3 { Precision::Bf16 } else { Precision::Tc(TensorCore::Hopper) };
        for (stages, stage, layers) in [(1, 0, 0..3), (2, 0, 0..2), (2, 1, 2..3)] {
            let job = Job {
                passes,
                precision,
                micro_batch_sequences: 2,
                batch_sequences: 2,
                shards: 1,
                ..job(dims(3, 40_000, false))
            };
            let (sequences, seq_len) = (job.micro_batch_sequences, job.seq_len);
            let extent = Extent { sequences, seq_len, layers: layers.clone(), passes, precision };
            let slot = Slot::new(kernels.as_ref(), &job.dims, &extent).unwrap();
            let shared = Scratch::new(kernels.as_ref(), &job.dims, &extent).unwrap();
            let mut kept = [&slot.tokens, &slot.targets, &slot.losses].map(bytes).iter().sum();
            kept += all(&slot.streams) + all(&slot.mids) + all(&shared.mids);
            kept += slot.blocks.iter().chain(&shared.blocks).map(of_block).sum::<u64>();
            kept += bytes(&shared.branch);
            let mut logits = 0;
            if let Some(head) = &shared.head {
                kept += bytes(&head.final_norm) + bytes(&head.final_rstd);
                logits = bytes(&head.logits);
            }
            let gradients = shared.backward.as_ref().map_or(0, |b| {
                let all = [&b.dnorm, &b.dqkv, &b.dheads, &b.dffn_in, &b.dswiglu];
                all.map(bytes).iter().sum()
            });
            let layers = layers.len();
            let need = RankMemory::of(&job, &Place { stages, stage, layers, data_ranks: 1 });
            let predicted = (need.activations, need.logits, need.scratch);
            assert_eq!(predicted, (kept, logits, gradients), "{passes:?} {stage} of {stages}");
        }
    }
}

#[test]
fn generation_needs_weights_and_keys_and_values() {
    let dims = dims(6, 4096, false);
    let need = RankMemory::of_generation(&dims, Precision::F32, 256);
    assert_eq!(need.weights, 4 * dims.parameters());
    // A layer more keeps its keys and values, and nothing else.
    let deeper = RankMemory::of_generation(&Dims { layers: 7, ..dims }, Precision::F32, 256);
    let kept = 4 * 256 * (2 * dims.kv_heads * dims.head_dim) as u64;
    assert_eq!(deeper.activations - need.activations, kept);
    assert_eq!((need.gradients, need.moments, need.tree, need.checkpoint), (0, 0, 0, 0));
}

#[test]
fn ranks_of_a_host_share_what_it_has_left() {
    let memory_of = |gib: &[f64], devices: [Option<&'static str>; 4]| {
        let config = Config { memory_gib: gib.to_vec(), stages: 2, ..Config::default() };
        let ranks = collective::threads(4).into_iter().zip(devices).map(|(world, device)| {
            let config = config.clone();
            let memory = |place: &str| DeviceMemory { place: place.into(), free_bytes: 80 << 30 };
            let device = device.map(memory);
            std::thread::spawn(move || {
                memory_of_ranks(world.as_ref(), &config, device.as_ref()).unwrap()
            })
        });
        let ranks: Vec<_> = ranks.collect();
        let all: Vec<_> = ranks.into_iter().map(|rank| rank.join().unwrap()).collect();
        assert!(all.iter().all(|memory| *memory == all[0] && memory.len() == 4), "{all:?}");
        all[0].clone()
    };
    assert_eq!(memory_of(&[1.5], [None; 4]), [3 << 29; 4]);
    assert_eq!(memory_of(&[1.0, 2.0], [None; 4]), [1 << 30, 1 << 30, 2 << 30, 2 << 30]);
    let measured = memory_of(&[], [None; 4]);
    assert!(measured.iter().all(|&bytes| bytes == measured[0] && bytes > 1 << 20));
    // A GPU of one's own, and one that two ranks share.
    let gpus = [Some("0000:1b:00.0"), Some("0000:3d:00.0"), Some("0000:3d:00.0"), None];
    let measured = memory_of(&[], gpus);
    assert_eq!(measured[..3], [80 << 30, 40 << 30, 40 << 30]);
}

#[test]
fn micro_batches_under_way_are_those_of_the_schedule() {
    let slots = |zero: Zero, stages: usize, stage: usize, data_ranks: usize| {
        let job = Job { zero, ..job(dims(6, 64, false)) };
        job.slots(&Place { stages, stage, layers: 1, data_ranks })
    };
    assert_eq!(slots(Zero::Moments, 1, 0, 2), 1);
    assert_eq!(slots(Zero::Gradients, 1, 0, 2), 8);
    assert_eq!(slots(Zero::Weights, 1, 0, 8), 2);
    assert_eq!([0, 1, 2].map(|stage| slots(Zero::Moments, 3, stage, 1)), [3, 2, 1]);
    assert_eq!([0, 1, 2].map(|stage| slots(Zero::Gradients, 3, stage, 1)), [16, 16, 16]);
    // Never more than there are.
    assert_eq!(slots(Zero::Moments, 6, 0, 8), 2);
}

#[test]
fn extents_of_any_size_overflow_nothing() {
    let most = Some(1 << 20);
    let model = model::Config {
        width: most,
        layers: most,
        heads: Some(1 << 10),
        kv_heads: Some(1 << 10),
        head_dim: Some(1 << 10),
        ffn: most,
        vocab: most,
        ..Default::default()
    };
    let huge = Job {
        dims: model.dims().unwrap(),
        batch_sequences: 1 << 20,
        micro_batch_sequences: 1 << 20,
        seq_len: 1 << 20,
        shards: 1,
        zero: Zero::Gradients,
        passes: Passes::Stored,
        precision: Precision::F32,
    };
    assert_eq!(RankMemory::of(&huge, &Place::alone(&huge.dims)).total(), u64::MAX);
    assert!(StageCosts::of(&huge).stage(0, 1, 1 << 20) > 1 << 64);
}

const MACHINE: Machine = Machine {
    flops_per_s: 1e14,
    memory_bytes_per_s: 1e12,
    network_bytes_per_s: 1e10,
    host_bytes_per_s: 1e11,
    latency_s: 0.0,
    host_ranks: 4,
};

fn forecast(job: &Job, stages: usize, ranks: usize, machine: &Machine) -> Forecast {
    let input = PlacementInput::new(job.clone(), stages, vec![u64::MAX; ranks]).unwrap();
    Forecast::of(&input, &place(&input).unwrap(), machine)
}

#[test]
fn flops_are_those_of_the_model() {
    let job = job(preset("tiny"));
    let costs = StageCosts::of(&job);
    let look_up = 2 * job.dims.width as u128;
    let strict = u128::from(job.dims.flops_per_token_strict(job.seq_len));
    assert_eq!(costs.stage(0, 1, job.dims.layers), strict + look_up);
    let again = StageCosts::of(&Job { passes: Passes::Recomputed, ..job.clone() });
    assert_eq!((3 * again.block, again.head), (4 * costs.block, costs.head));
    let one = forecast(&job, 1, 1, &MACHINE);
    let tokens = (job.batch_sequences * job.seq_len) as f64;
    let want = tokens * (strict + look_up) as f64 / MACHINE.flops_per_s;
    assert!((one.compute_s / want - 1.0).abs() < 1e-9);
    assert_eq!((one.bubble.abs() < 1e-9, one.exposed_s, one.exchange_s), (true, 0.0, 0.0));
}

#[test]
fn an_even_pipeline_has_the_bubble_of_the_books() {
    // One token of vocabulary: neither embedding nor head count, so all stages are alike.
    let mut job = Job { shards: 1, ..job(dims(8, 1, false)) };
    let machine = Machine { network_bytes_per_s: 1e30, host_bytes_per_s: 1e30, ..MACHINE };
    for micro in [1, 2, 4] {
        job.micro_batch_sequences = micro;
        for stages in [1, 2, 4, 8] {
            let (m, p) = (job.micro_batches(1) as f64, stages as f64);
            let got = forecast(&job, stages, stages, &machine).bubble;
            let want = (p - 1.0) / (m + p - 1.0);
            assert!((got - want).abs() < 1e-3, "{stages} stages, {m}: {got}, not {want}");
        }
    }
}

#[test]
fn layer_by_layer_stages_hardly_overlap() {
    let job = Job { shards: 1, ..job(dims(8, 1, false)) };
    let machine = Machine { network_bytes_per_s: 1e30, host_bytes_per_s: 1e30, ..MACHINE };
    let of = |zero| forecast(&Job { zero, ..job.clone() }, 2, 2, &machine);
    let (depth, breadth) = (of(Zero::Moments), of(Zero::Gradients));
    // Four layers a stage: the first three of the first stage keep the second one waiting.
    let (m, t) = (16.0, depth.micro_batch_s[0]);
    assert!((depth.compute_s / ((m + 1.0) * t) - 1.0).abs() < 1e-3);
    assert!((breadth.compute_s / ((m * 1.75 + 0.25) * t) - 1.0).abs() < 1e-3);
    assert!(breadth.bubble > depth.bubble);
}

#[test]
fn bytes_are_those_of_recursive_halving() {
    let mut job = job(dims(6, 4096, false));
    let all = 4 * job.dims.parameters();
    let sent =
        |job: &Job, stages: usize, ranks: usize| forecast(job, stages, ranks, &MACHINE).traffic;
    let tables = 4 * (2 * job.dims.vocab + 1) as u64 * job.dims.width as u64;
    // Without the weights at hand, blocks are gathered for forward and for backward.
    for (zero, gathered) in [(0, all), (1, all), (2, all), (3, 2 * all - tables)] {
        job.zero = Zero::ALL[zero];
        let traffic = sent(&job, 1, 8)[0];
        assert_eq!(traffic.reduce_scatter, all / 8 * 7);
        assert_eq!(traffic.all_gather, gathered / 8 * 7);
        assert_eq!(traffic.pipeline, 0);
    }
    job.zero = Zero::Moments;
    let stream = 4 * (job.rows() as u64) * job.dims.width as u64 * job.micro_batches(2) as u64;
    let traffic = sent(&job, 3, 6);
    assert_eq!([0, 1, 2].map(|s: usize| traffic[s].pipeline), [stream, 2 * stream, stream]);
    assert_eq!(traffic.iter().map(|t| t.reduce_scatter).sum::<u64>(), all / 2);
    // Four ranks of a host exchange inside it first: 3/4 of the bytes; the rest crosses.
    let seconds = forecast(&job, 1, 8, &MACHINE).exchange_s;
    let want = 2.0 * all as f64 * (0.75 / 1e11 + 0.125 / 1e10);
    assert!((seconds / want - 1.0).abs() < 1e-9, "{seconds}, not {want}");
}

#[test]
fn the_fastest_is_at_least_as_fast_as_any() {
    let job = Job { shards: 16, ..job(preset("350m")) };
    let memory = vec![6u64 << 30; 16];
    let (stages, zeros) = ([1, 2, 4, 8, 16], Zero::ALL);
    let best = fastest(&job, &memory, &stages, &zeros, &MACHINE).unwrap();
    for stages in stages {
        for zero in zeros {
            let job = Job { zero, ..job.clone() };
            let input = PlacementInput::new(job, stages, memory.clone()).unwrap();
            if let Ok(placement) = place(&input) {
                let step_s = Forecast::of(&input, &placement, &MACHINE).step_s;
                assert!(best.forecast.step_s <= step_s, "{stages} {zero:?}");
            }
        }
    }
    assert!(fastest(&job, &[1 << 20; 16], &stages, &zeros, &MACHINE).is_err());
}
