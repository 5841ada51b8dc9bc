//! An MPI within one process, and the owner thread tested on it: pieces, lengths, failures, ends.

use std::collections::HashMap;
use std::ffi::c_int;
use std::slice;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::calls::Calls;
use super::owner::{Job, Message, Owner};
use crate::collective::{Error, Request};

/// Sender, receiver, tag.
type Key = (usize, usize, c_int);

/// What all ranks share.
#[derive(Default)]
struct World {
    /// Messages in the order of their starts; taken once received.
    sent: HashMap<Key, Vec<Option<Vec<u8>>>>,
    /// Receives started so far.
    received: HashMap<Key, usize>,
    finalized: Vec<usize>,
    aborted: Vec<c_int>,
}

struct Fake {
    rank: usize,
    world: Arc<Mutex<World>>,
    /// What `send` fails with, but for goodbyes.
    broken: Option<String>,
}

enum Pending {
    Send,
    Receive { key: Key, index: usize, at: *mut u8, room: usize },
}

impl Calls for Fake {
    type Pending = Pending;

    fn start() -> Result<Self, String> {
        Err("made by the tests only".into())
    }

    fn describe(&self) -> String {
        "fake".into()
    }

    fn rank(&self) -> Result<usize, String> {
        Ok(self.rank)
    }

    fn size(&self) -> Result<usize, String> {
        Ok(2)
    }

    fn largest_tag(&self) -> Result<c_int, String> {
        Ok(c_int::MAX)
    }

    unsafe fn send(
        &self,
        at: *const u8,
        len: c_int,
        to: c_int,
        tag: c_int,
    ) -> Result<Pending, String> {
        if let (Some(words), true) = (&self.broken, tag > 0) {
            return Err(words.clone());
        }
        // SAFETY: the caller has `len` bytes there.
        let bytes = unsafe { slice::from_raw_parts(at, len as usize) }.to_vec();
        let key = (self.rank, to as usize, tag);
        self.world.lock().unwrap().sent.entry(key).or_default().push(Some(bytes));
        Ok(Pending::Send)
    }

    unsafe fn receive(
        &self,
        at: *mut u8,
        len: c_int,
        from: c_int,
        tag: c_int,
    ) -> Result<Pending, String> {
        let key = (from as usize, self.rank, tag);
        let mut world = self.world.lock().unwrap();
        let next = world.received.entry(key).or_default();
        *next += 1;
        Ok(Pending::Receive { key, index: *next - 1, at, room: len as usize })
    }

    fn test(&self, pending: &mut Pending) -> Result<Option<usize>, String> {
        let Pending::Receive { key, index, at, room } = pending else { return Ok(Some(0)) };
        let mut world = self.world.lock().unwrap();
        let Some(slot) = world.sent.get_mut(key).and_then(|sent| sent.get_mut(*index)) else {
            return Ok(None);
        };
        let bytes = slot.take().unwrap();
        // As Open MPI 4 does: what is too long is cut without a word.
        let len = bytes.len().min(*room);
        // SAFETY: whoever started the receive keeps `room` bytes there until this returns.
        unsafe { slice::from_raw_parts_mut(*at, len) }.copy_from_slice(&bytes[..len]);
        Ok(Some(len))
    }

    fn all_reduce(&self, _: &mut [f32]) -> Result<(), String> {
        Err("there is no sum".into())
    }

    fn finalize(&self) -> Result<(), String> {
        self.world.lock().unwrap().finalized.push(self.rank);
        Ok(())
    }

    fn aborter(&self) -> Box<dyn Fn(c_int) + Send + Sync> {
        let world = self.world.clone();
        Box::new(move |code| world.lock().unwrap().aborted.push(code))
    }
}

/// One of two ranks, with its owner thread.
struct Rank {
    jobs: Option<Sender<Job>>,
    owner: Option<JoinHandle<()>>,
}

