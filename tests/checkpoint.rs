//! Checkpoints: what was written comes back, and nothing else passes for it.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use neuroshard::backend::cpu::{Cpu, Level};
use neuroshard::checkpoint;
use neuroshard::checkpoint::{Attachment, Contents, Error, Group, Progress, Row};
use neuroshard::checkpoint::{Saved, Source, Target};
use neuroshard::collective::single;
use neuroshard::crypto::{Domain, Hash};
use neuroshard::tensor::{DType, Shape, Tensor, View};

/// Kernels whose memory is the host's.
fn kernels() -> Cpu {
    Cpu::new(Level::PORTABLE, 1).unwrap()
}

/// Names and shapes of a model of three weights, one of no round size.
const WEIGHTS: [(&str, &[usize]); 3] =
    [("embed.weight", &[7, 5]), ("block.weight", &[300, 3, 101]), ("norm.weight", &[5])];

/// All tensors.
fn table() -> Vec<checkpoint::Row> {
    let shape = |(name, dims): (&str, &[usize])| (name.to_owned(), Shape::new(dims));
    checkpoint::table(&WEIGHTS.map(shape))
}

/// A state whose every element is different.
struct State {
    tensors: Vec<(Group, String, Tensor)>,
    progress: Progress,
}

impl State {
    fn at(step: u64) -> Self {
        let mut next = step as f32;
        let mut tensors = Vec::new();
        for group in Group::ALL {
            for (name, shape) in WEIGHTS {
                let mut tensor = Tensor::zeros(DType::F32, shape);
                tensor.host_mut::<f32>().iter_mut().for_each(|x| {
                    next += 1.0;
                    *x = next;
                });
                tensors.push((group, name.to_owned(), tensor));
            }
        }
        let progress = Progress { step, next_sequence: step * 4, seed: 9, guard: vec![1, 2] };
        Self { tensors, progress }
    }

    fn empty() -> Self {
        let mut state = Self::at(0);
        for (_, _, tensor) in &mut state.tensors {
            tensor.host_mut::<f32>().fill(f32::NAN);
        }
        state
    }

    fn sources(&self) -> Vec<Source<'_>> {
        self.tensors
            .iter()
            .map(|(group, name, tensor)| Source::whole(*group, name.clone(), tensor.view()))
            .collect()
    }

    fn targets(&mut self) -> Vec<Target<'_>> {
        self.tensors
            .iter_mut()
            .map(|(group, name, tensor)| Target::whole(*group, name.clone(), tensor.view_mut()))
            .collect()
    }

    fn write(&self, checkpoints: &Path) -> (PathBuf, Hash) {
        checkpoint::write(checkpoints, &self.contents(), single().as_ref()).unwrap()
    }

    fn contents(&self) -> Contents<'_> {
        Contents {
            progress: self.progress.clone(),
            table: table(),
            slices: self.sources(),
            plan_hash: Hash::of(Domain::Plan, b"plan"),
            plan: [("train.steps".to_owned(), "10".to_owned())].into(),
            model: serde_json::json!({"hidden": 5}),
            config: "[train]\nsteps = 10\n".into(),
            attachments: vec![Attachment { name: "tokenizer.json".into(), bytes: b"{}".to_vec() }],
        }
    }
}

#[test]
fn what_was_written_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let state = State::at(12);
    let (path, hash) = state.write(dir.path());
    assert_eq!(path, dir.path().join("00000012"));
    assert_eq!(
        hash,
        checkpoint::state_hash(
            &kernels(),
            &state.progress,
            &table(),
            &state.sources(),
            single().as_ref()
        )
        .unwrap()
    );
    let saved = Saved::open(&path).unwrap();
    assert_eq!(saved.verify(single().as_ref()).unwrap(), hash);
    assert_eq!(saved.manifest().progress, state.progress);
    assert_eq!(saved.attachment("tokenizer.json").unwrap().unwrap(), b"{}");
    assert!(saved.attachment("other").unwrap().is_none());
    let mut back = State::empty();
    saved.read_into(&kernels(), back.targets(), single().as_ref()).unwrap();
    for (a, b) in state.tensors.iter().zip(&back.tensors) {
        assert_eq!(a.2.host::<f32>(), b.2.host::<f32>(), "{} {:?}", a.1, a.0);
    }
}

