//! Checkpoints of many ranks: the ranks do not show in them, and one that fails fails all alike.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use neuroshard::backend::cpu::{Cpu, Level};
use neuroshard::checkpoint;
use neuroshard::checkpoint::{Attachment, Background, Contents, Error, Group, Progress};
use neuroshard::checkpoint::{Row, Saved, Source, Target};
use neuroshard::collective::Communicator;
use neuroshard::collective::threads;
use neuroshard::crypto::{Domain, Hash};
use neuroshard::shard::parts_of;
use neuroshard::tensor::{Shape, View, ViewMut};

/// Kernels whose memory is the host's.
fn kernels() -> Cpu {
    Cpu::new(Level::PORTABLE, 1).unwrap()
}

/// Smaller than a block; a tail; exact blocks; many ranks; nothing.
const WEIGHTS: [(&str, &[usize]); 6] = [
    ("embed.weight", &[7, 5]),
    ("a.weight", &[300, 3, 101]),
    ("b.weight", &[64, 256]),
    ("c.weight", &[1031, 131]),
    ("d.weight", &[0, 3]),
    ("norm.weight", &[5]),
];

fn table() -> Vec<Row> {
    checkpoint::table(&WEIGHTS.map(|(name, dims)| (name.to_owned(), Shape::new(dims))))
}

/// Who has what: `stages` groups of ranks, each with every `stages`-th tensor, cut within.
#[derive(Clone, Copy, Debug)]
struct Way {
    ranks: usize,
    stages: usize,
}

const WAYS: [Way; 9] = [
    Way { ranks: 1, stages: 1 },
    Way { ranks: 2, stages: 1 },
    Way { ranks: 2, stages: 2 },
    Way { ranks: 3, stages: 3 },
    Way { ranks: 4, stages: 1 },
    Way { ranks: 4, stages: 2 },
    Way { ranks: 6, stages: 3 },
    Way { ranks: 8, stages: 1 },
    Way { ranks: 8, stages: 2 },
];

impl Way {
    /// The elements of tensor `i` that rank `rank` has.
    fn range(self, rank: usize, i: usize, len: usize) -> Range<usize> {
        let each = self.ranks / self.stages;
        match i % self.stages == rank / each {
            true => parts_of(len, each).of(rank % each),
            false => 0..0,
        }
    }
}

/// A state of whole tensors.
#[derive(Clone)]
struct State {
    tensors: Vec<Vec<f32>>,
    progress: Progress,
}

impl State {
    fn at(step: u64) -> Self {
        let mut next = step as f32;
        let mut one = |row: &Row| -> Vec<f32> {
            (0..row.shape.len()).map(|_| (next += 0.25, next).1).collect()
        };
        let tensors = table().iter().map(&mut one).collect();
        let progress = Progress { step, next_sequence: step * 4, seed: 9, guard: vec![1, 2] };
        Self { tensors, progress }
    }

    /// What rank `rank` has of it.
    fn slices<'a>(&'a self, way: Way, rank: usize) -> Vec<Source<'a>> {
        let rows = table().into_iter().zip(&self.tensors).enumerate();
        let slice = |(i, (row, data)): (usize, (Row, &'a Vec<f32>))| {
            let range = way.range(rank, i, data.len());
            let view = View::of(&data[range.clone()], &[range.len()]);
            Source { group: row.group, name: row.name, shape: row.shape, first: range.start, view }
        };
        rows.map(slice).filter(|slice| !slice.view.shape().is_empty()).collect()
    }

    fn contents<'a>(&self, slices: Vec<Source<'a>>) -> Contents<'a> {
        Contents {
            progress: self.progress.clone(),
            table: table(),
            slices,
            plan_hash: Hash::of(Domain::Plan, b"plan"),
            plan: [("train.steps".to_owned(), "10".to_owned())].into(),
            model: serde_json::json!({"hidden": 5}),
            config: "[train]\nsteps = 10\n".into(),
            attachments: vec![Attachment { name: "tokenizer.json".into(), bytes: b"{}".to_vec() }],
        }
    }

    /// Writes it the given way; all ranks must agree on the outcome.
    fn write(&self, dir: &Path, way: Way) -> (PathBuf, Hash) {
        let written = on(way.ranks, |comm| {
            let contents = self.contents(self.slices(way, comm.rank()));
            checkpoint::write(dir, &contents, comm.as_ref()).unwrap()
        });
        same(written)
    }
}

