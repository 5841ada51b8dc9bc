//! What every communicator must do, whatever carries its bytes: bodies that each rank runs at the
//! same time. `tests/collective.rs` runs them on threads; other targets on processes.
#![allow(dead_code, reason = "each target runs some of the lists")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use neuroshard::collective::{Communicator, Error, Lane, Parts};

/// A body, run by every rank.
pub type Case = fn(&Arc<dyn Communicator>);

/// The contract. Each body leaves the communicator as it found it.
pub const ALL: &[(&str, Case)] = &[
    ("sums_follow_the_tree_to_the_bit", sums_follow_the_tree_to_the_bit),
    ("sums_of_every_length", sums_of_every_length),
    ("sums_scatter_over_uneven_and_empty_parts", sums_scatter_over_uneven_and_empty_parts),
    ("parts_gather", parts_gather),
    ("bytes_gather", bytes_gather),
    ("every_root_broadcasts", every_root_broadcasts),
    ("a_barrier_waits_for_all", a_barrier_waits_for_all),
    ("messages_keep_their_order_and_tags", messages_keep_their_order_and_tags),
    ("groups_split", groups_split),
    ("groups_work_at_the_same_time", groups_work_at_the_same_time),
    ("lanes_sum_beside_the_rank", lanes_sum_beside_the_rank),
    ("own_mistakes_are_refused", own_mistakes_are_refused),
];

/// How ranks fail each other. Each body is for two or more ranks and ends its communicator, but no
/// rank.
pub const FAILURES: &[(&str, Case)] = &[
    ("another_length_is_out_of_step", another_length_is_out_of_step),
    ("another_operation_is_out_of_step", another_operation_is_out_of_step),
    ("other_parts_are_out_of_step", other_parts_are_out_of_step),
    ("a_skipped_call_is_out_of_step", a_skipped_call_is_out_of_step),
    ("a_silent_rank_is_named", a_silent_rank_is_named),
];

/// A value of rank `rank` whose sums round differently in every order.
fn term(rank: usize, i: usize) -> f32 {
    let x = (rank * 2_654_435_761 + i * 40_503 + 12_345) % 65_521;
    let scale = [1.0e8, 1.0, 1.0e-3, -1.0e8, 3.0e4][(rank * 3 + i) % 5];
    (x as f32 / 65_521.0 - 0.5) * scale
}

fn terms(rank: usize, len: usize) -> Vec<f32> {
    (0..len).map(|i| term(rank, i)).collect()
}

/// The sum of `range` of ranks at `i`, by the definition: the tree splits at powers of two.
fn sum_of(first: usize, ranks: usize, i: usize) -> f32 {
    if ranks == 1 {
        return term(first, i);
    }
    let left = ranks.next_power_of_two() / 2;
    sum_of(first, left, i) + sum_of(first + left, ranks - left, i)
}

fn assert_sums(got: &[f32], start: usize, ranks: usize) {
    for (i, got) in got.iter().enumerate() {
        let want = sum_of(0, ranks, start + i);
        assert_eq!(got.to_bits(), want.to_bits(), "element {}: {got} {want}", start + i);
    }
}

fn sums_follow_the_tree_to_the_bit(comm: &Arc<dyn Communicator>) {
    let mut data = terms(comm.rank(), 10_007);
    comm.all_reduce(&mut data).unwrap();
    assert_sums(&data, 0, comm.size());
    if comm.size() > 2 {
        // The values are such that a chain down the ranks would give something else.
        let last = comm.size() - 1;
        let chain = |i| (0..last).rev().fold(term(last, i), |sum, r| sum + term(r, i));
        assert!((0..data.len()).any(|i| chain(i).to_bits() != data[i].to_bits()));
    }
}

fn sums_of_every_length(comm: &Arc<dyn Communicator>) {
    // None; one; fewer than ranks; a tail; in the header and past it; several pieces of a transfer.
    for len in [0, 1, 2, 3, 15, 16, 17, 31, 33, 4_095, 65_536, 300_001, 1_100_003] {
        let mut data = terms(comm.rank(), len);
        comm.all_reduce(&mut data).unwrap();
        assert_sums(&data, 0, comm.size());
    }
}

/// Divisions of some elements among `ranks`: even, in blocks, all at one rank, every other empty.
fn divisions(ranks: usize) -> Vec<Parts> {
    let mut found = Vec::new();
    for len in [0, 5, 4_097, 150_001, 1_000_000] {
        found.extend([1, 16, 4_096, 100_000].map(|block| Parts::even(len, ranks, block)));
    }
    found
}

fn sums_scatter_over_uneven_and_empty_parts(comm: &Arc<dyn Communicator>) {
    for parts in divisions(comm.size()) {
        let mut data = terms(comm.rank(), parts.len());
        comm.reduce_scatter(&mut data, &parts).unwrap();
        let own = parts.of(comm.rank());
        assert_sums(&data[own.clone()], own.start, comm.size());
    }
}