impl Rank {
    /// Messages go in pieces of at most 8 bytes.
    fn start(world: &Arc<Mutex<World>>, rank: usize, broken: Option<&str>) -> Self {
        let (jobs, queue) = channel();
        let fake = (world.clone(), broken.map(String::from));
        let owner = thread::spawn(move || {
            let fake = Fake { rank, world: fake.0, broken: fake.1 };
            Owner::new(fake, rank, 2, 8).unwrap().run(&queue).unwrap();
        });
        Self { jobs: Some(jobs), owner: Some(owner) }
    }

    fn submit(&self, job: Job) {
        self.jobs.as_ref().unwrap().send(job).unwrap();
    }

    fn send(&self, peer: usize, bytes: &[u8]) -> Request {
        let (request, completion) = Request::new(peer);
        self.submit(Job::Send(Message { peer, tag: 4, completion }, bytes.to_vec()));
        request
    }

    fn receive(&self, peer: usize, len: usize) -> Request {
        let (request, completion) = Request::new(peer);
        self.submit(Job::Receive(Message { peer, tag: 4, completion }, len));
        request
    }

    fn say_goodbye(&mut self) {
        self.jobs = None;
    }

    fn end(&mut self) {
        self.say_goodbye();
        self.owner.take().unwrap().join().unwrap();
    }
}

const LONG: Duration = Duration::from_secs(60);

fn pair() -> (Arc<Mutex<World>>, Rank, Rank) {
    let world = Arc::default();
    let (a, b) = (Rank::start(&world, 0, None), Rank::start(&world, 1, None));
    (world, a, b)
}

#[test]
fn messages_larger_than_a_call_arrive_whole() {
    let (world, mut a, mut b) = pair();
    for len in [0, 7, 8, 9, 16, 1001] {
        let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
        let receive = b.receive(0, len);
        assert_eq!(a.send(1, &bytes).wait(LONG).unwrap(), bytes);
        assert_eq!(receive.wait(LONG).unwrap(), bytes, "{len} bytes");
    }
    a.say_goodbye();
    b.end();
    a.end();
    let mut finalized = world.lock().unwrap().finalized.clone();
    finalized.sort_unstable();
    assert_eq!(finalized, [0, 1]);
}

#[test]
fn lengths_that_differ_are_errors() {
    let (_world, a, b) = pair();
    for (sent, wanted, says) in [(3, 4, "has 3"), (4, 3, "has more"), (0, 1, "has 0")] {
        let receive = b.receive(0, wanted);
        a.send(1, &vec![1; sent]).wait(LONG).unwrap();
        let error = receive.wait(LONG).unwrap_err();
        assert!(matches!(error, Error::OutOfStep { rank: 0, .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(&format!("should have {wanted} bytes and {says}")), "{text}");
    }
}

#[test]
fn the_librarys_words_come_back_and_the_owner_goes_on() {
    let world = Arc::default();
    let (a, b) = (Rank::start(&world, 0, Some("no route (code 77)")), Rank::start(&world, 1, None));
    let error = a.send(1, &[1; 20]).wait(LONG).unwrap_err().to_string();
    assert_eq!(error, "sending to rank 1 (20 bytes, message 4): no route (code 77)");
    let receive = a.receive(1, 2);
    b.send(0, &[5, 6]).wait(LONG).unwrap();
    assert_eq!(receive.wait(LONG).unwrap(), [5, 6]);
}

#[test]
fn who_waits_for_a_rank_that_said_goodbye_learns_of_it() {
    let (world, mut a, mut b) = pair();
    let before = a.receive(1, 1);
    drop(b.send(0, &[9]));
    let vain = a.receive(1, 1);
    b.say_goodbye();
    assert_eq!(before.wait(LONG).unwrap(), [9], "what was sent before the goodbye still counts");
    assert!(matches!(vain.wait(LONG), Err(Error::Lost { rank: 1 })));
    // The receive never ended, so this rank leaves MPI as it is, and does not wait for ever.
    a.end();
    b.end();
    assert_eq!(world.lock().unwrap().finalized, [1]);
}

#[test]
fn an_abort_reaches_the_library() {
    let (world, a, _b) = pair();
    a.submit(Job::Abort(9));
    a.send(1, &[1]).wait(LONG).unwrap();
    assert_eq!(world.lock().unwrap().aborted, [9]);
}
