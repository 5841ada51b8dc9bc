//! What every [`Link`] promises: bodies that each door's test runs on every rank.

use std::time::Duration;

use neuroshard::collective::{Error, Link, Request};

/// A body, run by every rank.
pub type Case = fn(&dyn Link);

/// Every body, by name. Run on all ranks of a job, in this order.
pub const ALL: &[(&str, Case)] = &[
    ("sizes_from_none_to_megabytes", sizes_from_none_to_megabytes),
    ("one_tag_keeps_its_order", one_tag_keeps_its_order),
    ("tags_are_told_apart", tags_are_told_apart),
    ("many_messages_in_both_directions_at_once", many_messages_in_both_directions_at_once),
    ("messages_may_come_before_they_are_wanted", messages_may_come_before_they_are_wanted),
    ("a_dropped_request_still_takes_its_message", a_dropped_request_still_takes_its_message),
    ("another_length_is_an_error_and_the_link_goes_on", another_length_is_an_error),
    ("ranks_and_tags_that_do_not_exist_are_refused", ranks_and_tags_are_bounded),
];

const PATIENCE: Duration = Duration::from_secs(60);
const LARGEST_TAG: u32 = (1 << 24) - 1;

fn wait(request: Request) -> Vec<u8> {
    let peer = request.peer();
    request.wait(PATIENCE).unwrap_or_else(|e| panic!("with rank {peer}: {e}"))
}

/// Bytes that tell their sender, receiver and number.
fn paint(len: usize, from: usize, to: usize, number: usize) -> Vec<u8> {
    let start = from * 31 + to * 7 + number * 13;
    (0..len).map(|i| ((start + i) % 251) as u8).collect()
}

/// Everybody, this rank too.
fn peers(link: &dyn Link) -> std::ops::Range<usize> {
    0..link.size()
}

fn sizes_from_none_to_megabytes(link: &dyn Link) {
    let me = link.rank();
    // Empty; below, at and above what libraries send eagerly; a page and one; several megabytes.
    for (number, len) in
        [0, 1, 7, 4095, 4096, 4097, 65_536, 65_537, 5_000_001].into_iter().enumerate()
    {
        let sends: Vec<_> =
            peers(link).map(|to| link.send(to, 3, paint(len, me, to, number))).collect();
        let receives: Vec<_> = peers(link).map(|from| link.receive(from, 3, len)).collect();
        for (from, receive) in receives.into_iter().enumerate() {
            assert!(wait(receive) == paint(len, from, me, number), "{len} bytes of rank {from}");
        }
        for (to, send) in sends.into_iter().enumerate() {
            assert!(wait(send) == paint(len, me, to, number), "the sender gets its bytes back");
        }
    }
}

fn one_tag_keeps_its_order(link: &dyn Link) {
    let me = link.rank();
    // Small ones overtake large ones in careless implementations.
    let lens = [300_000, 1, 70_000, 0, 9];
    let mut sends = Vec::new();
    for to in peers(link) {
        for (number, len) in lens.into_iter().enumerate() {
            sends.push(link.send(to, LARGEST_TAG, paint(len, me, to, number)));
        }
    }
    for from in peers(link) {
        for (number, len) in lens.into_iter().enumerate() {
            let got = wait(link.receive(from, LARGEST_TAG, len));
            assert!(got == paint(len, from, me, number), "message {number} of rank {from}");
        }
    }
    sends.into_iter().for_each(|send| _ = wait(send));
}

fn tags_are_told_apart(link: &dyn Link) {
    let me = link.rank();
    let tags = [5, 900, 0, 70_000];
    let mut sends = Vec::new();
    for to in peers(link) {
        for tag in tags {
            sends.push(link.send(to, tag, paint(1000, me, to, tag as usize)));
        }
    }
    for from in peers(link) {
        for tag in tags.into_iter().rev() {
            let got = wait(link.receive(from, tag, 1000));
            assert!(got == paint(1000, from, me, tag as usize), "tag {tag} of rank {from}");
        }
    }
    sends.into_iter().for_each(|send| _ = wait(send));
}

