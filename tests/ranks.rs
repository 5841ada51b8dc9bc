//! Whole runs on many ranks: the same bits and files as on one, whatever stops them.

mod run_metrics;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use neuroshard::backend;
use neuroshard::checkpoint;
use neuroshard::collective;
use neuroshard::collective::Communicator;
use neuroshard::config::RunConfig;
use neuroshard::crypto::Hash;
use neuroshard::data::{Dataset, Loader};
use neuroshard::shard;
use neuroshard::shard::Mesh;
use neuroshard::train;
use neuroshard::train::{Ending, Error, Outcome, Plan};
use neuroshard::train::{RunFolder, Setup, Silent, Start, Stop};
use run_metrics::metrics;

/// A model that trains in milliseconds, with no round extents; eight sequences a step.
const MICRO: &str = r#"
[model]
width = 48
layers = 3
heads = 3
kv_heads = 1
ffn = 72
vocab = 64
[device]
level = "portable"
threads = 1
[train]
steps = 8
seq_len = 18
batch_sequences = 16
micro_batch_sequences = 2
eval_every = 3
eval_sequences = 5
checkpoint_every = 4
[optim]
lr = 3e-3
warmup_steps = 4
"#;

/// One rank's part of a run in `dir`, with `sets` over the micro configuration.
fn run_rank(
    world: Arc<dyn Communicator>,
    dir: &Path,
    sets: &[&str],
    start: Start,
    (stop, deadline): (Stop, Option<Instant>),
) -> Result<Outcome, Error> {
    let mut all = vec![format!("run.dir={}", dir.display())];
    all.extend(sets.iter().map(|s| (*s).to_string()));
    let config = RunConfig::from_text("micro", MICRO, &all).unwrap_or_else(|e| panic!("{e}"));
    let dataset = Arc::new(Dataset::open(&config.data, 64).unwrap());
    let plan = Plan::new(&config.parts(), dataset.hash()).unwrap();
    let (seq_len, batch) = (plan.train.seq_len, plan.train.batch_sequences);
    let loader = Loader::new(dataset, plan.seed, seq_len, batch).unwrap();
    let mesh = Mesh::new(world, plan.parallel.stages, plan.parallel.shards)?;
    let layers = shard::even_stages(plan.dims.layers, mesh.stages()).swap_remove(mesh.stage());
    let setup = Setup {
        plan: &plan,
        kernels: backend::select(&config.device).unwrap(),
        mesh,
        layers,
        loader: &loader,
        folder: RunFolder::at(dir),
        config: config.to_toml().unwrap(),
        metrics: config.metrics.clone(),
        attachments: Vec::new(),
        start,
        peak_flops: None,
        stop,
        deadline,
    };
    train::run(setup, &mut Silent)
}