fn parts_gather(comm: &Arc<dyn Communicator>) {
    for parts in divisions(comm.size()) {
        let mut data = vec![f32::NAN; parts.len()];
        data[parts.of(comm.rank())].fill(comm.rank() as f32);
        comm.all_gather_parts(&mut data, &parts).unwrap();
        for rank in 0..comm.size() {
            assert!(data[parts.of(rank)].iter().all(|x| *x == rank as f32));
        }
    }
}

fn byte(rank: usize, i: usize) -> u8 {
    (rank * 31 + i * 7) as u8
}

fn bytes_gather(comm: &Arc<dyn Communicator>) {
    for len in [0, 1, 3, 128, 129, 70_001, 2_500_001] {
        let mine: Vec<u8> = (0..len).map(|i| byte(comm.rank(), i)).collect();
        let mut all = vec![0xee; comm.size() * len];
        comm.all_gather(&mine, &mut all).unwrap();
        for (i, got) in all.iter().enumerate() {
            assert_eq!(*got, byte(i / len, i % len), "byte {i} of {len} each");
        }
    }
}

fn every_root_broadcasts(comm: &Arc<dyn Communicator>) {
    for root in 0..comm.size() {
        for len in [0, 1, 128, 129, 100_003, 2_500_001] {
            let mine = |i| if comm.rank() == root { byte(root, i) } else { 0xee };
            let mut bytes: Vec<u8> = (0..len).map(mine).collect();
            comm.broadcast(root, &mut bytes).unwrap();
            assert!(bytes.iter().enumerate().all(|(i, b)| *b == byte(root, i)), "{root} {len}");
        }
    }
}

fn a_barrier_waits_for_all(comm: &Arc<dyn Communicator>) {
    // Everybody is told that rank 0 enters only after its pause, by a message sent before that.
    comm.barrier().unwrap();
    let pause = Duration::from_millis(50);
    let start = Instant::now();
    if comm.rank() == 0 {
        std::thread::sleep(pause);
    }
    comm.barrier().unwrap();
    // The others may have left the first barrier a little later than rank 0.
    assert!(start.elapsed() > pause / 5, "rank {} did not wait", comm.rank());
}

fn messages_keep_their_order_and_tags(comm: &Arc<dyn Communicator>) {
    let (rank, size) = (comm.rank(), comm.size());
    let (to, from) = ((rank + 1) % size, (rank + size - 1) % size);
    let patience = Duration::from_secs(60);
    let message = |rank: usize, tag: u32, i: usize| vec![byte(rank + tag as usize, i); i * 1000];
    let mut sent = Vec::new();
    for i in 0..20 {
        for tag in [0, 7, 4_087] {
            sent.push(comm.send(to, tag, message(rank, tag, i)));
        }
    }
    for tag in [4_087, 0, 7] {
        for i in 0..20 {
            let got = comm.receive(from, tag, i * 1000).wait(patience).unwrap();
            assert_eq!(got, message(from, tag, i));
        }
    }
    sent.into_iter().for_each(|request| drop(request.wait(patience).unwrap()));
    // Receives started before the sends, and polled.
    let mut receiving = comm.receive(from, 9, 5);
    comm.send(to, 9, vec![rank as u8; 5]).wait(patience).unwrap();
    let start = Instant::now();
    let got = loop {
        match receiving.poll() {
            Some(got) => break got.unwrap(),
            None => assert!(start.elapsed() < patience, "the message does not come"),
        }
        std::thread::yield_now();
    };
    assert_eq!(got, vec![from as u8; 5]);
}

fn groups_split(comm: &Arc<dyn Communicator>) {
    let (rank, size) = (comm.rank(), comm.size());
    let columns = if size.is_multiple_of(2) { size / 2 } else { size };
    for color in [rank % columns, rank / columns, 0, rank] {
        let part = comm.split(color).unwrap();
        let mut ranks = vec![0u64; part.size()];
        let mine = [rank as u64];
        part.all_gather(bytemuck::cast_slice(&mine), bytemuck::cast_slice_mut(&mut ranks)).unwrap();
        assert!(ranks.is_sorted());
        assert_eq!(ranks[part.rank()], rank as u64);
        let mut sum = [1.0f32, rank as f32];
        part.all_reduce(&mut sum).unwrap();
        assert_eq!(sum, [part.size() as f32, ranks.iter().sum::<u64>() as f32]);
        // A split of a split.
        let again = part.split(part.rank() % 2).unwrap();
        let mut sum = [1.0];
        again.all_reduce(&mut sum).unwrap();
        assert_eq!(sum, [again.size() as f32]);
    }
}

fn groups_work_at_the_same_time(comm: &Arc<dyn Communicator>) {
    let (rank, size) = (comm.rank(), comm.size());
    let groups = [comm.clone(), comm.split(0).unwrap(), comm.split(0).unwrap()];
    std::thread::scope(|scope| {
        for (number, group) in groups.into_iter().enumerate() {
            scope.spawn(move || {
                for round in 0..60 {
                    let len = 1 + (round * 997 + number * 331) % 5_000;
                    let mut data = vec![(rank + number) as f32; len];
                    group.all_reduce(&mut data).unwrap();
                    let want = (size * (size - 1) / 2 + size * number) as f32;
                    assert!(data.iter().all(|x| *x == want), "group {number}, round {round}");
                    let (to, from) = ((rank + 1) % size, (rank + size - 1) % size);
                    let sent = group.send(to, 1, vec![number as u8; len]);
                    let got = group.receive(from, 1, len).wait(Duration::from_secs(60)).unwrap();
                    assert!(got.iter().all(|b| *b == number as u8));
                    sent.wait(Duration::from_secs(60)).unwrap();
                }
            });
        }
    });
}

