//! A plain link between processes of one machine over Unix sockets, for tests and benches: the
//! least that a link must do, written independently of the library's own.

use std::collections::{HashMap, VecDeque};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use neuroshard::collective::{Completion, Error, Link, Request};

#[derive(Debug)]
pub struct UnixLink {
    rank: usize,
    streams: Vec<Option<Mutex<UnixStream>>>,
    mailbox: Arc<Mutex<Mailbox>>,
}

#[derive(Debug, Default)]
struct Mailbox {
    come: HashMap<(usize, u32), VecDeque<Vec<u8>>>,
    awaited: HashMap<(usize, u32), VecDeque<Completion>>,
    gone: Vec<usize>,
}

impl UnixLink {
    /// Rank `rank` of `size`, whose sockets lie in `dir`.
    pub fn new(dir: &Path, rank: usize, size: usize) -> Self {
        let path = |rank: usize| dir.join(format!("rank-{rank}"));
        let listener = UnixListener::bind(path(rank)).unwrap();
        let mailbox = Arc::default();
        let mut streams: Vec<_> = (0..size).map(|_| None).collect();
        for (peer, place) in streams.iter_mut().enumerate().take(rank) {
            let mut stream = loop {
                match UnixStream::connect(path(peer)) {
                    Ok(stream) => break stream,
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            };
            stream.write_all(&(rank as u32).to_ne_bytes()).unwrap();
            *place = Some(Mutex::new(stream));
        }
        for _ in rank + 1..size {
            let (mut stream, _) = listener.accept().unwrap();
            let mut peer = [0; 4];
            stream.read_exact(&mut peer).unwrap();
            streams[u32::from_ne_bytes(peer) as usize] = Some(Mutex::new(stream));
        }
        for (peer, stream) in streams.iter().enumerate() {
            if let Some(stream) = stream {
                let stream = stream.lock().unwrap().try_clone().unwrap();
                let mailbox = Arc::clone(&mailbox);
                std::thread::spawn(move || read(peer, stream, &mailbox));
            }
        }
        Self { rank, streams, mailbox }
    }
}

/// Puts what comes from `peer` where it is awaited, until the peer is gone.
fn read(peer: usize, mut stream: UnixStream, mailbox: &Mutex<Mailbox>) {
    let mut header = [0u8; 12];
    while stream.read_exact(&mut header).is_ok() {
        let tag = u32::from_ne_bytes(header[..4].try_into().unwrap());
        let mut bytes = vec![0; u64::from_ne_bytes(header[4..].try_into().unwrap()) as usize];
        if stream.read_exact(&mut bytes).is_err() {
            break;
        }
        deliver(&mut mailbox.lock().unwrap(), (peer, tag), bytes);
    }
    let mut mailbox = mailbox.lock().unwrap();
    mailbox.gone.push(peer);
    let waiting = mailbox.awaited.iter_mut().filter(|((from, _), _)| *from == peer);
    for completion in waiting.flat_map(|(_, waiting)| waiting.drain(..)) {
        completion.finish(Err(Error::Lost { rank: peer }));
    }
}

fn deliver(mailbox: &mut Mailbox, key: (usize, u32), bytes: Vec<u8>) {
    match mailbox.awaited.get_mut(&key).and_then(VecDeque::pop_front) {
        Some(completion) => completion.finish(Ok(bytes)),
        None => mailbox.come.entry(key).or_default().push_back(bytes),
    }
}

impl Link for UnixLink {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.streams.len()
    }

    fn describe(&self) -> String {
        "Unix sockets".into()
    }

    fn send(&self, to: usize, tag: u32, bytes: Vec<u8>) -> Request {
        let Some(stream) = &self.streams[to] else {
            deliver(&mut self.mailbox.lock().unwrap(), (to, tag), bytes);
            return Request::ended(to, Ok(Vec::new()));
        };
        let mut stream = stream.lock().unwrap();
        let header = [&tag.to_ne_bytes()[..], &(bytes.len() as u64).to_ne_bytes()].concat();
        let sent = stream.write_all(&header).and_then(|()| stream.write_all(&bytes));
        Request::ended(to, sent.map(|()| bytes).map_err(|_| Error::Lost { rank: to }))
    }

    fn receive(&self, from: usize, tag: u32, len: usize) -> Request {
        let mut mailbox = self.mailbox.lock().unwrap();
        if let Some(bytes) = mailbox.come.get_mut(&(from, tag)).and_then(VecDeque::pop_front) {
            assert_eq!(bytes.len(), len, "no case sends another length");
            return Request::ended(from, Ok(bytes));
        }
        if mailbox.gone.contains(&from) {
            return Request::ended(from, Err(Error::Lost { rank: from }));
        }
        let (request, completion) = Request::new(from);
        mailbox.awaited.entry((from, tag)).or_default().push_back(completion);
        request
    }

    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }
}

impl Drop for UnixLink {
    fn drop(&mut self) {
        for stream in self.streams.iter().flatten() {
            let _ = stream.lock().unwrap().shutdown(std::net::Shutdown::Both);
        }
    }
}
