//! Collectives of 100 MB of f32: ranks as threads and as processes that share memory; under mpirun
//! beside the library's own `MPI_Allreduce`.
//!
//! `cargo bench --bench collective` · `mpirun -np 4 target/release/deps/collective-… --bench`
//! As a test (`cargo test --benches`) a small shape runs once, on two ranks.
//!
//! The least that an all-reduce of M bytes must move through main memory is M read and M written
//! per rank, as M is larger than the caches: the column `GB/s` is that over the time.

#[path = "../tests/processes/unix_link.rs"]
mod unix_link;

use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use neuroshard::collective::mpi::Mpi;
use neuroshard::collective::{Communicator, Link, Parts, group, is_first, threads};
use unix_link::UnixLink;

/// Bytes of the buffer: 100 MB, as in the reports that we compare with.
const BYTES: usize = 100_000_000;
const ROUNDS: usize = 20;

/// How much is done.
#[derive(Clone, Copy)]
struct Amount {
    bytes: usize,
    rounds: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let amount = match arguments.iter().any(|argument| argument == "--bench") {
        true => Amount { bytes: BYTES, rounds: ROUNDS },
        false => Amount { bytes: 1_000_000, rounds: 1 },
    };
    if let Some(at) = arguments.iter().position(|argument| argument == "--rank") {
        let [dir, rank, size] = &arguments[at + 1..at + 4] else { return };
        let (rank, size) = (rank.parse().unwrap(), size.parse().unwrap());
        let link = Arc::new(UnixLink::new(Path::new(dir), rank, size));
        return measure(&group(link, vec![0; size]).unwrap(), amount, "processes");
    }
    if is_first() {
        println!("{:<46} {:>8} {:>8} {:>8}", "", "best ms", "median", "GB/s");
    }
    if ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].iter().any(|name| std::env::var(name).is_ok()) {
        return under_mpi(amount);
    }
    let sizes: &[usize] = if amount.rounds == 1 { &[2] } else { &[2, 4] };
    for size in sizes {
        std::thread::scope(|scope| {
            for comm in threads(*size) {
                scope.spawn(move || measure(&comm, amount, "threads"));
            }
        });
        processes(*size, &arguments[1..]);
    }
}

/// Shared memory, then every byte by MPI in our order, then the library's own sum.
fn under_mpi(amount: Amount) {
    let mpi = Mpi::start().unwrap();
    let (rank, size) = (mpi.rank(), mpi.size());
    let apart = (0..size as u64).collect();
    let mut data = Some(vec![rank as f32; amount.bytes / 4]);
    let comm = group(mpi.clone(), vec![0; size]).unwrap();
    let times = time(&comm, amount.rounds, || {
        data = data.take().map(|data| mpi.mpi_all_reduce(data).unwrap());
    });
    report(&comm, "MPI_Allreduce of the library", 2 * size * amount.bytes, &times);
    measure(&comm, amount, "ranks of mpirun");
    measure(&group(mpi, apart).unwrap(), amount, "ranks by MPI only");
}

/// Runs [`measure`] in processes of this program.
fn processes(size: usize, arguments: &[String]) {
    let dir = tempfile::tempdir().unwrap();
    let start = |rank: usize| -> Child {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(arguments).arg("--rank").arg(dir.path());
        command.args([rank.to_string(), size.to_string()]).spawn().unwrap()
    };
    let children: Vec<Child> = (0..size).map(start).collect();
    children.into_iter().for_each(|mut child| assert!(child.wait().unwrap().success()));
}

fn measure(comm: &Arc<dyn Communicator>, amount: Amount, what: &str) {
    let (rank, size) = (comm.rank(), comm.size());
    let report = |operation: &str, moved, times: Vec<Duration>| {
        report(comm, &format!("{operation}, {what}"), moved, &times);
    };
    let mut data: Vec<f32> = (0..amount.bytes / 4).map(|i| (i % 7 + rank) as f32).collect();
    let parts = Parts::even(data.len(), size, 4096);
    let all = 2 * size * amount.bytes;
    let times = time(comm, amount.rounds, || comm.all_reduce(&mut data).unwrap());
    report("all-reduce", all, times);
    let times = time(comm, amount.rounds, || comm.reduce_scatter(&mut data, &parts).unwrap());
    report("reduce-scatter", (size + 1) * amount.bytes, times);
    let times = time(comm, amount.rounds, || comm.all_gather_parts(&mut data, &parts).unwrap());
    report("all-gather", (size + 1) * amount.bytes, times);
    let times = time(comm, amount.rounds * 50, || comm.all_reduce(&mut [1.0, 2.0]).unwrap());
    report("all-reduce of 8 bytes", 0, times);
}

/// Rank 0 prints a line: `moved` is the least that goes through main memory, in bytes.
fn report(comm: &Arc<dyn Communicator>, name: &str, moved: usize, times: &[Duration]) {
    if comm.rank() == 0 {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (best, median) = (ms(times[0]), ms(times[times.len() / 2]));
        let name = format!("{} ranks: {name}", comm.size());
        let speed = moved as f64 / best / 1e6;
        println!("{name:<46} {best:>8.2} {median:>8.2} {speed:>8.1}");
    }
}

/// Sorted times of every rank's slowest, each after a barrier.
fn time(comm: &Arc<dyn Communicator>, rounds: usize, mut body: impl FnMut()) -> Vec<Duration> {
    body();
    let mut times: Vec<Duration> = (0..rounds)
        .map(|_| {
            comm.barrier().unwrap();
            let start = Instant::now();
            body();
            comm.barrier().unwrap();
            start.elapsed()
        })
        .collect();
    times.sort();
    times
}
