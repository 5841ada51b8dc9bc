//! One training on any mesh of ranks: the same bits.
//!
//! Ranks are threads of this process, each with kernels of its own.

use std::ops::Range;
use std::sync::Arc;
use std::thread;

use neuroshard::backend;
use neuroshard::collective;
use neuroshard::config::RunConfig;
use neuroshard::crypto::Hash;
use neuroshard::data::{Batch, Dataset, Loader};
use neuroshard::model;
use neuroshard::model::{Activations, Gradients, NeuroLlm, Params, Passes};
use neuroshard::ops::{Precision, norm};
use neuroshard::shard::{Mesh, even_stages};
use neuroshard::train::{Error, Plan, StepOutcome, Trainer};

/// A model that trains in milliseconds, with no round extents; its tables have several blocks of
/// 4,096 elements, so that slices cut them.
const MICRO: &str = r#"
[model]
width = 48
layers = 3
heads = 3
kv_heads = 1
ffn = 160
vocab = 400
[device]
level = "portable"
threads = 1
[train]
steps = 8
seq_len = 10
batch_sequences = 16
micro_batch_sequences = 1
[optim]
lr = 3e-3
warmup_steps = 2
"#;

/// A mesh, and settings over the micro configuration.
#[derive(Clone, Debug)]
struct Case {
    data_ranks: usize,
    stages: Vec<Range<usize>>,
    sets: Vec<String>,
}

fn case(data_ranks: usize, stages: usize, sets: &[&str]) -> Case {
    let sets = sets.iter().map(|s| (*s).to_owned()).collect();
    Case { data_ranks, stages: even_stages(3, stages), sets }
}

/// What a rank tells at its end.
struct Told {
    outcomes: Vec<StepOutcome>,
    heldout: Vec<f32>,
    state: Hash,
    replica: Option<Hash>,
}

fn plan_of(case: &Case) -> (RunConfig, Plan, Loader) {
    let stages = format!("parallel.stages={}", case.stages.len());
    let sets: Vec<String> = case.sets.iter().cloned().chain([stages]).collect();
    let config = RunConfig::from_text("micro", MICRO, &sets).unwrap_or_else(|e| panic!("{e}"));
    let vocab = config.model.dims().unwrap().vocab;
    let dataset = Arc::new(Dataset::open(&config.data, vocab).unwrap());
    let plan = Plan::new(&config.parts(), dataset.hash()).unwrap();
    let (seq_len, batch) = (plan.train.seq_len, plan.train.batch_sequences);
    let loader = Loader::new(dataset, plan.seed, seq_len, batch).unwrap();
    (config, plan, loader)
}

