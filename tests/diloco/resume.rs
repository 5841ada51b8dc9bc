//! Clusters that stop and go on from disk.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use neuroshard::aggregate::Memory;
use neuroshard::checkpoint;
use neuroshard::codec;
use neuroshard::diloco;
use neuroshard::diloco::{Cluster, Error, Resume};
use neuroshard::shard::Mesh;

use crate::federation::{Federation, Job, averaging};

fn streaming() -> diloco::Config {
    diloco::Config {
        inner_steps: 8,
        lr: Some(0.5),
        momentum: Some(0.6),
        fragments: 2,
        overlap_steps: 3,
        blend: 0.5,
        ..diloco::Config::default()
    }
}

fn load(
    job: &Job,
    outer: &diloco::Config,
    path: &Path,
    peer: u64,
) -> Result<(Cluster, Vec<Memory>), Error> {
    let mesh = Mesh::single(job.plan.parallel.shards);
    let setup = job.setup(outer, peer, 2);
    let resume = Resume {
        kernels: job.kernels.clone(),
        plan: &job.plan,
        mesh: &mesh,
        settings: setup.settings,
        codec: setup.codec,
        job: job.id,
        peer: setup.peer,
    };
    Cluster::load(path, &resume)
}

/// With rules whose aggregate depends on the rounds before.
fn remembering(mut federation: Federation<'_>) -> Federation<'_> {
    use neuroshard::aggregate::{Aggregator, Clip, Config, Mix, Rule};
    let (rule, clip, mix, faulty) = (Rule::CenteredClipping, Clip::None, Mix::None, Some(0));
    let (tau, iterations) = (Some(0.05), 2);
    let config = Config { rule, clip, mix, faulty, tau, iterations, ..Default::default() };
    for rule in federation.rules.iter_mut().flatten() {
        *rule = Aggregator::new(&config).unwrap();
    }
    federation
}

#[test]
fn four_rounds_cut_in_two_are_four_rounds() {
    for profile in ["numerics.profile=f32", "numerics.profile=bf16"] {
        let mut job = Job::new(&[profile]);
        let sparse = codec::Config { kind: codec::Kind::TopK, ..Default::default() };
        // In the middle of a round; with a round sent by one and not by the other; with a fragment
        // sent and not applied.
        for (what, outer, until, sends, in_flight) in [
            ("between rounds", averaging(6), 12, 0, 0),
            ("one has sent", averaging(6), 12, 1, 1),
            ("sparse", averaging(6), 12, 1, 1),
            ("streaming", streaming(), 17, 0, 2),
        ] {
            job.codec = match what {
                "sparse" => sparse.codec().unwrap().into(),
                _ => crate::federation::dense().into(),
            };
            let steps = 4 * outer.inner_steps;
            let mut whole = remembering(Federation::new(&job, &outer, 2));
            whole.run(steps, steps);
            let mut cut = remembering(Federation::new(&job, &outer, 2));
            cut.run(steps, until);
            for _ in 0..sends {
                cut.turn(0, steps);
            }
            let sent = |c: &Cluster| (0..c.fragments()).filter_map(|p| c.update(p)).count();
            assert_eq!(cut.clusters.iter().map(sent).sum::<usize>(), in_flight, "{what}");
            let (temp, states) = (tempfile::tempdir().unwrap(), cut.state_hashes());
            let (mut clusters, mut memories) = (Vec::new(), Vec::new());
            for (peer, cluster) in cut.clusters.iter().enumerate() {
                let dir = temp.path().join(peer.to_string());
                let path = cluster.save(&dir, "# settings", &cut.rules[peer]).unwrap();
                assert_eq!(path, checkpoint::path_of(&dir, cluster.done()));
                let (loaded, remembered) = load(&job, &outer, &path, peer as u64).unwrap();
                let want: Vec<_> = cut.rules[peer].iter().map(|r| r.memory().clone()).collect();
                assert_eq!(remembered, want);
                memories.push(remembered);
                clusters.push(loaded);
            }
            let mut resumed = remembering(Federation::of(&job, clusters));
            for (rule, memory) in resumed.rules.iter_mut().flatten().zip(memories.concat()) {
                rule.set_memory(memory);
            }
            assert_eq!(resumed.state_hashes(), states, "{what}");
            resumed.run(steps, steps);
            assert_eq!(resumed.state_hashes(), whole.state_hashes(), "{profile} {what}");
            // The log is the same too, correlations with rounds before the cut included.
            for (peer, records) in resumed.records.iter().enumerate() {
                assert!(!records.is_empty());
                assert!(whole.records[peer].ends_with(records), "{what}");
            }
        }
    }
}

/// A cluster with a fragment in flight, saved in `dir`.
fn saved(job: &Job, dir: &Path) -> PathBuf {
    let mut federation = Federation::new(job, &streaming(), 2);
    federation.run(32, 17);
    federation.clusters[0].save(dir, "", &federation.rules[0]).unwrap()
}

#[test]
fn saving_again_replaces_and_leaves_nothing_else() {
    let job = Job::new(&[]);
    let temp = tempfile::tempdir().unwrap();
    let mut federation = Federation::new(&job, &streaming(), 2);
    federation.run(32, 17);
    let cluster = &federation.clusters[0];
    fs::create_dir_all(temp.path().join(".unfinished-00000019-cluster/inner")).unwrap();
    let rules = &federation.rules[0];
    let path = cluster.save(temp.path(), "first", rules).unwrap();
    assert_eq!(path, cluster.save(temp.path(), "second", rules).unwrap());
    let names: Vec<_> =
        fs::read_dir(temp.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["00000019"]);
    assert_eq!(checkpoint::list(temp.path()).unwrap(), [19]);
    load(&job, &streaming(), &path, 0).unwrap();
    let inner = checkpoint::Saved::open(&path.join("inner/00000019")).unwrap();
    assert_eq!(inner.manifest().config, "second");
    // Where nothing can be written, what is there stays.
    let blocked = temp.path().join("blocked");
    fs::write(&blocked, "a file").unwrap();
    let refused = cluster.save(&blocked, "", rules).unwrap_err().to_string();
    assert!(refused.contains("blocked"), "{refused}");
}

#[test]
fn damage_names_its_file() {
    let job = Job::new(&[]);
    let temp = tempfile::tempdir().unwrap();
    let path = saved(&job, temp.path());
    let inner = path.join("inner/00000019");
    let describe = |error: Error| {
        let mut text = error.to_string();
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text = format!("{text}: {cause}");
            source = cause.source();
        }
        text
    };
    for file in [
        path.join("outer.safetensors"),
        path.join("outer.json"),
        inner.join("manifest.json"),
        inner.join("weights.safetensors"),
        inner.join("optimizer.safetensors"),
    ] {
        let whole = fs::read(&file).unwrap();
        let len = whole.len();
        let name = file.file_name().unwrap().to_str().unwrap();
        let mut bad: Vec<Vec<u8>> = [0, 1, 9, 100, len / 3, len / 2, len - 7, len - 2]
            .into_iter()
            .map(|at| {
                let mut bytes = whole.clone();
                bytes[at] ^= 4;
                bytes
            })
            .collect();
        bad.extend([whole[..len - 1].to_vec(), whole[..40].to_vec(), vec![]]);
        bad.push([&whole[..], b" "].concat());
        for (i, bytes) in bad.into_iter().enumerate() {
            fs::write(&file, bytes).unwrap();
            let error = load(&job, &streaming(), &path, 0).expect_err(&format!("{name} {i}"));
            let text = describe(error);
            assert!(text.contains(name), "{name} {i}: {text}");
        }
        fs::remove_file(&file).unwrap();
        let text = describe(load(&job, &streaming(), &path, 0).unwrap_err());
        assert!(text.contains("00000019"), "{text}");
        fs::write(&file, whole).unwrap();
    }
    load(&job, &streaming(), &path, 0).unwrap();
}

