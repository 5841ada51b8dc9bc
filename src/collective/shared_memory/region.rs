//! Memory that the ranks of one host share: a file without a name, mapped by each.
//!
//! The first rank makes an anonymous file (memfd) and the others open it under `/proc/PID/fd/N`. So
//! nothing can be left behind whatever ends the job, and no mount's size limit counts; that the
//! path opens also proves that process ids mean the same to all of them.

use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use bytemuck::{Pod, Zeroable};
use memmap2::{MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use crate::collective::call::Call;

/// Where another rank finds the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(in crate::collective) struct Address {
    pid: u32,
    fd: u32,
    nonce: u64,
}

/// The mapped file: control block, then buffers.
#[derive(Debug)]
pub(super) struct Region {
    map: MmapRaw,
    layout: Layout,
}

/// How the region is divided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    ranks: usize,
    /// Bytes of one part in one step: a multiple of 64.
    pub chunk: usize,
}

/// What all ranks share, at the start of the region.
#[repr(C, align(128))]
pub(super) struct Shared {
    nonce: AtomicU64,
    /// Ranks that have arrived at the present meeting.
    pub arrived: AtomicU32,
    /// Ranks that sleep until `meeting` changes.
    pub sleepers: AtomicU32,
    /// Meetings held: what sleepers wait for.
    pub meeting: AtomicU32,
}

/// What one rank tells the others; written by it only.
#[repr(C, align(128))]
pub(super) struct Slot {
    /// Meetings it has come to.
    pub meetings: AtomicU64,
    /// Its process and when that started, 0 if unknown.
    pub pid: AtomicU32,
    /// 1 once it has let go of the region.
    pub left: AtomicU32,
    pub start: AtomicU64,
    /// The cores that it may run on, a bit each.
    pub cores: [AtomicU64; CORE_WORDS],
    /// 0, or why it gave up; the next three are written before.
    pub verdict: AtomicU32,
    pub culprit: AtomicU32,
    pub text: [AtomicU64; 16],
    /// In which call.
    pub failed: [AtomicU64; CALL_WORDS],
    /// Its present and its previous call, and contributors, by turns.
    pub calls: [[AtomicU64; CALL_WORDS]; 2],
    pub contributors: [AtomicU64; 2],
}

/// Words for as many cores as the system's own mask has.
pub(super) const CORE_WORDS: usize = 16;

/// Words of a call.
pub(super) const CALL_WORDS: usize = size_of::<Call>() / 8;

/// The creator's hold on the file, until all have mapped it.
#[derive(Debug)]
pub(super) struct Creator(#[expect(dead_code, reason = "held open for the others")] File);

impl Region {
    /// A new region, all zeros.
    pub fn create(layout: Layout) -> io::Result<(Self, Address, Creator)> {
        let file = File::from(memfd_create("neuroshard", MemfdFlags::CLOEXEC)?);
        ftruncate(&file, layout.bytes() as u64)?;
        let region = Self::map(&file, layout)?;
        // Random, so that a process id that means something else to another rank is noticed.
        let nonce = RandomState::new().hash_one(std::process::id());
        region.shared().nonce.store(nonce, Ordering::Release);
        let fd = file.as_raw_fd() as u32;
        Ok((region, Address { pid: std::process::id(), fd, nonce }, Creator(file)))
    }

    /// The region that another rank of this host has created.
    pub fn open(address: Address, layout: Layout) -> io::Result<Self> {
        let path = format!("/proc/{}/fd/{}", address.pid, address.fd);
        let file = File::options().read(true).write(true).open(&path)?;
        let refused = |what: &str| io::Error::other(format!("{path} {what}"));
        if file.metadata()?.len() != layout.bytes() as u64 {
            return Err(refused("has another size: not the same process namespace?"));
        }
        let region = Self::map(&file, layout)?;
        match region.shared().nonce.load(Ordering::Acquire) == address.nonce {
            true => Ok(region),
            false => Err(refused("is another region: not the same process namespace?")),
        }
    }

    fn map(file: &File, layout: Layout) -> io::Result<Self> {
        Ok(Self { map: MmapOptions::new().len(layout.bytes()).map_raw(file)?, layout })
    }

    pub fn layout(&self) -> Layout {
        self.layout
    }

    pub fn shared(&self) -> &Shared {
        // SAFETY: the map is page-aligned, longer than `Shared`, starts zeroed and lives as long as
        // `self`; `Shared` is atomics only, so other ranks may change it at any time.
        unsafe { &*self.map.as_ptr().cast::<Shared>() }
    }

    pub fn slot(&self, rank: usize) -> &Slot {
        assert!(rank < self.layout.ranks, "no such rank");
        let at = size_of::<Shared>() + rank * size_of::<Slot>();
        // SAFETY: `Layout::bytes` has room for `ranks` slots after `Shared`, aligned as both are
        // multiples of their alignment; zeroed, and atomics only.
        unsafe { &*self.map.as_ptr().add(at).cast::<Slot>() }
    }

    /// Start of the buffer that rank `rank` fills for the others in steps of this parity:
    /// `ranks` chunks.
    pub fn terms(&self, rank: usize, step: u64) -> *mut u8 {
        let Layout { ranks, chunk } = self.layout;
        self.buffer((rank * 2 + (step % 2) as usize) * ranks * chunk, ranks * chunk)
    }

    /// Start of the buffer for the sums of rank `rank` in steps of this parity: one chunk.
    pub fn sums(&self, rank: usize, step: u64) -> *mut u8 {
        let Layout { ranks, chunk } = self.layout;
        self.buffer(2 * ranks * ranks * chunk + (rank * 2 + (step % 2) as usize) * chunk, chunk)
    }

    fn buffer(&self, at: usize, len: usize) -> *mut u8 {
        let at = self.layout.control() + at;
        assert!(at + len <= self.layout.bytes(), "outside of the region");
        // SAFETY: within the map, by the line above.
        unsafe { self.map.as_mut_ptr().add(at) }
    }
}

impl Layout {
    /// For `ranks` ranks that move about `step` bytes each between two meetings.
    pub fn new(ranks: usize, step: usize) -> Self {
        Self { ranks, chunk: (step / ranks).next_multiple_of(64).max(4096) }
    }

    fn control(self) -> usize {
        (size_of::<Shared>() + self.ranks * size_of::<Slot>()).next_multiple_of(4096)
    }

    fn bytes(self) -> usize {
        let Self { ranks, chunk } = self;
        self.control() + 2 * ranks * ranks * chunk + 2 * ranks * chunk
    }
}