/// Runs `body` on every rank of the mesh, with its trainer; results in the order of world ranks.
fn on_mesh<R: Send>(
    case: &Case,
    body: impl Fn(&mut Trainer, &Mesh, &Loader) -> R + Sync,
) -> Vec<R> {
    let (config, plan, loader) = plan_of(case);
    let world = collective::threads(case.data_ranks * case.stages.len());
    thread::scope(|scope| {
        let start = |comm| {
            scope.spawn(|| {
                let kernels = backend::select(&config.device).unwrap();
                let mesh = Mesh::new(comm, case.stages.len(), plan.parallel.shards).unwrap();
                let layers = case.stages[mesh.stage()].clone();
                let mut trainer = Trainer::new(kernels, &plan, &mesh, layers).unwrap();
                body(&mut trainer, &mesh, &loader)
            })
        };
        let ranks: Vec<_> = world.into_iter().map(start).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn batch_of(trainer: &Trainer, loader: &Loader) -> Batch {
    let mine = trainer.sequences();
    loader.sequences(trainer.done(), mine.start, mine.len()).unwrap()
}

const STEPS: usize = 2;

/// Trains on the mesh; every rank's word, after checks of what all must say alike.
fn train(case: &Case) -> Vec<Told> {
    let told = on_mesh(case, |trainer, mesh, loader| {
        let vote = 1 << mesh.world().rank();
        let step = |_| {
            let batch = batch_of(trainer, loader);
            trainer.step(&batch, vote).unwrap()
        };
        let outcomes: Vec<_> = (0..STEPS).map(step).collect();
        let heldout = trainer.losses(&loader.heldout(2).unwrap()).unwrap();
        let replica = trainer.replica_hash().unwrap();
        Told { outcomes, heldout, state: trainer.state_hash().unwrap(), replica }
    });
    let everybody = (1u64 << told.len()) - 1;
    for rank in &told {
        assert_eq!(rank.state, told[0].state, "{case:?}");
        for (mine, theirs) in rank.outcomes.iter().zip(&told[0].outcomes) {
            assert_eq!(mine.votes, everybody, "{case:?}");
            let bits = |o: &StepOutcome| (o.step, o.loss.to_bits(), o.grad_norm.to_bits());
            assert_eq!(bits(mine), bits(theirs), "{case:?}");
        }
    }
    for stage in told.chunks(case.data_ranks) {
        assert!(stage.iter().all(|rank| rank.replica == stage[0].replica), "{case:?}");
    }
    told
}

/// That `case` gives the state, losses and held-out losses of one rank.
fn assert_same(want: &Told, case: &Case) {
    let got = train(case).remove(0);
    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    for (got, want) in got.outcomes.iter().zip(&want.outcomes) {
        assert_eq!(got.loss.to_bits(), want.loss.to_bits(), "loss, {case:?}");
        assert_eq!(got.grad_norm.to_bits(), want.grad_norm.to_bits(), "norm, {case:?}");
    }
    assert_eq!(bits(&got.heldout), bits(&want.heldout), "{case:?}");
    assert_eq!(got.state, want.state, "{case:?}");
}

fn one_rank(sets: &[&str]) -> Told {
    train(&case(1, 1, sets)).remove(0)
}

/// Every profile with every kind of head, as two settings.
fn models() -> impl Iterator<Item = [&'static str; 2]> {
    let profiles = ["numerics.profile=f32", "numerics.profile=bf16", TC];
    let heads = ["model.tied=false", "model.tied=true"];
    profiles.into_iter().flat_map(move |profile| heads.map(|head| [profile, head]))
}

const TC: &str = "numerics.profile=tc";

#[test]
fn data_ranks_do_not_show() {
    for (nth, [profile, head]) in models().enumerate() {
        let want = one_rank(&[profile, head]);
        for (zero, ranks) in [(0, 2), (1, 2), (0, 4), (1, 4), (1, 8)] {
            // Eight threads take their time on few cores: not for every model.
            if ranks < 8 || nth % 3 == 0 {
                let zero = format!("parallel.zero={zero}");
                assert_same(&want, &case(ranks, 1, &[profile, head, &zero]));
            }
        }
    }
}

#[test]
fn divided_gradients_and_weights_do_not_show() {
    for (nth, [profile, head]) in models().enumerate() {
        let want = one_rank(&[profile, head]);
        for (zero, ranks) in [(2, 1), (3, 1), (2, 2), (3, 2), (3, 4), (2, 8), (3, 8)] {
            if ranks < 8 || nth % 3 == 0 {
                let zero = format!("parallel.zero={zero}");
                assert_same(&want, &case(ranks, 1, &[profile, head, &zero]));
            }
        }
    }
}

#[test]
fn stages_do_not_show() {
    for (nth, [profile, head]) in models().enumerate() {
        let want = one_rank(&[profile, head]);
        for (ranks, stages) in [(1, 2), (1, 3), (2, 2)] {
            let zero = format!("parallel.zero={}", (nth + ranks) % 2);
            assert_same(&want, &case(ranks, stages, &[profile, head, &zero]));
        }
        let (ranks, zero) = ([2, 1, 4, 2, 2, 4][nth], format!("parallel.zero={}", 2 + nth % 2));
        assert_same(&want, &case(ranks, 2, &[profile, head, &zero]));
        let sets = [profile, head].map(str::to_owned).to_vec();
        let stages = [vec![0..2, 2..3], vec![0..1, 1..3]][nth % 2].clone();
        assert_same(&want, &Case { data_ranks: 2, stages, sets });
    }
}

#[test]
fn micro_batches_threads_levels_and_recompute_do_not_show_on_many_ranks() {
    let want = one_rank(&[]);
    for (ranks, stages) in [(1, 1), (2, 1), (2, 2)] {
        for (zero, sets) in [
            ("parallel.zero=0", &["train.micro_batch_sequences=2"][..]),
            ("parallel.zero=1", &["model.recompute=true"]),
            ("parallel.zero=2", &["device.level=auto", "device.threads=2"]),
            ("parallel.zero=3", &["train.micro_batch_sequences=2", "model.recompute=true"]),
        ] {
            assert_same(&want, &case(ranks, stages, &[sets, &[zero]].concat()));
        }
    }
}

#[test]
fn threads_levels_and_recompute_do_not_show_in_tc_but_micro_batches_do() {
    let sets = [TC, "train.micro_batch_sequences=2"];
    let want = one_rank(&sets);
    assert_ne!(one_rank(&[TC]).state, want.state, "a sum per micro-batch");
    assert_ne!(one_rank(&[&sets[..], &["numerics.tensor_core=ampere"]].concat()).state, want.state);
    for (ranks, stages, machine) in [
        (1, 1, &["device.level=auto", "device.threads=3"][..]),
        (2, 1, &["model.recompute=true", "parallel.zero=0"]),
        (2, 2, &["model.recompute=true", "device.level=auto", "parallel.zero=2"]),
        (4, 1, &["device.threads=2", "parallel.zero=3"]),
    ] {
        assert_same(&want, &case(ranks, stages, &[&sets[..], machine].concat()));
    }
}

/// Loss and gradient norm of a first step by the definition: a chain per shard, then the tree,
/// level by level.
fn by_definition(sets: &[&str]) -> (f64, f64) {
    let (config, plan, loader) = plan_of(&case(1, 1, sets));
    let kernels = backend::select(&config.device).unwrap();
    let k = kernels.as_ref();
    let (dims, seq_len, precision) = (plan.dims, plan.train.seq_len, plan.precision);
    let params = Params::random(k, &dims, plan.seed).unwrap();
    let model = NeuroLlm::new(k, dims, precision, params, seq_len).unwrap();
    let each = plan.train.batch_sequences / plan.parallel.shards;
    // Where micro-batches do not show, a whole shard at once.
    let at_once = match precision {
        Precision::Tc(_) => plan.train.micro_batch_sequences,
        _ => each,
    };
    let scale = (1.0 / plan.tokens_per_step as f64) as f32;
    let mut level: Vec<(f64, Gradients)> = (0..plan.parallel.shards)
        .map(|shard| {
            let extent = (at_once, seq_len);
            let mut acts = Activations::new(k, &dims, precision, extent, Passes::Stored).unwrap();
            let (mut grads, mut sum) = (model.gradients(k).unwrap(), 0.0);
            for first in (0..each).step_by(at_once) {
                let batch = loader.sequences(0, shard * each + first, at_once).unwrap();
                let batch = model::Batch { tokens: &batch.inputs, targets: &batch.targets };
                model.forward_backward(k, batch, scale, &mut acts, &mut grads).unwrap();
                let losses = acts.losses().host::<f32>();
                sum = losses.iter().fold(sum, |sum, &l| sum + f64::from(l));
            }
            (sum, grads)
        })
        .collect();
    while level.len() > 1 {
        let mut pairs = level.into_iter();
        level = Vec::new();
        while let (Some((loss, mut left)), Some((other, right))) = (pairs.next(), pairs.next()) {
            left.add(k, &right).unwrap();
            level.push((loss + other, left));
        }
    }
    let (loss, mut grads) = level.remove(0);
    grads.finish(k).unwrap();
    let norm = grads
        .params
        .as_ref()
        .into_named()
        .into_iter()
        .fold(0.0, |sum, (_, grad)| norm::sum_squares(k, sum, grad.view()).unwrap());
    (loss / plan.tokens_per_step as f64, norm.sqrt())
}

#[test]
fn a_step_is_a_chain_per_shard_and_the_tree_over_them() {
    for [profile, head] in models() {
        for shards in ["parallel.shards=1", "parallel.shards=2", "parallel.shards=8"] {
            let sets = [profile, head, shards];
            let (loss, norm) = by_definition(&sets);
            let got = &one_rank(&sets).outcomes[0];
            assert_eq!(got.loss.to_bits(), loss.to_bits(), "{sets:?}");
            assert_eq!(got.grad_norm.to_bits(), norm.to_bits(), "{sets:?}");
        }
    }
}

#[test]
fn shards_decide_the_bits_and_ranks_must_divide_them() {
    let hash = |shards: usize, ranks| {
        let shards = format!("parallel.shards={shards}");
        train(&case(ranks, 1, &[&shards])).remove(0).state
    };
    let all: Vec<Hash> = [1, 2, 4, 8, 16].map(|shards| hash(shards, 1)).to_vec();
    let distinct: std::collections::BTreeSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len(), "every number of shards has sums of its own");
    assert_eq!(hash(2, 2), all[1]);
    assert_eq!(hash(16, 4), all[4]);
    let refused = Mesh::new(collective::threads(4).remove(0), 1, 2).unwrap_err().to_string();
    assert!(refused.contains("4 ranks") && refused.contains("2 shards"), "{refused}");
}

#[test]
fn a_value_that_is_no_number_ends_all_ranks_alike() {
    let sets = ["optim.lr=1e30", "optim.warmup_steps=0"];
    let places = |ranks, stages, zero: &str| {
        let case = case(ranks, stages, &[&sets[..], &[zero]].concat());
        on_mesh(&case, |trainer, _, loader| {
            let hash = |t: &mut Trainer| t.state_hash().unwrap();
            loop {
                let before = (trainer.done(), hash(trainer));
                match trainer.step(&batch_of(trainer, loader), 0) {
                    Ok(_) => assert!(trainer.done() < 8, "it never failed"),
                    Err(Error::NonFinite { step, place }) => {
                        assert_eq!(step, before.0 + 1);
                        assert_eq!(hash(trainer), before.1, "weights untouched");
                        return (step, place);
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        })
    };
    let want = places(1, 1, "parallel.zero=1").remove(0);
    assert!(want.1.contains("layer") || want.1.contains("blocks"), "{want:?}");
    for (ranks, stages, zero) in [(2, 1, 3), (4, 1, 1), (1, 3, 1), (2, 2, 3)] {
        for got in places(ranks, stages, &format!("parallel.zero={zero}")) {
            assert_eq!(got, want, "{ranks} x {stages}, zero {zero}");
        }
    }
}

#[test]
fn stages_that_are_no_division_of_the_layers_are_refused() {
    let (config, plan, _) = plan_of(&case(1, 2, &[]));
    for wrong in [[0..1, 2..3], [0..2, 1..3], [0..3, 3..3], [0..2, 2..4]] {
        let world = collective::threads(2);
        let refused = thread::scope(|scope| {
            let ranks: Vec<_> = world
                .into_iter()
                .zip(wrong.clone())
                .map(|(comm, layers)| {
                    scope.spawn(|| {
                        let kernels = backend::select(&config.device).unwrap();
                        let mesh = Mesh::new(comm, 2, plan.parallel.shards).unwrap();
                        Trainer::new(kernels, &plan, &mesh, layers).unwrap_err().to_string()
                    })
                })
                .collect();
            ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Vec<_>>()
        });
        assert!(refused.iter().all(|text| text.contains("3 layers")), "{refused:?}");
    }
}
