//! Runs on a device whose memory is not the host's: the same files and hashes as on the CPU.

mod fake_device;
mod run_metrics;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fake_device::{FakeDevice, Linked};
use neuroshard::backend::cpu::{Cpu, Level};
use neuroshard::checkpoint;
use neuroshard::collective;
use neuroshard::collective::Communicator;
use neuroshard::config::RunConfig;
use neuroshard::crypto::Hash;
use neuroshard::data::{Dataset, Loader};
use neuroshard::model::Session;
use neuroshard::ops::Kernels;
use neuroshard::shard;
use neuroshard::shard::Mesh;
use neuroshard::train;
use neuroshard::train::{Error, Outcome, Plan, RunFolder, Setup, Silent, Start, Stop};
use run_metrics::metrics;

/// A model that trains in milliseconds; its tables have several blocks and subtrees of a
/// hash, so that slices cut them.
const MICRO: &str = r#"
[model]
width = 48
layers = 2
heads = 3
kv_heads = 1
ffn = 72
vocab = 1500
[train]
steps = 4
seq_len = 10
batch_sequences = 8
micro_batch_sequences = 1
eval_every = 2
eval_sequences = 3
checkpoint_every = 2
[parallel]
shards = 4
[optim]
lr = 3e-3
warmup_steps = 2
"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    Host,
    Fake,
    /// Fake ones that exchange among themselves.
    Linked,
}

fn kernels(device: Device) -> Arc<dyn Kernels> {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    match device {
        Device::Host => Arc::new(cpu),
        Device::Fake | Device::Linked => Arc::new(FakeDevice(cpu)),
    }
}

/// One rank's part of a run in `dir`, with `sets` over the micro configuration.
fn run_rank(
    world: Arc<dyn Communicator>,
    device: Device,
    (dir, sets): (&Path, &[&str]),
    start: Start,
) -> Result<Outcome, Error> {
    let mut all = vec![format!("run.dir={}", dir.display())];
    all.extend(sets.iter().map(|s| (*s).to_string()));
    let config = RunConfig::from_text("micro", MICRO, &all).unwrap_or_else(|e| panic!("{e}"));
    let dataset = Arc::new(Dataset::open(&config.data, 1500).unwrap());
    let plan = Plan::new(&config.parts(), dataset.hash()).unwrap();
    let (seq_len, batch) = (plan.train.seq_len, plan.train.batch_sequences);
    let loader = Loader::new(dataset, plan.seed, seq_len, batch).unwrap();
    let mesh = Mesh::new(world, plan.parallel.stages, plan.parallel.shards).unwrap();
    let kernels = kernels(device);
    let linked = (device == Device::Linked && mesh.data().size() > 1)
        .then(|| Linked::over(mesh.data().as_ref(), kernels.clone()));
    let mesh = mesh.with_devices(linked.clone().map(|linked| linked as Arc<_>));
    let layers = shard::even_stages(plan.dims.layers, mesh.stages()).swap_remove(mesh.stage());
    let setup = Setup {
        plan: &plan,
        kernels,
        mesh,
        layers,
        loader: &loader,
        folder: RunFolder::at(dir),
        config: config.to_toml().unwrap(),
        metrics: config.metrics.clone(),
        attachments: Vec::new(),
        start,
        peak_flops: None,
        stop: Stop::never(),
        deadline: None,
    };
    let outcome = train::run(setup, &mut Silent)?;
    if let Some(linked) = linked {
        assert!(linked.calls.load(Ordering::Relaxed) > 0, "the devices were not asked");
    }
    Ok(outcome)
}

fn run(ranks: usize, device: Device, dir: &Path, sets: &[&str], start: Start) -> Vec<Outcome> {
    std::thread::scope(|scope| {
        let spawn = |world| scope.spawn(move || run_rank(world, device, (dir, sets), start));
        let ranks: Vec<_> = collective::threads(ranks).into_iter().map(spawn).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap().unwrap()).collect()
    })
}

/// The hash that all ranks report.
fn hash(outcomes: &[Outcome]) -> Hash {
    assert!(outcomes.iter().all(|o| o.state_hash == outcomes[0].state_hash));
    outcomes[0].state_hash
}

