//! The switch: which frame arrives where, and when.
//!
//! A frame from A to B waits in A's uplink (its rate), travels `delay(A) + delay(B)`, and waits in
//! B's downlink (its rate). So a round trip lasts `2 (delay(A) + delay(B))`. Loss is A's. Frames of
//! one pair never overtake each other, whatever the jitter.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// A host's connection, with its conduct. Times in seconds.
#[derive(Debug)]
pub struct Port {
    pub name: String,
    pub delay_s: f64,
    pub jitter_s: f64,
    /// Fraction of frames that vanish.
    pub loss: f64,
    /// Bits in a second, each way; 0: no limit.
    pub rate: f64,
    /// The longest wait for the rate; frames that would wait longer vanish.
    pub queue_s: f64,
    /// Whether nothing passes.
    pub cut: bool,
    pub counts: Counts,
    tap: File,
    up_free_s: f64,
    down_free_s: f64,
}

/// What became of a host's frames; bytes in `sent` and `received`.
#[derive(Debug, Default)]
pub struct Counts {
    pub sent: u64,
    pub received: u64,
    pub lost: u64,
    pub queue_full: u64,
    pub blocked: u64,
}

/// All ports, and the frames on their way.
#[derive(Debug)]
pub struct Switch {
    pub ports: Vec<Port>,
    /// Ordered pairs between which nothing passes.
    pub blocked: HashSet<(usize, usize)>,
    started: Instant,
    /// The port behind each hardware address, learned from frames.
    addresses: HashMap<[u8; 6], usize>,
    /// By time due in nanoseconds, then by order of arrival.
    travelling: BinaryHeap<Reverse<(u64, u64, Frame)>>,
    taken_in: u64,
    /// When the last frame of a pair is due.
    last_due_s: HashMap<(usize, usize), f64>,
    random: u64,
}

/// A frame between two ports.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Frame {
    from: usize,
    to: usize,
    bytes: Vec<u8>,
}

impl Default for Switch {
    fn default() -> Self {
        Self {
            ports: Vec::new(),
            blocked: HashSet::new(),
            started: Instant::now(),
            addresses: HashMap::new(),
            travelling: BinaryHeap::new(),
            taken_in: 0,
            last_due_s: HashMap::new(),
            // Any odd number: losses are the same in every run with the same frames.
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }
}

impl Switch {
    /// Adds a host.
    pub fn add(&mut self, name: &str, tap: File) {
        self.ports.push(Port {
            name: name.to_owned(),
            delay_s: 0.0,
            jitter_s: 0.0,
            loss: 0.0,
            rate: 0.0,
            queue_s: 0.2,
            cut: false,
            counts: Counts::default(),
            tap,
            up_free_s: 0.0,
            down_free_s: 0.0,
        });
    }

    /// The ports' devices, in order.
    pub fn taps(&self) -> impl Iterator<Item = &File> {
        self.ports.iter().map(|port| &port.tap)
    }

    /// Time until the next frame is due.
    pub fn next_due(&self) -> Option<Duration> {
        let Reverse((due_ns, _, _)) = self.travelling.peek()?;
        Some(Duration::from_nanos(*due_ns).saturating_sub(self.started.elapsed()))
    }

    /// Hands over every frame whose time has come.
    pub fn deliver_due(&mut self) -> io::Result<()> {
        let now_ns = self.started.elapsed().as_nanos() as u64;
        while self.travelling.peek().is_some_and(|Reverse((due_ns, _, _))| *due_ns <= now_ns) {
            let Some(Reverse((_, _, frame))) = self.travelling.pop() else { break };
            // A cut takes what is on its way with it.
            if !self.passes(frame.from, frame.to) {
                self.ports[frame.from].counts.blocked += 1;
                continue;
            }
            let to = &mut self.ports[frame.to];
            match to.tap.write(&frame.bytes) {
                Ok(_) => to.counts.received += frame.bytes.len() as u64,
                // A full or stopped device drops frames, as a real one does.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    to.counts.queue_full += 1
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what the hosts have sent; at most 64 frames of each, so that none starves.
    pub fn take_in(&mut self) {
        let mut buffer = vec![0; MAX_FRAME];
        for from in 0..self.ports.len() {
            for _ in 0..64 {
                match self.ports[from].tap.read(&mut buffer) {
                    Ok(len) if len >= HEADER => self.forward(from, &buffer[..len]),
                    _ => break,
                }
            }
        }
    }

    /// Decides where a frame goes and when it is due.
    fn forward(&mut self, from: usize, bytes: &[u8]) {
        let (mut to_address, mut from_address) = ([0; 6], [0; 6]);
        to_address.copy_from_slice(&bytes[..6]);
        from_address.copy_from_slice(&bytes[6..12]);
        self.addresses.insert(from_address, from);
        let chance = self.chance();
        let now_s = self.started.elapsed().as_secs_f64();
        let port = &mut self.ports[from];
        port.counts.sent += bytes.len() as u64;
        if chance < port.loss {
            port.counts.lost += 1;
            return;
        }
        let Some(left_s) = port.through(now_s, bytes.len(), |port| &mut port.up_free_s) else {
            return;
        };
        // An unknown or a group address goes to everybody.
        let known = self.addresses.get(&to_address).copied().filter(|_| to_address[0] & 1 == 0);
        for to in known.map_or(0..self.ports.len(), |to| to..to + 1).filter(|to| *to != from) {
            if self.passes(from, to) {
                self.launch(from, to, left_s, bytes);
            } else {
                self.ports[from].counts.blocked += 1;
            }
        }
    }

    /// Sends a frame that left its host at `left_s` on its way.
    fn launch(&mut self, from: usize, to: usize, left_s: f64, bytes: &[u8]) {
        let chance = self.chance();
        let (a, b) = (&self.ports[from], &self.ports[to]);
        let travel_s = a.delay_s + b.delay_s + chance * (a.jitter_s + b.jitter_s);
        let arrived_s = left_s + travel_s;
        let through = self.ports[to].through(arrived_s, bytes.len(), |port| &mut port.down_free_s);
        let Some(due_s) = through else { return };
        let last_s = self.last_due_s.entry((from, to)).or_insert(0.0);
        *last_s = last_s.max(due_s);
        self.taken_in += 1;
        let frame = Frame { from, to, bytes: bytes.to_vec() };
        self.travelling.push(Reverse(((*last_s * 1e9) as u64, self.taken_in, frame)));
    }

    fn passes(&self, from: usize, to: usize) -> bool {
        !self.ports[from].cut && !self.ports[to].cut && !self.blocked.contains(&(from, to))
    }

    /// A number in [0, 1): xorshift, good enough to drop frames by.
    fn chance(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Port {
    /// When `len` bytes that came at `at_s` are through this port's up- or downlink, which is free
    /// from `free` on; none if they would wait too long.
    fn through(&mut self, at_s: f64, len: usize, free: fn(&mut Self) -> &mut f64) -> Option<f64> {
        if self.rate == 0.0 {
            return Some(at_s);
        }
        let (rate, queue_s) = (self.rate, self.queue_s);
        let free_s = free(self);
        if *free_s - at_s > queue_s {
            self.counts.queue_full += 1;
            return None;
        }
        *free_s = free_s.max(at_s) + len as f64 * 8.0 / rate;
        Some(*free_s)
    }
}

/// Bytes before a frame's contents: two addresses and a type.
const HEADER: usize = 14;

/// More than any frame has.
const MAX_FRAME: usize = 1 << 16;