/// Runs `body` on `ranks` ranks and returns what each returns.
fn on<T: Send>(ranks: usize, body: impl Fn(Arc<dyn Communicator>) -> T + Sync) -> Vec<T> {
    let comms = threads(ranks);
    std::thread::scope(|scope| {
        let body = &body;
        let all: Vec<_> = comms.into_iter().map(|comm| scope.spawn(move || body(comm))).collect();
        all.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

/// What all ranks returned.
fn same<T: PartialEq + std::fmt::Debug>(all: Vec<T>) -> T {
    let mut all = all.into_iter();
    let first = all.next().unwrap();
    all.for_each(|other| assert_eq!(other, first));
    first
}

/// Every file of a folder.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), fs::read(e.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn any_ranks_write_the_same_bytes() {
    let (state, dir) = (State::at(12), tempfile::tempdir().unwrap());
    let mut first = None;
    for way in WAYS {
        let (path, hash) = state.write(dir.path(), way);
        let in_memory = same(on(way.ranks, |comm| {
            let slices = state.slices(way, comm.rank());
            checkpoint::state_hash(&kernels(), &state.progress, &table(), &slices, comm.as_ref())
                .unwrap()
        }));
        assert_eq!(in_memory, hash, "{way:?}");
        let now = (hash, files(&path));
        assert_eq!(first.get_or_insert_with(|| now.clone()), &now, "{way:?}");
        assert_eq!(names(dir.path()), ["00000012".to_owned()].into());
    }
    let (_, files) = first.unwrap();
    let weights = safetensors::SafeTensors::deserialize(&files[3].1).unwrap();
    let tensor = weights.tensor("c.weight").unwrap();
    assert_eq!(tensor.data(), bytemuck::cast_slice::<f32, u8>(&state.tensors[3]));
}

/// The format is for ever: hashes of the state and of its files, as version 1 writes them.
#[test]
fn the_format_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (path, hash) = State::at(12).write(dir.path(), Way { ranks: 2, stages: 1 });
    let mut found = vec![("state".to_owned(), hash.to_string())];
    let hex = |bytes: Vec<u8>| blake3::hash(&bytes).to_hex().to_string();
    found.extend(files(&path).into_iter().map(|(name, bytes)| (name, hex(bytes))));
    let want = GOLDEN.map(|(name, hash)| (name.to_owned(), hash.to_owned()));
    assert_eq!(found, want);
}

const GOLDEN: [(&str, &str); 5] = [
    ("state", "2289469dcd0c171dc15867f67e9ae8a19e058ab905a8bae2316cb3b8f41ae01a"),
    ("manifest.json", "5d4b1f3ea47655da59ad3ec4c97c0ada231dd15271d20b0bf2f92e02a95350c3"),
    ("optimizer.safetensors", "b1998fc81bf7847e31016fd4a9000cb114f1afffe845dd6ce3581d7c597bc91c"),
    ("tokenizer.json", "6e46dd10defc9b56c29a6ec56b508c21f54c08192194e4df25bf36f0c9c3c279"),
    ("weights.safetensors", "06b029dc2125d5fa33629b6973a3e61b8f04ba92d8c8d2579f4174b9e667f73e"),
];

/// Reads `path` the given way; every rank's slices must be those of `state`.
fn read(path: &Path, state: &State, way: Way) {
    on(way.ranks, |comm| {
        let saved = Saved::open_together(path, comm.as_ref()).unwrap();
        assert_eq!(saved.manifest().progress, state.progress);
        let ranges: Vec<_> = (0..state.tensors.len())
            .map(|i| way.range(comm.rank(), i, state.tensors[i].len()))
            .collect();
        let mut room: Vec<_> = ranges.iter().map(|r| vec![f32::NAN; r.len()]).collect();
        let rows = table().into_iter().zip(&mut room).zip(&ranges);
        let targets = rows
            .map(|((row, room), range)| {
                let (group, name, shape, len) = (row.group, row.name, row.shape, room.len());
                Target { group, name, shape, first: range.start, view: ViewMut::of(room, &[len]) }
            })
            .filter(|target| !target.view.shape().is_empty())
            .collect();
        saved.read_into(&kernels(), targets, comm.as_ref()).unwrap();
        for ((whole, part), range) in state.tensors.iter().zip(&room).zip(ranges) {
            assert_eq!(&whole[range], &part[..], "{way:?}");
        }
    });
}

#[test]
fn any_ranks_read_what_any_wrote() {
    let (state, dir) = (State::at(12), tempfile::tempdir().unwrap());
    for writers in [WAYS[0], WAYS[3], WAYS[5], WAYS[7]] {
        let (path, hash) = state.write(dir.path(), writers);
        for readers in WAYS {
            read(&path, &state, readers);
            let verified = on(readers.ranks, |comm| {
                let latest = checkpoint::latest(dir.path(), comm.as_ref()).unwrap();
                assert!(latest.broken.is_empty());
                latest.found.unwrap().verify(comm.as_ref()).unwrap()
            });
            assert_eq!(same(verified), hash);
        }
        // Replicas: every rank reads everything.
        on(3, |comm| {
            let saved = Saved::open(&path).unwrap();
            let mut room = State::at(0);
            let rows = table().into_iter().zip(&mut room.tensors);
            let targets = rows.map(|(row, data)| {
                Target::whole(row.group, row.name, ViewMut::of(data, &row.shape))
            });
            saved.read_into(&kernels(), targets.collect(), comm.as_ref()).unwrap();
            assert_eq!(room.tensors, state.tensors);
        });
    }
}

/// All ranks must have the same error, which is returned.
fn refused(outcomes: Vec<Result<(PathBuf, Hash), Error>>) -> String {
    same(outcomes.into_iter().map(|o| o.expect_err("it was written").to_string()).collect())
}

#[test]
fn a_folder_that_one_rank_does_not_share_is_named() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let way = Way { ranks: 4, stages: 1 };
    State::at(1).write(ours.path(), way);
    let state = State::at(2);
    let outcomes = on(4, |comm| {
        let dir = if comm.rank() == 2 { theirs.path() } else { ours.path() };
        let contents = state.contents(state.slices(way, comm.rank()));
        checkpoint::write(dir, &contents, comm.as_ref())
    });
    let text = refused(outcomes);
    assert_eq!(names(ours.path()), ["00000001".to_owned()].into());
    assert!(text.starts_with("rank 2 on "), "{text}");
    assert!(text.contains("run.dir is not on a file system that all ranks share"), "{text}");
    assert!(names(theirs.path()).is_empty());
    // The same when reading, whether there is nothing or something else.
    for step in [None, Some(1)] {
        if step.is_some() {
            let mut other = State::at(1);
            other.tensors[0][0] += 1.0;
            other.write(theirs.path(), way);
        }
        let broken = same(on(2, |comm| {
            let dir = if comm.rank() == 1 { theirs.path() } else { ours.path() };
            let latest = checkpoint::latest(dir, comm.as_ref()).unwrap();
            assert!(latest.found.is_none());
            latest.broken.iter().map(Error::to_string).collect::<Vec<_>>()
        }));
        assert!(broken[0].contains("rank 1 on ") && broken[0].contains("share"), "{broken:?}");
    }
}