/// Runs `ranks` ranks as threads; the stop and deadline of each from `ending`.
fn run_with(
    ranks: usize,
    dir: &Path,
    sets: &[&str],
    start: Start,
    ending: impl Fn(usize) -> (Stop, Option<Instant>),
) -> Vec<Result<Outcome, Error>> {
    std::thread::scope(|scope| {
        let worlds = collective::threads(ranks).into_iter().enumerate();
        let ranks: Vec<_> = worlds
            .map(|(rank, world)| {
                let ending = ending(rank);
                scope.spawn(move || run_rank(world, dir, sets, start, ending))
            })
            .collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn run(ranks: usize, dir: &Path, sets: &[&str], start: Start) -> Vec<Outcome> {
    let outcomes = run_with(ranks, dir, sets, start, |_| (Stop::never(), None));
    outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|e| panic!("{e}"))).collect()
}

/// The hash that all ranks report.
fn hash(outcomes: &[Outcome]) -> Hash {
    assert!(outcomes.iter().all(|o| o.state_hash == outcomes[0].state_hash));
    outcomes[0].state_hash
}

#[test]
fn ranks_leave_no_trace_in_what_a_run_leaves_behind() {
    let temp = tempfile::tempdir().unwrap();
    let one = temp.path().join("one");
    let want = hash(&run(1, &one, &[], Start::Anew));
    let file = |dir: &Path, name: &str| fs::read(dir.join("checkpoints/00000008").join(name));
    for (ranks, sets) in [
        (2, &["parallel.zero=0"][..]),
        (4, &["parallel.zero=1"]),
        (8, &["parallel.zero=1", "train.micro_batch_sequences=1"]),
        (4, &["parallel.zero=2", "model.recompute=true"]),
        (2, &["parallel.zero=3"]),
        (3, &["parallel.stages=3"]),
        (4, &["parallel.stages=2"]),
    ] {
        let dir = temp.path().join(format!("{ranks} {}", sets.join(" ")));
        assert_eq!(hash(&run(ranks, &dir, sets, Start::Anew)), want, "{ranks} {sets:?}");
        assert_eq!(metrics(&dir), metrics(&one), "{ranks} {sets:?}");
        for name in ["weights.safetensors", "optimizer.safetensors"] {
            assert!(file(&dir, name).unwrap() == file(&one, name).unwrap(), "{ranks} {sets:?}");
        }
    }
}

#[test]
fn another_number_of_ranks_resumes_to_the_bit() {
    for profile in ["numerics.profile=bf16", "numerics.profile=tc"] {
        let temp = tempfile::tempdir().unwrap();
        let want = hash(&run(1, &temp.path().join("one"), &[profile], Start::Anew));
        let dir = temp.path().join("many");
        run(4, &dir, &[profile, "train.stop_after=3"], Start::Anew);
        run(1, &dir, &[profile, "train.stop_after=5"], Start::Resume);
        run(2, &dir, &[profile, "train.stop_after=6", "parallel.zero=3"], Start::Resume);
        run(6, &dir, &[profile, "train.stop_after=7", "parallel.stages=3"], Start::Resume);
        assert_eq!(hash(&run(8, &dir, &[profile], Start::Resume)), want);
        assert_eq!(checkpoint::list(&dir.join("checkpoints")).unwrap(), [6, 7, 8]);
    }
}

#[test]
fn a_wish_of_any_rank_stops_all_within_a_step() {
    let temp = tempfile::tempdir().unwrap();
    for asker in 0..4 {
        let dir = temp.path().join(asker.to_string());
        let ending = |rank: usize| {
            let stop = Stop::never();
            if rank == asker {
                stop.ask();
            }
            (stop, None)
        };
        for outcome in run_with(4, &dir, &[], Start::Anew, ending) {
            let outcome = outcome.unwrap();
            assert_eq!(outcome.ending, Ending::Stopped { votes: 1 });
            assert_eq!(outcome.trainer.done(), 1);
        }
        assert_eq!(checkpoint::list(&dir.join("checkpoints")).unwrap(), [1]);
    }
}

#[test]
fn the_wall_clock_of_any_rank_stops_all() {
    let temp = tempfile::tempdir().unwrap();
    let soon = Instant::now() + Duration::from_millis(10);
    let ending = |rank: usize| (Stop::never(), (rank == 1).then_some(soon));
    for outcome in run_with(2, temp.path(), &["train.steps=100000"], Start::Anew, ending) {
        let Ending::Stopped { votes } = outcome.unwrap().ending else { panic!("not stopped") };
        assert_eq!(train::reasons(votes), "the wall clock");
    }
    assert_eq!(checkpoint::list(&temp.path().join("checkpoints")).unwrap().len(), 1);
}

#[test]
fn ranks_that_do_not_fit_are_refused_alike() {
    let temp = tempfile::tempdir().unwrap();
    for (ranks, sets, words) in [
        (3, &[][..], ["3 ranks", "8 shards"]),
        (3, &["parallel.stages=2"], ["3 ranks", "2 stages"]),
        (4, &["parallel.shards=2"], ["4 ranks", "2 shards"]),
    ] {
        let never = |_| (Stop::never(), None);
        for outcome in run_with(ranks, temp.path(), sets, Start::Anew, never) {
            let text = outcome.unwrap_err().to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
        }
    }
    assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn a_failure_of_one_is_told_once() {
    let outcomes = std::thread::scope(|scope| {
        let ranks = collective::threads(4).into_iter().map(|world| {
            scope.spawn(move || {
                let mine = match world.rank() {
                    0 | 1 => Ok(world.rank()),
                    _ => Err(Error::Taken { path: format!("rank-{}", world.rank()).into() }),
                };
                train::agree(world.as_ref(), mine)
            })
        });
        ranks.collect::<Vec<_>>().into_iter().map(|r| r.join().unwrap()).collect::<Vec<_>>()
    });
    for (rank, outcome) in outcomes.into_iter().enumerate() {
        match outcome.unwrap_err() {
            Error::Shared(error) => {
                assert!(rank == 2 && error.to_string().contains("rank-2"), "{error}");
            }
            Error::Elsewhere { rank: 2, what } => {
                assert!(rank != 2 && what.contains("rank-2"), "{what}");
            }
            other => panic!("{other}"),
        }
    }
}

#[test]
fn the_odd_rank_is_named() {
    for (odd, others) in [(0, "3 others"), (2, "3 others")] {
        std::thread::scope(|scope| {
            for world in collective::threads(4) {
                scope.spawn(move || {
                    let value = [u8::from(world.rank() == odd); 32];
                    let error = train::same(world.as_ref(), "another hat", &value).unwrap_err();
                    let text = error.to_string();
                    let want = format!("rank {odd} has another hat than the {others}");
                    assert_eq!(text, want);
                });
            }
        });
    }
}

#[test]
fn a_rank_whose_weights_differ_is_named_before_they_are_saved() {
    let temp = tempfile::tempdir().unwrap();
    let sets = ["parallel.zero=0", "parallel.compare_every=2", "train.eval_every=0"];
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let spawn = |world: Arc<dyn Communicator>| {
            // Other initial weights, as if its memory had changed them.
            let seed = if world.rank() == 2 { "run.seed=2" } else { "run.seed=1" };
            let sets = [&sets[..], &[seed]].concat();
            let dir = temp.path();
            scope.spawn(move || run_rank(world, dir, &sets, Start::Anew, (Stop::never(), None)))
        };
        let ranks: Vec<_> = collective::threads(4).into_iter().map(spawn).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    for outcome in outcomes {
        let text = outcome.unwrap_err().to_string();
        assert!(text.starts_with("rank 2 has other weights"), "{text}");
        assert!(text.contains("3 others"), "{text}");
    }
    assert_eq!(checkpoint::list(&temp.path().join("checkpoints")).unwrap().len(), 0);
}
