//! A state of many ranks to disk and back, beside plain files of the same size on the same disk.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use neuroshard::backend::cpu::{Cpu, Level};
use neuroshard::checkpoint;
use neuroshard::checkpoint::{Background, Contents, Progress, Row, Saved, Source, Target};
use neuroshard::collective::Communicator;
use neuroshard::collective::threads;
use neuroshard::crypto::{Domain, Hash};
use neuroshard::shard::parts_of;
use neuroshard::tensor::{Shape, View, ViewMut};
use rayon::prelude::*;
use rustix::fs::{Advice, fadvise};

/// Kernels whose memory is the host's.
fn kernels() -> Cpu {
    Cpu::new(Level::PORTABLE, 1).unwrap()
}

/// Weights, each with two moments: 768 MiB in all.
const WEIGHTS: usize = 8;
const EXTENTS: [usize; 2] = [4096, 2048];
const ROUNDS: usize = 7;
const TRANSFER_BYTES: usize = 4 << 20;

/// The state, whole; ranks are threads and take their slices from it.
struct State {
    table: Vec<Row>,
    tensors: Vec<Vec<f32>>,
}

impl State {
    fn new(extents: [usize; 2]) -> Self {
        let shape = Shape::new(&extents);
        let weights: Vec<_> = (0..WEIGHTS).map(|i| (format!("layer.{i}"), shape)).collect();
        let table = checkpoint::table(&weights);
        let fill = |t: usize| (0..shape.len()).map(|i| ((i + t) as f32).sqrt()).collect();
        Self { tensors: (0..table.len()).into_par_iter().map(fill).collect(), table }
    }

    fn size_bytes(&self) -> usize {
        self.tensors.iter().map(|t| t.len() * 4).sum()
    }

    fn contents(&self, step: u64, comm: &dyn Communicator) -> Contents<'_> {
        let slice = |(row, data): (&Row, &'_ Vec<f32>)| {
            let range = parts_of(data.len(), comm.size()).of(comm.rank());
            (row.group, row.name.clone(), row.shape, range)
        };
        let rows: Vec<_> = self.table.iter().zip(&self.tensors).map(slice).collect();
        let slices =
            rows.into_iter().zip(&self.tensors).map(|((group, name, shape, range), data)| {
                let view = View::of(&data[range.clone()], &[range.len()]);
                Source { group, name, shape, first: range.start, view }
            });
        Contents {
            progress: Progress { step, ..Default::default() },
            table: self.table.clone(),
            slices: slices.collect(),
            plan_hash: Hash::of(Domain::Plan, b""),
            plan: Default::default(),
            model: serde_json::json!({}),
            config: String::new(),
            attachments: Vec::new(),
        }
    }
}

/// Measures and prints; a small state and one round unless `full`.
pub fn run(full: bool) {
    let state = State::new(if full { EXTENTS } else { [64, 128] });
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let rounds = if full { ROUNDS } else { 1 };
    // What is read again and again.
    let read = dir.path().join("read");
    fs::create_dir(&read).unwrap();
    plain_write(&state, &read);
    save(&state, &read, 1);
    println!("{} MiB, {rounds} rounds; medians", state.size_bytes() >> 20);
    for group in GROUPS {
        let mut times = vec![Vec::new(); group.len()];
        for round in 0..rounds {
            // The order changes, so that no case is always the one after the same other.
            for case in (0..group.len()).map(|i| (i + round) % group.len()) {
                // What was removed or is not yet on disk is no business of the next case.
                rustix::fs::sync();
                times[case].push(group[case].1(&state, dir.path()));
            }
        }
        print(state.size_bytes() as f64, group, &times);
    }
}