#[test]
fn files_that_are_whole_but_do_not_fit_are_refused() {
    let job = Job::new(&[]);
    let temp = tempfile::tempdir().unwrap();
    let path = saved(&job, temp.path());
    let refused = |job: &Job, outer: &diloco::Config, peer: u64| {
        let error = load(job, outer, &path, peer).unwrap_err();
        error.to_string()
    };
    let other = diloco::Config { lr: Some(0.25), ..streaming() };
    let text = refused(&job, &other, 0);
    assert!(text.contains("outer.lr was 0.5, is 0.25"), "{text}");
    assert!(refused(&job, &streaming(), 1).contains("peer was"));
    let one = diloco::Config { fragments: 1, ..streaming() };
    assert!(refused(&job, &one, 0).contains("outer.fragments was 2, is 1"));
    let mut sparse = Job::new(&[]);
    sparse.codec = codec::Config { k: 32, ..Default::default() }.codec().unwrap().into();
    assert!(refused(&sparse, &streaming(), 0).contains("codec was"));
    let text = refused(&Job::new(&["optim.lr=1e-3"]), &streaming(), 0);
    assert!(text.contains("optim.lr was 0.003, is 0.001"), "{text}");
    let text = refused(&Job::new(&["model.ffn=96"]), &streaming(), 0);
    assert!(text.contains("outer.safetensors"), "{text}");
    // Logging alone may change.
    let silent = diloco::Config { correlation: false, ..streaming() };
    load(&job, &silent, &path, 0).unwrap();
    // The inner state of the other cluster, whole, and of the same plan and step.
    let mut federation = Federation::new(&job, &streaming(), 2);
    federation.run(32, 17);
    let foreign =
        federation.clusters[1].save(&temp.path().join("1"), "", &federation.rules[1]).unwrap();
    fs::rename(path.join("inner"), temp.path().join("inner")).unwrap();
    fs::rename(foreign.join("inner"), path.join("inner")).unwrap();
    assert!(refused(&job, &streaming(), 0).contains("outer.json"));
    fs::remove_dir_all(path.join("inner")).unwrap();
    fs::rename(temp.path().join("inner"), path.join("inner")).unwrap();
    load(&job, &streaming(), &path, 0).unwrap();
}

