//! Ranks over sockets: on threads of this process, and as processes that die.

mod cases;
mod link_cases;

use std::env;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use neuroshard::collective::socket::{Place, Rendezvous, Socket};
use neuroshard::collective::{Error, Link, group};

/// Longer than a loaded machine needs.
const LONG: Duration = Duration::from_secs(60);
/// Of ranks that are to run out of it.
const SHORT: Duration = Duration::from_secs(2);

/// An address of this host that nobody listens at.
fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn at(place: &Place, rank: usize, ranks: usize) -> Rendezvous {
    Rendezvous { place: place.clone(), job: Some("test".into()), rank, ranks }
}

/// Starts these ranks of `ranks` at the same time.
fn meet(
    place: &Place,
    present: &[usize],
    ranks: usize,
    patience: Duration,
) -> Vec<Result<Arc<Socket>, Error>> {
    let start = |rank| Socket::start(&at(place, rank, ranks), patience);
    thread::scope(|scope| {
        let starting: Vec<_> =
            present.iter().map(|rank| scope.spawn(move || start(*rank))).collect();
        starting.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn met(place: &Place, ranks: usize) -> Vec<Arc<Socket>> {
    let present: Vec<_> = (0..ranks).collect();
    meet(place, &present, ranks, LONG).into_iter().map(Result::unwrap).collect()
}

/// Runs `body` as every rank.
fn run(name: &str, links: &[Arc<Socket>], body: impl Fn(&Arc<Socket>) + Sync) {
    thread::scope(|scope| {
        let running: Vec<_> = links.iter().map(|link| scope.spawn(|| body(link))).collect();
        for (rank, thread) in running.into_iter().enumerate() {
            assert!(thread.join().is_ok(), "{name}: rank {rank} of {}", links.len());
        }
    });
}

#[test]
fn sockets_keep_the_contract_of_links() {
    for ranks in [1, 2, 3, 4] {
        let links = met(&Place::Address(free_address()), ranks);
        for (name, case) in link_cases::ALL {
            run(name, &links, |link| case(link.as_ref()));
        }
    }
}

#[test]
fn groups_over_sockets_keep_the_contract_of_communicators() {
    for ranks in [2, 4] {
        let folder = tempfile::tempdir().unwrap();
        let links = met(&Place::File(folder.path().join("meet")), ranks);
        let left = folder.path().read_dir().unwrap().count();
        assert_eq!(left, 0, "the rendezvous file goes when all have met");
        run("all", &links, |link| {
            let comm = group(link.clone(), (0..ranks as u64).collect()).unwrap();
            cases::ALL.iter().for_each(|(_, case)| case(&comm));
        });
    }
}

#[test]
fn missing_ranks_are_named_to_all_who_came() {
    let folder = tempfile::tempdir().unwrap();
    let places = [Place::Address(free_address()), Place::File(folder.path().join("meet"))];
    for place in places {
        for result in meet(&place, &[0, 2], 4, SHORT) {
            let error = result.unwrap_err().to_string();
            assert!(error.contains("ranks 1, 3 did not come within 2.0 s"), "{error}");
        }
    }
    let left = folder.path().read_dir().unwrap().count();
    assert_eq!(left, 0, "a rendezvous that failed leaves no file");
}

#[test]
fn a_missing_first_rank_is_named_with_the_place() {
    let address = free_address();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("meet");
    let cases = [
        (Place::Address(address.clone()), address),
        (Place::File(file.clone()), format!("a file {}-test", file.display())),
    ];
    for (place, want) in cases {
        let error = meet(&place, &[1], 2, SHORT).remove(0).unwrap_err().to_string();
        assert!(error.contains("rank 0 is missing") && error.contains(&want), "{error}");
    }
}

#[test]
fn a_dead_file_of_an_earlier_attempt_is_said_to_be_one() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::File(folder.path().join("meet"));
    let rendezvous = at(&place, 1, 2);
    let file = rendezvous.file(&folder.path().join("meet"));
    let nobody = free_address().parse().unwrap();
    rendezvous.publish(&file, &[1; 16], vec![nobody]).unwrap();
    let error = meet(&place, &[1], 2, SHORT).remove(0).unwrap_err().to_string();
    assert!(error.contains("rank 0 is missing") && error.contains("meet-test says"), "{error}");
    // With rank 0 there, the old file does not matter.
    assert_eq!(met(&place, 2).len(), 2);
}

#[test]
fn a_file_of_another_job_stops_every_rank() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("meet");
    let other = Rendezvous { job: Some("other".into()), ..at(&Place::File(path.clone()), 0, 2) };
    // The same name, as when a user gives one to two jobs.
    let file = at(&Place::File(path.clone()), 0, 2).file(&path);
    other.publish(&file, &[1; 16], Vec::new()).unwrap();
    for result in meet(&Place::File(path), &[0, 1], 2, LONG) {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("belongs to job other"), "{error}");
    }
}