#[test]
fn weights_are_a_plain_safetensors_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = State::at(1).write(dir.path());
    let bytes = fs::read(path.join("weights.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.len(), 3);
    assert_eq!(file.tensor("block.weight").unwrap().shape(), [300, 3, 101]);
    let first = &file.tensor("embed.weight").unwrap().data()[..4];
    assert_eq!(first, 2.0f32.to_le_bytes());
}

/// Everything that reading a checkpoint can do must end in an error, and none may panic.
fn refused(path: &Path) -> String {
    let outcome = Saved::open(path).and_then(|saved| {
        saved.verify(single().as_ref())?;
        saved.attachment("tokenizer.json")?;
        saved.read_into(&kernels(), State::empty().targets(), single().as_ref())
    });
    let error = outcome.expect_err("a damaged checkpoint was accepted");
    let text = error.to_string();
    assert!(text.contains(&path.display().to_string()), "does not name the folder: {text}");
    text
}

fn files(path: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 4, "{files:?}");
    files
}

#[test]
fn truncated_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = State::at(3).write(dir.path());
    for file in files(&path) {
        let whole = fs::read(&file).unwrap();
        let len = whole.len();
        let near_ends = (0..20.min(len)).chain(len.saturating_sub(9)..len);
        for cut in near_ends.chain((0..len).step_by(len / 40 + 1)) {
            fs::write(&file, &whole[..cut]).unwrap();
            let text = refused(&path);
            assert!(text.contains("restore") || text.contains("remove"), "no remedy: {text}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        fs::write(&file, &longer).unwrap();
        // A manifest with a trailing byte has lost its seal as well.
        refused(&path);
        fs::remove_file(&file).unwrap();
        refused(&path);
        fs::write(&file, &whole).unwrap();
        Saved::open(&path).unwrap().verify(single().as_ref()).unwrap();
    }
}

#[test]
fn flipped_bits_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = State::at(3).write(dir.path());
    for file in files(&path) {
        let whole = fs::read(&file).unwrap();
        let handle = fs::OpenOptions::new().write(true).open(&file).unwrap();
        let stride = if whole.len() < 20_000 { 13 } else { whole.len() / 60 };
        for at in (0..whole.len().min(600)).step_by(7).chain((0..whole.len()).step_by(stride)) {
            handle.write_all_at(&[whole[at] ^ (1 << (at % 8))], at as u64).unwrap();
            refused(&path);
            handle.write_all_at(&whole[at..=at], at as u64).unwrap();
        }
        Saved::open(&path).unwrap().verify(single().as_ref()).unwrap();
    }
}

/// Replaces `from` by `to` in the manifest and seals it again, as an attacker would.
fn forge(path: &Path, from: &str, to: &str) {
    let file = path.join("manifest.json");
    let text = fs::read_to_string(&file).unwrap();
    let seal = text.lines().find(|l| l.contains("\"seal\"")).unwrap().split('"').nth(3).unwrap();
    let zeros = "0".repeat(64);
    let forged = text.replacen(seal, &zeros, 1).replacen(from, to, 1);
    assert!(forged.contains(to), "nothing to forge: {from}");
    let hash = blake3::hash(forged.as_bytes()).to_hex();
    fs::write(&file, forged.replacen(&zeros, hash.as_str(), 1)).unwrap();
}

