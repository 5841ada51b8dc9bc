//! The contract of communicators, on threads.

mod cases;

use std::sync::Arc;

use cases::Case;
use neuroshard::collective::{Communicator, Error, channels, group, single, threads};

/// Runs `body` as every rank; a panic of one is the test's.
fn run(name: &str, ranks: Vec<Arc<dyn Communicator>>, body: Case) {
    let size = ranks.len();
    std::thread::scope(|scope| {
        let start = |comm: Arc<dyn Communicator>| scope.spawn(move || body(&comm));
        let running: Vec<_> = ranks.into_iter().map(start).collect();
        for (rank, thread) in running.into_iter().enumerate() {
            assert!(thread.join().is_ok(), "{name}: rank {rank} of {size}");
        }
    });
}

/// Ranks in this process that believe to run on these hosts.
fn on_hosts(hosts: &[u64]) -> Vec<Arc<dyn Communicator>> {
    std::thread::scope(|scope| {
        let form = |link| move || group(link, hosts.to_vec()).unwrap();
        let forming: Vec<_> =
            channels(hosts.len()).into_iter().map(|link| scope.spawn(form(link))).collect();
        forming.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn apart(ranks: usize) -> Vec<Arc<dyn Communicator>> {
    on_hosts(&(0..ranks as u64).collect::<Vec<_>>())
}

#[test]
fn a_single_rank_keeps_the_contract() {
    for (name, case) in cases::ALL {
        run(name, vec![single()], *case);
    }
}

#[test]
fn threads_keep_the_contract() {
    for ranks in [1, 2, 3, 4, 8] {
        for (name, case) in cases::ALL {
            run(name, threads(ranks), *case);
        }
    }
}

#[test]
fn ranks_apart_keep_the_contract() {
    for ranks in [2, 3, 4, 5, 8] {
        for (name, case) in cases::ALL {
            run(name, apart(ranks), *case);
        }
    }
}

/// Layouts of ranks on hosts: 2 x 2; 2 x 4; 4 x 2; one host apart; round robin; uneven.
const LAYOUTS: &[&[u64]] = &[
    &[7, 7, 3, 3],
    &[1, 1, 1, 1, 2, 2, 2, 2],
    &[1, 1, 2, 2, 3, 3, 4, 4],
    &[1, 1, 1, 2],
    &[1, 2, 1, 2],
    &[1, 1, 2, 2, 3, 3],
    &[1, 1, 1, 1, 2, 2],
];

#[test]
fn ranks_on_several_hosts_keep_the_contract() {
    for hosts in LAYOUTS {
        for (name, case) in cases::ALL {
            run(&format!("{name} on {hosts:?}"), on_hosts(hosts), *case);
        }
    }
}

#[test]
fn failures_are_named() {
    for (name, case) in cases::FAILURES {
        // At the same time, as ranks mostly wait here.
        std::thread::scope(|scope| {
            for ranks in [2, 3, 4, 8] {
                scope.spawn(move || run(&format!("{name}, threads"), threads(ranks), *case));
                scope.spawn(move || run(&format!("{name}, apart"), apart(ranks), *case));
            }
            for hosts in LAYOUTS {
                let name = format!("{name} on {hosts:?}");
                scope.spawn(move || run(&name, on_hosts(hosts), *case));
            }
        });
    }
}

/// The last rank goes; the others are in a sum.
fn a_lost_rank_is_named(ranks: Vec<Arc<dyn Communicator>>) {
    let lost = ranks.len() - 1;
    std::thread::scope(|scope| {
        for (rank, comm) in ranks.into_iter().enumerate() {
            scope.spawn(move || {
                comm.barrier().unwrap();
                if rank == lost {
                    return;
                }
                let result = comm.all_reduce(&mut [1.0; 5]);
                assert!(matches!(result, Err(Error::Lost { rank }) if rank == lost), "{result:?}");
            });
        }
    });
}

#[test]
fn lost_ranks_are_named() {
    for ranks in [2, 3, 4, 8] {
        a_lost_rank_is_named(threads(ranks));
        a_lost_rank_is_named(apart(ranks));
    }
    LAYOUTS.iter().for_each(|hosts| a_lost_rank_is_named(on_hosts(hosts)));
}