#[test]
fn a_manifest_that_lies_allocates_nothing() {
    let job = Job::new(&[]);
    let temp = tempfile::tempdir().unwrap();
    let path = saved(&job, temp.path());
    let file = path.join("outer.json");
    let honest: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    type Lie = fn(&mut serde_json::Value);
    let lies: [(&str, Lie); 9] = [
        ("elements", |m| m["tensors"][0]["elements"] = (1u64 << 60).into()),
        ("past counting", |m| m["tensors"][0]["elements"] = u64::MAX.into()),
        ("fewer elements", |m| m["tensors"][0]["elements"] = 5.into()),
        ("size", |m| m["size_bytes"] = u64::MAX.into()),
        ("name", |m| m["tensors"][1]["name"] = "fragments.7.residual".into()),
        ("kind", |m| m["tensors"][0]["dtype"] = "U8".into()),
        ("no fragments", |m| m["fragments"] = serde_json::json!([])),
        ("round", |m| m["fragments"][0]["round"] = 77.into()),
        ("not in flight", |m| {
            for p in 0..2 {
                m["fragments"][p]["in_flight"] = serde_json::Value::Null;
            }
        }),
    ];
    for (what, lie) in lies {
        let mut manifest = honest.clone();
        lie(&mut manifest);
        manifest["seal"] = checkpoint::UNSEALED.into();
        fs::write(&file, checkpoint::seal(&manifest.to_string())).unwrap();
        let error = load(&job, &streaming(), &path, 0).expect_err(what);
        assert!(matches!(error, Error::Damaged { .. }), "{what}: {error}");
    }
    for (what, lie) in [("version", 2), ("step", 18)] {
        let mut manifest = honest.clone();
        manifest[what] = lie.into();
        manifest["seal"] = checkpoint::UNSEALED.into();
        fs::write(&file, checkpoint::seal(&manifest.to_string())).unwrap();
        load(&job, &streaming(), &path, 0).expect_err(what);
    }
}