#[test]
fn a_rank_that_fails_fails_all_alike() {
    let dir = tempfile::tempdir().unwrap();
    let way = Way { ranks: 4, stages: 1 };
    State::at(1).write(dir.path(), way);
    let state = State::at(2);
    let integers = [0u32; 5];
    // What rank 3 does to its slices, and what all must hear.
    type Deed<'a> = &'a (dyn Fn(&mut Vec<Source<'a>>) + Sync);
    let cases: [(Deed<'_>, &str); 5] = [
        (&|slices| slices[0].view = View::of(&integers[..], &[5]), "is not f32"),
        (&|slices| drop(slices.pop()), "a bug"),
        (&|slices| slices.push(slices[0].clone()), "two ranks have the same elements"),
        (&|slices| slices[0].first += 1, "whole blocks"),
        (&|slices| slices[0].name = "other".into(), "not in the table"),
    ];
    for (deed, says) in cases {
        let outcomes = on(4, |comm| {
            let mut slices = state.slices(way, comm.rank());
            if comm.rank() == 3 {
                deed(&mut slices);
            }
            checkpoint::write(dir.path(), &state.contents(slices), comm.as_ref())
        });
        let text = refused(outcomes);
        assert_eq!(names(dir.path()), ["00000001".to_owned()].into());
        assert!(text.contains(says), "{text}");
    }
    read(&dir.path().join("00000001"), &State::at(1), way);
}

#[test]
fn a_rank_that_is_gone_keeps_nobody_waiting() {
    let dir = tempfile::tempdir().unwrap();
    for gone in 0..4 {
        let way = Way { ranks: 4, stages: 1 };
        let state = State::at(2);
        let outcomes = on(4, |comm| {
            let rank = comm.rank();
            if rank == gone {
                return None;
            }
            let contents = state.contents(state.slices(way, rank));
            Some(checkpoint::write(dir.path(), &contents, comm.as_ref()))
        });
        for outcome in outcomes.into_iter().flatten() {
            let error = outcome.expect_err("written without one of its ranks");
            assert!(matches!(error, Error::Ranks(_)), "{error}");
        }
        assert!(names(dir.path()).is_empty());
    }
}

/// A small tmpfs stands for a full disk; mounting one takes root.
#[test]
fn a_full_disk_is_told_to_all() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=5m", "tmpfs"])
        .arg(dir.path())
        .output();
    if !mounted.is_ok_and(|o| o.status.success()) {
        eprintln!("SKIPPED LOUDLY: cannot mount a tmpfs, so no disk can be filled");
        return;
    }
    let way = Way { ranks: 2, stages: 1 };
    State::at(1).write(dir.path(), way);
    let state = State::at(2);
    let outcomes = on(2, |comm| {
        let contents = state.contents(state.slices(way, comm.rank()));
        checkpoint::write(dir.path(), &contents, comm.as_ref())
    });
    let left = names(dir.path());
    std::process::Command::new("umount").arg(dir.path()).status().unwrap();
    assert_eq!(left, ["00000001".to_owned()].into());
    let text = refused(outcomes);
    assert!(text.starts_with("rank 0 on ") && text.contains("disk is full"), "{text}");
}

#[test]
fn damage_is_named_and_the_older_one_taken() {
    let way = Way { ranks: 3, stages: 3 };
    type Damage = fn(&Path);
    let flip: Damage = |file| {
        let at = fs::metadata(file).unwrap().len() - 600_000;
        let handle = fs::OpenOptions::new().write(true).read(true).open(file).unwrap();
        let mut byte = [0];
        handle.read_exact_at(&mut byte, at).unwrap();
        handle.write_all_at(&[byte[0] ^ 4], at).unwrap();
    };
    let cut: Damage = |file| {
        let handle = fs::OpenOptions::new().write(true).open(file).unwrap();
        handle.set_len(handle.metadata().unwrap().len() - 1).unwrap();
    };
    let remove: Damage = |file| fs::remove_file(file).unwrap();
    let cases = [(flip, "does not match its hash"), (cut, "truncated"), (remove, "cannot open")];
    for name in ["weights.safetensors", "optimizer.safetensors"] {
        for (damage, says) in cases {
            let dir = tempfile::tempdir().unwrap();
            State::at(5).write(dir.path(), way);
            let (path, _) = State::at(6).write(dir.path(), way);
            damage(&path.join(name));
            for ranks in [1, 2, 4] {
                let (step, broken) = same(on(ranks, |comm| {
                    let latest = checkpoint::latest(dir.path(), comm.as_ref()).unwrap();
                    let broken: Vec<_> = latest.broken.iter().map(Error::to_string).collect();
                    (latest.found.unwrap().manifest().progress.step, broken)
                }));
                assert_eq!((step, broken.len()), (5, 1), "{broken:?}");
                assert!(broken[0].contains(name) && broken[0].contains(says), "{broken:?}");
            }
        }
    }
}

#[test]
fn slices_of_damaged_tensors_are_refused_by_all() {
    let dir = tempfile::tempdir().unwrap();
    let way = Way { ranks: 4, stages: 1 };
    let (path, _) = State::at(5).write(dir.path(), way);
    let file = path.join("weights.safetensors");
    let whole = fs::read(&file).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let data = tensors.tensor("c.weight").unwrap().data();
    let at = data.as_ptr() as usize - whole.as_ptr() as usize + data.len() / 2;
    let handle = fs::OpenOptions::new().write(true).open(&file).unwrap();
    handle.write_all_at(&[whole[at] ^ 1], at as u64).unwrap();
    let text = same(on(4, |comm| {
        let saved = Saved::open_together(&path, comm.as_ref()).unwrap();
        let mut room = vec![0.0; 1031 * 131];
        let range = parts_of(room.len(), 4).of(comm.rank());
        let (group, name, shape) = (Group::Weights, "c.weight".into(), Shape::new(&[1031, 131]));
        let view = ViewMut::of(&mut room[range.clone()], &[range.len()]);
        let target = Target { group, name, shape, first: range.start, view };
        saved.read_into(&kernels(), vec![target], comm.as_ref()).unwrap_err().to_string()
    }));
    assert!(text.contains("tensor c.weight") && text.contains("weights.safetensors"), "{text}");
}

#[test]
fn training_goes_on_while_it_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let way = Way { ranks: 2, stages: 1 };
    on(2, |comm| {
        let own = comm.split(0).unwrap();
        let mut background = Background::new(dir.path(), 2, own).unwrap();
        let mut state = State::at(1);
        let slices = state.slices(way, comm.rank());
        let held: usize = slices.iter().map(|s| s.view.shape().len() * 4).sum();
        assert_eq!(background.reserve(&slices), held);
        assert!(background.is_idle() && background.poll(comm.as_ref()).unwrap().is_none());
        let mut found = Vec::new();
        for step in 2..6 {
            let contents = state.contents(state.slices(way, comm.rank()));
            found.extend(background.start(&kernels(), contents).unwrap());
            // The next step, while the last one is written.
            state = State::at(step);
            found.extend(background.poll(comm.as_ref()).unwrap());
        }
        found.extend(background.wait().unwrap());
        assert!(background.wait().unwrap().is_none());
        let steps: Vec<_> = found.iter().map(|w| w.step).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
    });
    assert_eq!(names(dir.path()), ["00000003".to_owned(), "00000004".to_owned()].into());
    for step in [3, 4] {
        read(&dir.path().join(format!("0000000{step}")), &State::at(step), way);
    }
}

#[test]
fn failures_in_the_background_reach_all_ranks_alike() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let way = Way { ranks: 2, stages: 1 };
    let text = same(on(2, |comm| {
        let own = comm.split(0).unwrap();
        let dir = if comm.rank() == 1 { theirs.path() } else { ours.path() };
        let mut background = Background::new(dir, 2, own).unwrap();
        let state = State::at(1);
        background.start(&kernels(), state.contents(state.slices(way, comm.rank()))).unwrap();
        loop {
            match background.poll(comm.as_ref()) {
                Ok(None) => std::thread::yield_now(),
                Ok(Some(written)) => panic!("{written:?}"),
                Err(error) => return error.to_string(),
            }
        }
    }));
    assert!(text.starts_with("rank 1 on "), "{text}");
    assert!(names(ours.path()).is_empty() && names(theirs.path()).is_empty());
}