#[test]
fn forged_manifests_are_refused() {
    let huge = "[\n        4611686018427387904,\n        4611686018427387904\n      ]";
    for (from, to) in [
        ("\"step\": 3", "\"step\": 4"),
        ("\"seed\": 9", "\"seed\": 8"),
        ("\"next_sequence\": 12", "\"next_sequence\": 0"),
        ("embed.weight", "embod.weight"),
        ("\"group\": \"weights\"", "\"group\": \"first_moments\""),
        ("\"dtype\": \"f32\"", "\"dtype\": \"bf16\""),
        ("\"offset\": ", "\"offset\": 9"),
        ("\"offset\": ", "\"offset\": 1844674407370955"),
        ("[\n        7,\n        5\n      ]", huge),
        ("[\n        7,\n        5\n      ]", "[]"),
        ("[\n        7,\n        5\n      ]", "[1, 1, 7, 5, 1]"),
        ("\"name\": \"tokenizer.json\"", "\"name\": \"../../../etc/passwd\""),
        ("\"name\": \"tokenizer.json\"", "\"name\": \"/etc/passwd\""),
        ("\"name\": \"weights.safetensors\"", "\"name\": \"\""),
        ("\"head_bytes\": ", "\"head_bytes\": 99"),
        ("\"size_bytes\": ", "\"size_bytes\": 1"),
        ("\"arithmetic\": 1", "\"arithmetic\": 2"),
        ("\"version\": 1", "\"unknown\": 0, \"version\": 1"),
        ("\"version\": 1", "\"version\": -1"),
        ("neuroshard checkpoint", "another checkpoint"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (path, _) = State::at(3).write(dir.path());
        forge(&path, from, to);
        refused(&path);
    }
}

#[test]
fn another_version_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = State::at(3).write(dir.path());
    forge(&path, "\"version\": 1", "\"version\": 2");
    let text = refused(&path);
    assert!(text.contains("version 2") && text.contains("newer one"), "{text}");
}

#[test]
fn hostile_headers_take_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = State::at(3).write(dir.path());
    let file = path.join("weights.safetensors");
    let whole = fs::read(&file).unwrap();
    for length in [u64::MAX, u64::MAX - 7, 1 << 62, whole.len() as u64, 0, 1] {
        let mut forged = whole.clone();
        forged[..8].copy_from_slice(&length.to_le_bytes());
        fs::write(&file, &forged).unwrap();
        refused(&path);
    }
}

#[test]
fn another_model_is_refused_before_reading() {
    let dir = tempfile::tempdir().unwrap();
    let (path, _) = State::at(3).write(dir.path());
    let saved = Saved::open(&path).unwrap();
    let shapes: Vec<checkpoint::Expected> =
        State::at(0).tensors[..3].iter().map(|(_, n, t)| (n.clone(), t.shape())).collect();
    saved.expect(&Group::ALL, &shapes).unwrap();
    let mut wider = shapes.clone();
    wider[1].1 = Tensor::zeros(DType::F32, &[300, 3, 102]).shape();
    let text = saved.expect(&Group::ALL, &wider).unwrap_err().to_string();
    assert!(text.contains("another model") && text.contains("block.weight"), "{text}");
    assert!(saved.expect(&Group::ALL, &shapes[..2]).is_err());
    let longer = [&shapes[..], &shapes[..1]].concat();
    assert!(saved.expect(&Group::ALL, &longer).is_err());
}

#[test]
fn the_latest_whole_one_is_found() {
    let dir = tempfile::tempdir().unwrap();
    assert!(
        checkpoint::latest(&dir.path().join("none"), single().as_ref()).unwrap().found.is_none()
    );
    for step in [5, 10, 15] {
        State::at(step).write(dir.path());
    }
    fs::create_dir(dir.path().join("notes")).unwrap();
    fs::create_dir(dir.path().join("00000020")).unwrap();
    let weights = dir.path().join("00000015/weights.safetensors");
    let len = fs::metadata(&weights).unwrap().len();
    let handle = fs::OpenOptions::new().write(true).open(&weights).unwrap();
    handle.write_all_at(&[0xff], len - 2).unwrap();
    let latest = checkpoint::latest(dir.path(), single().as_ref()).unwrap();
    assert_eq!(latest.found.unwrap().manifest().progress.step, 10);
    assert_eq!(latest.broken.len(), 2, "{:?}", latest.broken);
    // A damaged one is replaced when its step comes again.
    State::at(15).write(dir.path());
    fs::remove_dir(dir.path().join("00000020")).unwrap();
    let latest = checkpoint::latest(dir.path(), single().as_ref()).unwrap();
    assert_eq!(latest.found.unwrap().manifest().progress.step, 15);
    assert!(latest.broken.is_empty());
}