#[test]
fn strangers_are_refused_and_the_job_goes_on() {
    let address = free_address();
    let place = Place::Address(address.clone());
    thread::scope(|scope| {
        let first = scope.spawn(|| meet(&place, &[0], 2, LONG).remove(0));
        // Bytes of another protocol, silence, and a caller that hangs up.
        let mut garbage = connect(&address);
        garbage.write_all(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n").unwrap();
        let silent = connect(&address);
        drop(connect(&address));
        let refused =
            |rendezvous: Rendezvous| Socket::start(&rendezvous, LONG).unwrap_err().to_string();
        let other_job = Rendezvous { job: Some("other".into()), ..at(&place, 1, 2) };
        let error = refused(other_job);
        assert!(error.contains("belongs to another job"), "{error}");
        let error = refused(at(&place, 1, 3));
        assert!(error.contains("this job has 2 ranks, the caller's 3"), "{error}");
        let second = meet(&place, &[1], 2, LONG).remove(0).unwrap();
        let first = first.join().unwrap().unwrap();
        run("sizes", &[first, second], |link| link_cases::ALL[0].1(link.as_ref()));
        drop(silent);
    });
}

/// A connection, as soon as somebody listens.
fn connect(address: &str) -> TcpStream {
    for _ in 0..600 {
        if let Ok(stream) = TcpStream::connect(address) {
            return stream;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("nobody listens at {address}");
}

#[test]
fn a_second_process_of_the_same_rank_is_refused() {
    let place = Place::Address(free_address());
    thread::scope(|scope| {
        let start = |rank| {
            let place = &place;
            scope.spawn(move || Socket::start(&at(place, rank, 3), LONG))
        };
        let (first, twins) = (start(0), [start(1), start(1)]);
        // Whichever came second is told at once, although rank 2 is not there yet.
        while !twins.iter().any(|twin| twin.is_finished()) {
            thread::sleep(Duration::from_millis(10));
        }
        let third = start(2);
        let ends = twins.map(|twin| twin.join().unwrap());
        let errors: Vec<_> = ends.iter().filter_map(|end| end.as_ref().err()).collect();
        assert_eq!(errors.len(), 1, "{errors:?}");
        let error = errors[0].to_string();
        assert!(error.contains("there is a rank 1 already"), "{error}");
        assert_eq!(first.join().unwrap().unwrap().size(), 3);
        third.join().unwrap().unwrap();
    });
}

#[test]
fn a_rank_that_ends_is_lost_to_the_others_at_once() {
    let mut links = met(&Place::Address(free_address()), 3);
    let waiting = links[0].receive(2, 5, 10);
    drop(links[2].send(0, 6, vec![1, 2, 3]));
    drop(links.pop());
    assert!(matches!(waiting.wait(LONG), Err(Error::Lost { rank: 2 })));
    // What it sent before is not.
    assert_eq!(links[0].receive(2, 6, 3).wait(LONG).unwrap(), [1, 2, 3]);
    assert!(matches!(links[1].receive(2, 5, 10).wait(LONG), Err(Error::Lost { rank: 2 })));
    // The others go on.
    drop(links[1].send(0, 7, vec![4]));
    assert_eq!(links[0].receive(1, 7, 1).wait(LONG).unwrap(), [4]);
}

/// Not a test of its own: a rank as a process, for the tests below.
#[test]
fn rank_as_a_process() {
    let Ok(mode) = env::var("NEUROSHARD_TEST_MODE") else { return };
    let how = neuroshard::collective::Start { run_dir: env::temp_dir(), patience: LONG };
    let job = match neuroshard::collective::start(&how) {
        Ok(job) => job,
        Err(error) => {
            eprintln!("{error}");
            std::process::exit(3);
        }
    };
    let (world, last) = (&job.world, job.world.size() - 1);
    world.barrier().unwrap();
    println!("up, {} ranks over {}", world.size(), job.door);
    if world.rank() == last {
        match mode.as_str() {
            "abort" => world.abort(9),
            "panic" => panic!("rank {last} panics, as the test wants"),
            "done" => return,
            _ => thread::sleep(LONG),
        }
    }
    let error = match world.receive(last, 3, 1).wait(LONG) {
        Err(error) => error,
        Ok(_) => unreachable!("nothing was sent"),
    };
    eprintln!("rank {} noticed: {error}", world.rank());
    std::process::exit(7);
}

fn spawn(mode: &str, rank: usize, ranks: usize, rendezvous: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "rank_as_a_process", "--nocapture"])
        .env("NEUROSHARD_TEST_MODE", mode)
        .env("NEUROSHARD_RENDEZVOUS", rendezvous)
        .env("NEUROSHARD_RANK", rank.to_string())
        .env("NEUROSHARD_RANKS", ranks.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn processes(mode: &str, folder: &Path) -> Vec<Child> {
    let rendezvous = format!("file://{}", folder.join("meet").display());
    (0..3).map(|rank| spawn(mode, rank, 3, &rendezvous)).collect()
}

fn ends(children: Vec<Child>) -> Vec<(Option<i32>, String)> {
    let text = |output: Output| {
        let both = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&both).into_owned())
    };
    children.into_iter().map(|child| text(child.wait_with_output().unwrap())).collect()
}

#[test]
fn an_abort_ends_every_process_with_its_code() {
    let folder = tempfile::tempdir().unwrap();
    for (code, text) in ends(processes("abort", folder.path())) {
        assert_eq!(code, Some(9), "{text}");
    }
}

#[test]
fn a_panic_ends_every_process() {
    let folder = tempfile::tempdir().unwrap();
    for (code, text) in ends(processes("panic", folder.path())) {
        assert_eq!(code, Some(101), "{text}");
    }
}

#[test]
fn a_killed_process_is_named_by_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut children = processes("wait", folder.path());
    let mut last = children.pop().unwrap();
    // It is killed when it says that all have met.
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(last.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("up, 3 ranks over sockets")));
    last.kill().unwrap();
    last.wait().unwrap();
    for (code, text) in ends(children) {
        assert_eq!(code, Some(7), "{text}");
        assert!(text.contains("noticed: rank 2 is gone"), "{text}");
    }
}