#[test]
fn who_leaves_waits_for_the_writer() {
    let dir = tempfile::tempdir().unwrap();
    let way = Way { ranks: 2, stages: 1 };
    on(2, |comm| {
        let mut background = Background::new(dir.path(), 0, comm.split(0).unwrap()).unwrap();
        let state = State::at(1);
        background.start(&kernels(), state.contents(state.slices(way, comm.rank()))).unwrap();
    });
    read(&dir.path().join("00000001"), &State::at(1), way);
}

/// Writes checkpoints until it is killed; run by the test below.
#[test]
#[ignore = "a part of writers_that_are_killed_leave_whole_checkpoints"]
fn write_until_killed() {
    let Ok(dir) = std::env::var("NEUROSHARD_TEST_DIR") else { return };
    for step in 1.. {
        State::at(step).write(Path::new(&dir), Way { ranks: 2, stages: 1 });
        checkpoint::remove_old(Path::new(&dir), 2).unwrap();
    }
}

#[test]
fn writers_that_are_killed_leave_whole_checkpoints() {
    let dir = tempfile::tempdir().unwrap();
    let mut interrupted = 0;
    for kill in 0..12 {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "write_until_killed", "--ignored"])
            .env("NEUROSHARD_TEST_DIR", dir.path())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // Until there is something to lose, then on to some moment of the next ones.
        while checkpoint::list(dir.path()).unwrap().len() < 2 {
            std::thread::yield_now();
        }
        std::thread::sleep(std::time::Duration::from_millis(3 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        interrupted += usize::from(names(dir.path()).iter().any(|n| n.starts_with('.')));
        let step = same(on(2, |comm| {
            let latest = checkpoint::latest(dir.path(), comm.as_ref()).unwrap();
            assert!(latest.broken.is_empty(), "{:?}", latest.broken);
            latest.found.unwrap().manifest().progress.step
        }));
        let path = checkpoint::path_of(dir.path(), step);
        read(&path, &State::at(step), Way { ranks: 4, stages: 2 });
        fs::remove_dir_all(path).unwrap();
        checkpoint::remove_unfinished(dir.path()).unwrap();
        assert!(names(dir.path()).iter().all(|name| name.len() == 8));
    }
    println!("{interrupted} of 12 writers were killed while they wrote");
}