fn many_messages_in_both_directions_at_once(link: &dyn Link) {
    let (me, count, len) = (link.rank(), 200, 20_000);
    let mut receives = Vec::new();
    for number in 0..count {
        for from in peers(link) {
            receives.push((from, number, link.receive(from, number as u32 % 3, len)));
        }
    }
    let mut sends = Vec::new();
    for number in 0..count {
        for to in peers(link) {
            sends.push(link.send(to, number as u32 % 3, paint(len, me, to, number)));
        }
    }
    // The last first: nothing may depend on the order of waiting.
    for (from, number, receive) in receives.into_iter().rev() {
        assert!(wait(receive) == paint(len, from, me, number), "message {number} of rank {from}");
    }
    sends.into_iter().for_each(|send| _ = wait(send));
}

fn messages_may_come_before_they_are_wanted(link: &dyn Link) {
    let me = link.rank();
    let sends: Vec<_> =
        peers(link).map(|to| link.send(to, 11, paint(100_000, me, to, 0))).collect();
    std::thread::sleep(Duration::from_millis(50));
    for from in peers(link) {
        let mut receive = link.receive(from, 11, 100_000);
        let got = loop {
            if let Some(result) = receive.poll() {
                break result.unwrap();
            }
            std::thread::yield_now();
        };
        assert!(got == paint(100_000, from, me, 0), "rank {from}");
    }
    sends.into_iter().for_each(|send| _ = wait(send));
}

fn a_dropped_request_still_takes_its_message(link: &dyn Link) {
    let me = link.rank();
    for from in peers(link) {
        drop(link.receive(from, 12, 50));
    }
    for to in peers(link) {
        drop(link.send(to, 12, paint(50, me, to, 0)));
        drop(link.send(to, 12, paint(50, me, to, 1)));
    }
    for from in peers(link) {
        assert!(wait(link.receive(from, 12, 50)) == paint(50, from, me, 1), "rank {from}");
    }
}

fn another_length_is_an_error(link: &dyn Link) {
    let me = link.rank();
    for (sent, wanted) in [(10, 11), (11, 10), (0, 1), (100_000, 99_999)] {
        let receives: Vec<_> = peers(link).map(|from| link.receive(from, 13, wanted)).collect();
        // Only then, so that a door that notices at the sender has somebody to tell.
        let sends: Vec<_> =
            peers(link).map(|to| link.send(to, 13, paint(sent, me, to, 0))).collect();
        for (from, receive) in receives.into_iter().enumerate() {
            match receive.wait(PATIENCE) {
                Err(Error::OutOfStep { rank, .. }) => assert_eq!(rank, from),
                // MPI has no words of ours for a message that is too long.
                Err(Error::Transport { what, .. }) => {
                    assert!(what.contains(&format!("rank {from}")), "{what}");
                }
                other => panic!("{sent} bytes where {wanted} are expected: {other:?}"),
            }
        }
        sends.into_iter().for_each(|send| _ = send.wait(PATIENCE));
    }
    // The link still carries messages, on that tag too.
    let sends: Vec<_> = peers(link).map(|to| link.send(to, 13, paint(8, me, to, 5))).collect();
    for from in peers(link) {
        assert!(wait(link.receive(from, 13, 8)) == paint(8, from, me, 5), "rank {from}");
    }
    sends.into_iter().for_each(|send| _ = wait(send));
}

fn ranks_and_tags_are_bounded(link: &dyn Link) {
    let nobody = link.size();
    let refused = [
        link.send(nobody, 0, vec![1]),
        link.receive(nobody, 0, 1),
        link.send(0, LARGEST_TAG + 1, vec![1]),
        link.receive(0, LARGEST_TAG + 1, 1),
    ];
    for request in refused {
        let result = request.wait(PATIENCE);
        assert!(matches!(result, Err(Error::Group { .. })), "{result:?}");
    }
}