/// Prints the speeds of a group, and their ratios to that of its first case in the same round.
fn print(bytes: f64, group: &[(&str, Case)], times: &[Vec<f64>]) {
    let median = |values: &[f64]| {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    for ((name, _), case) in group.iter().zip(times) {
        let ratios: Vec<f64> = times[0].iter().zip(case).map(|(ceiling, t)| ceiling / t).collect();
        let (speed, ratio) = (bytes / median(case) / 1e9, 100.0 * median(&ratios));
        let each: Vec<String> = case.iter().map(|t| format!("{t:.2}")).collect();
        println!("{name:42} {speed:5.2} GB/s {ratio:4.0}%   seconds: {}", each.join(" "));
    }
}

type Case = fn(&State, &Path) -> f64;

/// What is measured: in each group first the ceiling.
const GROUPS: &[&[(&str, Case)]] = &[
    &[
        ("plain file, write and fsync", plain_write),
        ("checkpoint, written by 1 rank", |state, dir| save(state, dir, 1)),
        ("checkpoint, written by 2 ranks", |state, dir| save(state, dir, 2)),
    ],
    &[
        ("plain file, cold read", plain_read),
        ("checkpoint, read and verified by 1 rank", |state, dir| load(state, dir, 1)),
        ("checkpoint, read and verified by 2 ranks", |state, dir| load(state, dir, 2)),
    ],
    &[
        ("plain copy in memory, 1 thread", |state, _| copy(state, 1)),
        ("stop of training with 1 thread", |state, dir| stop(state, dir, 1)),
    ],
    &[
        ("plain copy in memory, 2 threads", |state, _| copy(state, 2)),
        ("stop of training with 2 threads", |state, dir| stop(state, dir, 2)),
    ],
];

fn plain_write(state: &State, dir: &Path) -> f64 {
    let path = dir.join("plain");
    let _ = fs::remove_file(&path);
    rustix::fs::sync();
    let started = Instant::now();
    let mut file = File::create(&path).unwrap();
    for tensor in &state.tensors {
        let bytes: &[u8] = bytemuck::cast_slice(tensor);
        bytes.chunks(TRANSFER_BYTES).for_each(|part| file.write_all(part).unwrap());
    }
    file.sync_all().unwrap();
    started.elapsed().as_secs_f64()
}

fn plain_read(state: &State, dir: &Path) -> f64 {
    let mut file = File::open(dir.join("read/plain")).unwrap();
    fadvise(&file, 0, None, Advice::DontNeed).unwrap();
    let mut room: Vec<_> = state.tensors.iter().map(|t| vec![1.0f32; t.len()]).collect();
    let started = Instant::now();
    for tensor in &mut room {
        let bytes: &mut [u8] = bytemuck::cast_slice_mut(tensor);
        bytes.chunks_mut(TRANSFER_BYTES).for_each(|part| file.read_exact(part).unwrap());
    }
    started.elapsed().as_secs_f64()
}

/// Runs `body` on `ranks` threads that share two cores; the seconds until all have ended.
fn on(ranks: usize, body: impl Fn(Arc<dyn Communicator>) + Sync) -> f64 {
    let comms = threads(ranks);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for comm in comms {
            let body = &body;
            scope.spawn(move || pool((2 / ranks).max(1)).install(|| body(comm)));
        }
    });
    started.elapsed().as_secs_f64()
}

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

fn save(state: &State, dir: &Path, ranks: usize) -> f64 {
    let dir = dir.join("checkpoints");
    let _ = fs::remove_dir_all(&dir);
    rustix::fs::sync();
    on(ranks, |comm| {
        let contents = state.contents(1, comm.as_ref());
        checkpoint::write(&dir, &contents, comm.as_ref()).unwrap();
    })
}

fn load(state: &State, dir: &Path, ranks: usize) -> f64 {
    let path = dir.join("read/checkpoints/00000001");
    for entry in fs::read_dir(&path).unwrap() {
        fadvise(File::open(entry.unwrap().path()).unwrap(), 0, None, Advice::DontNeed).unwrap();
    }
    // Memory that has been touched, as that of a trainer at its start.
    let cut = |rank| {
        let range = move |t: &Vec<f32>| parts_of(t.len(), ranks).of(rank);
        state.tensors.iter().map(|t| (range(t).start, vec![1.0f32; range(t).len()])).collect()
    };
    let rooms: Vec<Vec<(usize, Vec<f32>)>> = (0..ranks).map(cut).collect();
    let rooms: Vec<_> = rooms.into_iter().map(std::sync::Mutex::new).collect();
    on(ranks, |comm| {
        let mut room = rooms[comm.rank()].lock().unwrap();
        let saved = Saved::open_together(&path, comm.as_ref()).unwrap();
        let targets = state.table.iter().zip(room.iter_mut()).map(|(row, (first, data))| Target {
            group: row.group,
            name: row.name.clone(),
            shape: row.shape,
            first: *first,
            view: {
                let len = data.len();
                ViewMut::of(data, &[len])
            },
        });
        saved.read_into(&kernels(), targets.collect(), comm.as_ref()).unwrap();
    })
}

fn copy(state: &State, threads: usize) -> f64 {
    let mut room: Vec<_> = state.tensors.iter().map(|t| vec![1.0f32; t.len()]).collect();
    pool(threads).install(|| {
        let started = Instant::now();
        let pairs = room.par_iter_mut().zip(&state.tensors);
        pairs.for_each(|(to, from)| to.copy_from_slice(from));
        started.elapsed().as_secs_f64()
    })
}

/// How long `start` takes: all that training waits for.
fn stop(state: &State, dir: &Path, threads: usize) -> f64 {
    let comm = neuroshard::collective::single();
    let mut background = Background::new(&dir.join("background"), 1, comm.clone()).unwrap();
    let contents = state.contents(1, comm.as_ref());
    background.reserve(&contents.slices);
    let kernels = kernels();
    pool(threads).install(|| {
        let started = Instant::now();
        background.start(&kernels, contents).unwrap();
        let stopped = started.elapsed().as_secs_f64();
        background.wait().unwrap();
        stopped
    })
}