#[test]
fn the_newest_are_kept_and_leftovers_removed() {
    let dir = tempfile::tempdir().unwrap();
    for step in [1, 2, 3, 100_000_000] {
        State::at(step).write(dir.path());
    }
    fs::create_dir(dir.path().join(".unfinished-00000004")).unwrap();
    fs::write(dir.path().join(".unfinished-00000004/weights.safetensors"), b"half").unwrap();
    assert_eq!(
        checkpoint::latest(dir.path(), single().as_ref())
            .unwrap()
            .found
            .unwrap()
            .manifest()
            .progress
            .step,
        100_000_000
    );
    checkpoint::remove_unfinished(dir.path()).unwrap();
    checkpoint::remove_old(dir.path(), 0).unwrap();
    assert_eq!(checkpoint::list(dir.path()).unwrap(), [1, 2, 3, 100_000_000]);
    checkpoint::remove_old(dir.path(), 2).unwrap();
    assert_eq!(checkpoint::list(dir.path()).unwrap(), [3, 100_000_000]);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

/// A small tmpfs stands for a full disk; mounting one takes root.
#[test]
fn a_full_disk_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
        .arg(dir.path())
        .output();
    if !mounted.is_ok_and(|o| o.status.success()) {
        eprintln!("SKIPPED LOUDLY: cannot mount a tmpfs, so no disk can be filled");
        return;
    }
    let first = State::at(1);
    first.write(dir.path());
    let error = checkpoint::write(dir.path(), &State::at(2).contents(), single().as_ref());
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    let found = checkpoint::latest(dir.path(), single().as_ref())
        .unwrap()
        .found
        .map(|s| s.manifest().progress.step);
    std::process::Command::new("umount").arg(dir.path()).status().unwrap();
    let text = match error {
        Err(error @ Error::Io { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(text.contains("disk is full"), "{text}");
    assert_eq!((names, found), (vec!["00000001".into()], Some(1)));
}

#[test]
fn every_part_of_the_state_shows_in_its_hash() {
    let progress = Progress { step: 3, next_sequence: 12, seed: 1, guard: vec![7] };
    let data = [1.0f32, 2.0, 3.0, 4.0];
    let hash = |progress: &Progress, tensors: &[(&str, &[usize])]| {
        let rows = tensors.iter().map(|(name, shape)| Row {
            group: Group::Weights,
            name: (*name).into(),
            shape: Shape::new(shape),
        });
        let table: Vec<_> = rows.collect();
        let view = |row: &Row| View::of(&data, &row.shape);
        let slices: Vec<_> =
            table.iter().map(|row| Source::whole(row.group, row.name.clone(), view(row))).collect();
        checkpoint::state_hash(&kernels(), progress, &table, &slices, single().as_ref()).unwrap()
    };
    let base = hash(&progress, &[("w", &[2, 2])]);
    assert_eq!(base, hash(&progress.clone(), &[("w", &[2, 2])]));
    let others = [
        hash(&progress, &[("x", &[2, 2])]),
        hash(&progress, &[("w", &[4])]),
        hash(&Progress { step: 4, ..progress.clone() }, &[("w", &[2, 2])]),
        hash(&Progress { seed: 4, ..progress.clone() }, &[("w", &[2, 2])]),
        hash(&Progress { next_sequence: 0, ..progress.clone() }, &[("w", &[2, 2])]),
        hash(&Progress { guard: vec![8], ..progress.clone() }, &[("w", &[2, 2])]),
        hash(&progress, &[]),
    ];
    for other in others {
        assert_ne!(base, other);
    }
}