/// Trains on both, saves and resumes on the device, on several meshes; all leave the same behind.
fn check(profile: &str) {
    let temp = tempfile::tempdir().unwrap();
    let host = temp.path().join("host");
    let want = hash(&run(1, Device::Host, &host, &[profile], Start::Anew));
    for (ranks, sets) in [
        (1, &["model.recompute=true"][..]),
        (2, &["parallel.zero=0", "parallel.compare_every=1"]),
        (2, &["parallel.zero=1"]),
        (4, &["parallel.zero=2"]),
        (2, &["parallel.zero=3"]),
        (2, &["parallel.stages=2"]),
        (4, &["parallel.stages=2", "parallel.zero=3"]),
    ] {
        let dir = temp.path().join(format!("{ranks} {}", sets.join(" ")));
        let sets = [&[profile], sets].concat();
        let first = [&sets[..], &["train.stop_after=2"]].concat();
        run(ranks, Device::Fake, &dir, &first, Start::Anew);
        assert_eq!(hash(&run(ranks, Device::Fake, &dir, &sets, Start::Resume)), want, "{sets:?}");
        assert_eq!(metrics(&dir), metrics(&host), "{sets:?}");
        let saved =
            |dir: &Path| checkpoint::Saved::open(&dir.join("checkpoints/00000004")).unwrap();
        assert_eq!(saved(&dir).manifest().state_hash, saved(&host).manifest().state_hash);
    }
}

#[test]
fn f32_on_a_device_leaves_the_hosts_files() {
    check("numerics.profile=f32");
}

#[test]
fn bf16_on_a_device_leaves_the_hosts_files() {
    check("numerics.profile=bf16");
}

#[test]
fn tc_on_a_device_leaves_the_hosts_files() {
    check("numerics.profile=tc");
}

#[test]
fn models_tied_over_stages_train_on_a_device() {
    let temp = tempfile::tempdir().unwrap();
    let (host, dir) = (temp.path().join("host"), temp.path().join("device"));
    for profile in ["numerics.profile=bf16", "numerics.profile=tc"] {
        let (host, dir) = (host.join(profile), dir.join(profile));
        let want = hash(&run(1, Device::Host, &host, &["model.tied=true", profile], Start::Anew));
        let sets = ["model.tied=true", "parallel.stages=2", "parallel.zero=1", profile];
        assert_eq!(hash(&run(4, Device::Fake, &dir, &sets, Start::Anew)), want);
    }
}

#[test]
fn devices_that_exchange_among_themselves_leave_the_hosts_files() {
    let temp = tempfile::tempdir().unwrap();
    for profile in ["numerics.profile=bf16", "numerics.profile=f32"] {
        let host = temp.path().join(profile);
        let want = hash(&run(1, Device::Host, &host, &[profile], Start::Anew));
        for (ranks, sets) in [
            (2, &["parallel.zero=0", "parallel.compare_every=1"][..]),
            (4, &["parallel.zero=1", "model.tied=false"]),
            (2, &["parallel.zero=2"]),
            (4, &["parallel.zero=3"]),
            (4, &["parallel.stages=2", "parallel.zero=1"]),
        ] {
            let dir = temp.path().join(format!("{profile} {ranks} {}", sets.join(" ")));
            let sets = [&[profile], sets].concat();
            let got = hash(&run(ranks, Device::Linked, &dir, &sets, Start::Anew));
            assert_eq!(got, want, "{sets:?}");
            assert_eq!(metrics(&dir), metrics(&host), "{sets:?}");
        }
    }
}

#[test]
fn a_model_on_a_device_gives_the_hosts_logits() {
    let temp = tempfile::tempdir().unwrap();
    let logits = |device: Device, dir: &str, profile: &str| {
        let dir = temp.path().join(dir).join(profile);
        let outcome = run(1, device, &dir, &[profile], Start::Anew).remove(0);
        let kernels = outcome.trainer.kernels();
        let model = outcome.trainer.model().unwrap().unwrap();
        let tokens = [7, 199, 0, 3, 50];
        let whole = model.logits(kernels, &tokens).unwrap();
        let mut session = Session::new(kernels, &model, tokens.len()).unwrap();
        let last = session.feed(&tokens).unwrap();
        [whole, last].concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>()
    };
    for profile in ["numerics.profile=bf16", "numerics.profile=tc"] {
        let want = logits(Device::Host, "host", profile);
        assert_eq!(logits(Device::Fake, "fake", profile), want, "{profile}");
    }
}

/// What is no number is found on the device too.
#[test]
fn a_value_that_is_no_number_is_located_on_a_device() {
    let temp = tempfile::tempdir().unwrap();
    let sets = ["optim.lr=1e30", "optim.warmup_steps=0"];
    let place = |device: Device, dir: &str| {
        let dir = temp.path().join(dir);
        let world = collective::single();
        run_rank(world, device, (&dir, &sets), Start::Anew).unwrap_err().to_string()
    };
    let want = place(Device::Host, "host");
    assert!(want.contains("layer") || want.contains("blocks"), "{want}");
    assert_eq!(place(Device::Fake, "fake"), want);
}
