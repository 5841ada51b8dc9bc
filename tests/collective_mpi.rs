//! Ranks over a real MPI. `scripts/test-mpi.sh` runs this program under the launchers that are
//! installed, on 1 to 4 ranks, and each way to end badly; plain `cargo test` runs it as one rank.
//!
//! A job of this program ends with exit code 0, or with the code that its argument says.

mod cases;
mod link_cases;

use std::env;
use std::process;
use std::sync::Arc;
use std::time::Duration;

use neuroshard::collective::mpi::Mpi;
use neuroshard::collective::{Binding, Link, Oversubscription, Start, Wish, bind, group};

fn main() {
    // Arguments of the test harness, such as a filter, are none of ours.
    let mode = env::var("NEUROSHARD_TEST_MODE").unwrap_or_else(|_| "cases".into());
    if mode == "start" {
        return start();
    }
    let launched = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"].iter().any(|name| env::var(name).is_ok());
    let link = match Mpi::start() {
        Ok(link) => link,
        Err(error) if !launched && error.to_string().contains("no MPI library") => {
            println!("SKIPPED LOUDLY: MPI is not tested, because it is not installed. {error}");
            return;
        }
        Err(error) => {
            eprintln!("{error}");
            process::exit(START_FAILED);
        }
    };
    match mode.as_str() {
        "cases" => cases(&link),
        "failures" => failure(&link),
        "panic" => panic_on_the_last(&link),
        "abort" => abort_on_the_last(&link),
        "leave" => leave_early(&link),
        "wait" => wait_for_ever(&link),
        other => panic!("NEUROSHARD_TEST_MODE={other} is not known"),
    }
}

/// The contract of links, then that of communicators: with the ranks' true host, and as if each had a host
/// of its own, so that every byte goes by MPI.
fn cases(link: &Arc<Mpi>) {
    let ok = |name: &str, how: &str| {
        if link.rank() == 0 {
            println!("test {name} on {} ranks{how} ... ok", link.size());
        }
    };
    for (name, case) in link_cases::ALL {
        case(link.as_ref());
        ok(name, ", link");
    }
    let together = vec![0; link.size()];
    let apart = (0..link.size() as u64).collect();
    for (hosts, how) in [(together, ", one host"), (apart, ", hosts apart")] {
        let comm = group(link.clone(), hosts).unwrap();
        for (name, case) in cases::ALL {
            case(&comm);
            ok(name, how);
        }
    }
    library_sum_is_there_to_compare_with(link);
    if link.rank() == 0 {
        println!("all cases ok on {} ranks over {}", link.size(), link.describe());
    }
}

/// One of the ways in which ranks fail each other, in a job of its own, because messages are left over.
fn failure(link: &Arc<Mpi>) {
    let index: usize = env::var("NEUROSHARD_TEST_FAILURE").unwrap().parse().unwrap();
    let Some((name, case)) = cases::FAILURES.get(index) else {
        println!("no such failure");
        link.abort(NO_SUCH_CASE);
    };
    let comm = group(link.clone(), (0..link.size() as u64).collect()).unwrap();
    case(&comm);
    println!("rank {} ok in {name}", link.rank());
    // Nobody ends before all have said so.
    let tag = 1 << 23;
    for peer in 0..link.size() {
        link.send(peer, tag, Vec::new()).wait(LONG).unwrap();
    }
    for peer in 0..link.size() {
        link.receive(peer, tag, 0).wait(LONG).unwrap();
    }
    link.abort(FAILED_AS_IT_SHOULD);
}

/// The way in which the program itself starts.
fn start() {
    let how = Start { run_dir: env::temp_dir(), patience: LONG };
    let job = match neuroshard::collective::start(&how) {
        Ok(job) => job,
        Err(error) => {
            if neuroshard::collective::is_first() {
                eprintln!("{error}");
            }
            process::exit(START_FAILED);
        }
    };
    let mut ranks = vec![0; job.world.size()];
    job.world.all_gather(&[job.world.rank() as u8], &mut ranks).unwrap();
    assert!(ranks.iter().enumerate().all(|(i, rank)| i == *rank as usize), "{ranks:?}");
    assert_eq!(job.hosts.local_ranks().len(), job.world.size(), "one host");
    assert_eq!(job.hosts.local_rank(), job.world.rank());
    let threads = env::var("NEUROSHARD_TEST_THREADS").map_or(1, |threads| threads.parse().unwrap());
    let oversubscription = match threads {
        1 => Oversubscription::Allow,
        _ => Oversubscription::Refuse,
    };
    let wish = Wish { threads, binding: Binding::Bind, oversubscription };
    match bind(&job, &wish) {
        Ok(bound) => println!("{}", bound.line),
        Err(error) => {
            println!("refused: {error}");
            // All are refused, and leave as they would at the end.
            return;
        }
    }
    if job.world.rank() == 0 {
        println!("started {} ranks over {}", job.world.size(), job.door);
    }
}

fn library_sum_is_there_to_compare_with(link: &Mpi) {
    let mine: Vec<f32> = (0..1000).map(|i| (i * (link.rank() + 1)) as f32).collect();
    let sum = link.mpi_all_reduce(mine).unwrap();
    let ranks: usize = (1..=link.size()).sum();
    assert!(sum.iter().enumerate().all(|(i, x)| *x == (i * ranks) as f32));
}

/// The others wait for a message of the last rank, which panics on a thread of its own.
fn panic_on_the_last(link: &Arc<Mpi>) {
    let last = link.size() - 1;
    if link.rank() == last {
        let _ = std::thread::spawn(|| panic!("the last rank panics, as the test wants")).join();
        unreachable!("the job outlived a panic");
    }
    let end = link.receive(last, 0, 1).wait(LONG);
    unreachable!("the job outlived a panic of rank {last}: {end:?}");
}

fn abort_on_the_last(link: &Arc<Mpi>) {
    let last = link.size() - 1;
    if link.rank() == last {
        link.abort(9);
    }
    let end = link.receive(last, 0, 1).wait(LONG);
    unreachable!("the job outlived an abort of rank {last}: {end:?}");
}

/// The last rank ends as if all were well; the others learn that it is gone.
fn leave_early(link: &Arc<Mpi>) {
    let last = link.size() - 1;
    if link.rank() == last {
        return;
    }
    let error = link.receive(last, 0, 1).wait(LONG).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("rank {last} is gone: its process ended or its connection broke")
    );
    println!("rank {} noticed: {error}", link.rank());
    link.abort(7);
}

/// Until somebody kills a rank.
fn wait_for_ever(link: &Arc<Mpi>) {
    println!("rank {} has process {}", link.rank(), process::id());
    let peer = (link.rank() + 1) % link.size();
    let end = link.receive(peer, 0, 1).wait(LONG);
    unreachable!("the job outlived a killed rank: {end:?}");
}

/// Longer than any job of this test may last.
const LONG: Duration = Duration::from_secs(120);
/// The exit code of a rank that could not start.
const START_FAILED: i32 = 3;
const NO_SUCH_CASE: i32 = 4;
const FAILED_AS_IT_SHOULD: i32 = 5;