fn lanes_sum_beside_the_rank(comm: &Arc<dyn Communicator>) {
    let lane = Lane::new(comm.split(0).unwrap()).unwrap();
    let rank = comm.rank();
    let tickets: Vec<_> = (0..20)
        .map(|bucket| {
            let mut data = terms(rank, 1_000 * bucket);
            lane.submit(move |comm| comm.all_reduce(&mut data).map(|()| data))
        })
        .collect();
    // Meanwhile the rank goes on talking in its own group.
    let mut data = terms(rank, 50_000);
    comm.all_reduce(&mut data).unwrap();
    assert_sums(&data, 0, comm.size());
    for ticket in tickets {
        assert_sums(&ticket.wait().unwrap(), 0, comm.size());
    }
}

/// Refused before anything is sent, so the group lives on.
fn own_mistakes_are_refused(comm: &Arc<dyn Communicator>) {
    let size = comm.size();
    let group = |result| assert!(matches!(result, Err(Error::Group { .. })), "{result:?}");
    group(comm.broadcast(size, &mut [0]));
    group(comm.all_gather(&[0; 3], &mut vec![0; 3 * size + 1]));
    group(comm.reduce_scatter(&mut [0.0; 3], &Parts::even(4, size, 1)));
    group(comm.all_gather_parts(&mut [0.0; 3], &Parts::even(3, size + 1, 1)));
    let soon = Duration::from_secs(5);
    group(comm.send(size, 0, vec![]).wait(soon).map(drop));
    group(comm.send(0, 1 << 23, vec![]).wait(soon).map(drop));
    group(comm.receive(size, 0, 0).wait(soon).map(drop));
    comm.barrier().unwrap();
}

/// Every rank fails; the ranks that did right name `odd`. Two ranks name each other.
fn assert_out_of_step(comm: &Arc<dyn Communicator>, odd: usize, result: Result<(), Error>) {
    let Err(Error::OutOfStep { rank, what }) = &result else {
        panic!("rank {}: {result:?}", comm.rank());
    };
    if comm.rank() != odd {
        assert_eq!(*rank, odd, "rank {} says: {what}", comm.rank());
    }
    // The group stays refused: a sum that follows cannot be wrong.
    assert!(comm.barrier().is_err());
}

fn another_length_is_out_of_step(comm: &Arc<dyn Communicator>) {
    let odd = comm.size() - 1;
    let mut data = vec![1.0; if comm.rank() == odd { 1_000_001 } else { 1_000_000 }];
    let result = comm.all_reduce(&mut data);
    assert_out_of_step(comm, odd, result);
}

fn another_operation_is_out_of_step(comm: &Arc<dyn Communicator>) {
    let odd = comm.size() / 2;
    let result = if comm.rank() == odd {
        comm.broadcast(0, &mut [1; 400])
    } else {
        comm.all_reduce(&mut [1.0; 100])
    };
    assert_out_of_step(comm, odd, result);
}

fn other_parts_are_out_of_step(comm: &Arc<dyn Communicator>) {
    let block = if comm.rank() == 0 { 100 } else { 64 };
    let parts = Parts::even(1_000, comm.size(), block);
    let result = comm.reduce_scatter(&mut vec![1.0; 1_000], &parts);
    assert_out_of_step(comm, 0, result);
}

fn a_skipped_call_is_out_of_step(comm: &Arc<dyn Communicator>) {
    // Rank 0 leaves out one of two equal calls: its sum would be of another step.
    if comm.rank() == 0 {
        let result = comm.all_gather_parts(&mut [1.0; 64], &Parts::even(64, comm.size(), 1));
        assert_out_of_step(comm, 0, result);
    } else {
        let first = comm.all_reduce(&mut [1.0; 64]);
        let result = first.and_then(|()| comm.all_reduce(&mut [1.0; 64]));
        assert_out_of_step(comm, 0, result);
    }
}

fn a_silent_rank_is_named(comm: &Arc<dyn Communicator>) {
    let patience = Duration::from_secs(2);
    comm.barrier().unwrap();
    comm.set_patience(patience);
    let silent = comm.size() - 1;
    let start = Instant::now();
    if comm.rank() == silent {
        std::thread::sleep(2 * patience);
    }
    let result = comm.all_reduce(&mut [1.0; 3]);
    match &result {
        Err(Error::Silent { ranks, .. }) if comm.rank() != silent => {
            assert_eq!(ranks, &[silent]);
            // Another rank's patience may have begun, and ended, a little earlier.
            assert!(start.elapsed() >= patience / 2, "before its patience ended");
        }
        // The silent one is told when it comes back.
        Err(_) if comm.rank() == silent => {}
        _ => panic!("rank {}: {result:?}", comm.rank()),
    }
}
