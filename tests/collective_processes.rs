//! The contract of communicators among processes of one host, which share memory; and ranks that
//! are killed or stopped. Without libtest: this program starts itself as every rank.

mod cases;
#[path = "processes/unix_link.rs"]
mod unix_link;

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cases::Case;
use neuroshard::collective::{Communicator, Error, group};
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use unix_link::UnixLink;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let [_, flag, dir, rank, size, case] = &arguments[..]
        && flag == "--rank"
    {
        return be_a_rank(Path::new(dir), rank.parse().unwrap(), size.parse().unwrap(), case);
    }
    // Cargo may ask for a list, or pass a filter.
    if arguments.iter().any(|argument| argument == "--list") {
        return;
    }
    for size in [2, 3, 4] {
        run(size, "contract", |_| Some(0));
    }
    for (name, _) in cases::FAILURES {
        run(4, name, |_| Some(0));
    }
    run(4, "killed", |rank| (rank != KILLED).then_some(0));
    run(4, "a_rank_that_cannot_map", |_| Some(0));
    println!("test result: ok");
}

/// Starts a rank per process; each must end with the status that `expected` gives.
fn run(size: usize, case: &str, expected: impl Fn(usize) -> Option<i32>) {
    let dir = tempfile::tempdir().unwrap();
    let start = |rank: usize| -> Child {
        let (rank, size) = (rank.to_string(), size.to_string());
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--rank").arg(dir.path()).args([&rank, &size, case]).spawn().unwrap()
    };
    let children: Vec<Child> = (0..size).map(start).collect();
    let mut wrong = Vec::new();
    for (rank, mut child) in children.into_iter().enumerate() {
        let status = child.wait().unwrap();
        if status.code() != expected(rank) {
            wrong.push(format!("rank {rank} ended with {status}, signal {:?}", status.signal()));
        }
    }
    assert!(wrong.is_empty(), "{case} on {size} processes: {}", wrong.join("; "));
    println!("test {case} on {size} processes ... ok");
}

fn be_a_rank(dir: &Path, rank: usize, size: usize, case: &str) {
    let link = Arc::new(UnixLink::new(dir, rank, size));
    let files = getrlimit(Resource::Nofile);
    if case == "a_rank_that_cannot_map" && rank == 1 {
        // It may open nothing more, so not its host's memory either.
        setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..files }).unwrap();
    }
    let comm = group(link, vec![0; size]).unwrap();
    setrlimit(Resource::Nofile, files).unwrap();
    match case {
        "contract" => {
            assert!(comm.describe().contains("shared memory"), "{}", comm.describe());
            cases::ALL.iter().for_each(|(_, case)| case(&comm));
        }
        "killed" => one_is_killed(&comm),
        "a_rank_that_cannot_map" => falls_back(&comm),
        _ => {
            let (_, case): &(_, Case) = cases::FAILURES.iter().find(|(n, _)| *n == case).unwrap();
            case(&comm);
        }
    }
}

const KILLED: usize = 2;

/// A rank is killed in the middle of a sum; the others notice long before their patience ends.
fn one_is_killed(comm: &Arc<dyn Communicator>) {
    let mut data = vec![1.0; 1 << 20];
    for _ in 0..3 {
        comm.all_reduce(&mut data).unwrap();
    }
    if comm.rank() == KILLED {
        kill_process(getpid(), Signal::KILL).unwrap();
    }
    let start = Instant::now();
    let result = comm.all_reduce(&mut data);
    assert!(matches!(result, Err(Error::Lost { rank: KILLED })), "{result:?}");
    // Patience is minutes here: what is measured is that nobody waits for it.
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
}

/// Where memory cannot be shared the link serves, for all ranks, and the description tells.
fn falls_back(comm: &Arc<dyn Communicator>) {
    let described = comm.describe();
    assert!(described.contains("warning: no shared memory: rank 1"), "{described}");
    cases::ALL.iter().for_each(|(_, case)| case(comm));
}
