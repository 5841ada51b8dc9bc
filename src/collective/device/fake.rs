//! Devices in host memory, for tests: two streams that do nothing before they must, so that work
//! which did not wait for other work shows; and a link between them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{DeviceCommunicator, DeviceLink, Turn, device_group};
use crate::backend::cuda::Cuda;
use crate::backend::cuda::door::{Address, Arg, Door, Fault, Launch, Mark, Memory};
use crate::collective::{Communicator, Error, threads};
use crate::ops::Kernels;

/// A rank with a device.
#[derive(Debug)]
pub(crate) struct FakeRank {
    /// Its group in host memory.
    pub comm: Arc<dyn Communicator>,
    /// Its device.
    pub kernels: Arc<dyn Kernels>,
    /// The group's devices.
    pub devices: Arc<dyn DeviceCommunicator>,
    /// What carries the bytes.
    pub link: Arc<FakeLink>,
}

/// Runs `body` as each of `ranks` ranks with a device of its own, whose numbers in errors are 10 and up.
pub(crate) fn on_devices(ranks: usize, body: impl Fn(FakeRank) + Sync) {
    std::thread::scope(|scope| {
        for comm in threads(ranks) {
            let body = &body;
            scope.spawn(move || {
                let cuda = Cuda::new(Arc::new(FakeStream::of_new_device()));
                let link = Arc::new(FakeLink::over(comm.as_ref()));
                let name = 10 + comm.rank();
                let devices = device_group(comm.as_ref(), &cuda, link.clone(), name).unwrap();
                body(FakeRank { comm, kernels: Arc::new(cuda), devices, link });
            });
        }
    });
}

/// Bytes from device to device through a group of its own.
#[derive(Debug)]
pub(crate) struct FakeLink {
    comm: Arc<dyn Communicator>,
    /// Whether exchanges get lost from now on.
    pub loses: AtomicBool,
    /// Whether somebody has given up.
    pub given_up: AtomicBool,
}

impl FakeLink {
    /// Between the ranks of `comm`; collective.
    pub fn over(comm: &dyn Communicator) -> Self {
        let comm = comm.split(0).unwrap();
        Self { comm, loses: AtomicBool::new(false), given_up: AtomicBool::new(false) }
    }
}

impl DeviceLink for FakeLink {
    fn rank(&self) -> usize {
        self.comm.rank()
    }

    fn size(&self) -> usize {
        self.comm.size()
    }

    fn describe(&self) -> String {
        "threads of one process".into()
    }

    fn exchange(&self, stream: &dyn Door, turn: &Turn<'_>) -> Result<(), Error> {
        if self.loses.load(Ordering::Relaxed) {
            return stream.synchronize().map_err(|fault| super::tree::failed(&fault));
        }
        for span in turn.give {
            let mut bytes = vec![0; span.bytes];
            stream.read(&mut bytes, span.at).unwrap();
            self.comm.send(turn.peer, 0, bytes).wait(PATIENCE)?;
        }
        for span in turn.take {
            let bytes = self.comm.receive(turn.peer, 0, span.bytes).wait(PATIENCE)?;
            stream.write(span.at, &bytes).unwrap();
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        match self.loses.load(Ordering::Relaxed) {
            true => Err(Error::Transport { what: "the link".into(), cause: "a cut wire".into() }),
            false => Ok(()),
        }
    }

    fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }
}

const PATIENCE: Duration = Duration::from_secs(60);

/// One stream of a device.
pub(crate) struct FakeStream {
    device: Arc<Mutex<Device>>,
    number: usize,
}

#[derive(Default)]
struct Device {
    memory: Vec<u8>,
    streams: Vec<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Work>,
    done: usize,
}

enum Work {
    Write(usize, Vec<u8>),
    Copy {
        to: usize,
        from: usize,
        bytes: usize,
    },
    Clear {
        to: usize,
        bytes: usize,
    },
    /// Sums in a table: out, inp, how many f32, and what a kernel needs besides.
    Add {
        table: usize,
        parts: usize,
    },
    /// For so many pieces of work of a stream.
    Wait(usize, usize),
}

impl Device {
    /// Runs a stream up to its piece of work `until`, and what it waits for before.
    fn drive(&mut self, stream: usize, until: usize) {
        while self.streams[stream].done < until {
            let Some(work) = self.streams[stream].waiting.pop_front() else { return };
            self.streams[stream].done += 1;
            match work {
                Work::Write(to, bytes) => self.memory[to..to + bytes.len()].copy_from_slice(&bytes),
                Work::Copy { to, from, bytes } => self.memory.copy_within(from..from + bytes, to),
                Work::Clear { to, bytes } => self.memory[to..to + bytes].fill(0),
                Work::Add { table, parts } => {
                    for part in 0..parts {
                        let word = |i: usize| {
                            let at = table + 32 * part + 8 * i;
                            bytemuck::pod_read_unaligned::<u64>(&self.memory[at..at + 8]) as usize
                        };
                        let (out, inp, count) = (word(0), word(1), word(2));
                        self.add(out, inp, count);
                    }
                }
                Work::Wait(other, count) => self.drive(other, count),
            }
        }
    }

    fn add(&mut self, out: usize, inp: usize, count: usize) {
        for i in 0..count {
            let at = |start: usize| start + 4 * i..start + 4 * i + 4;
            let read = |range| bytemuck::pod_read_unaligned::<f32>(&self.memory[range]);
            let sum: f32 = read(at(out)) + read(at(inp));
            self.memory[at(out)].copy_from_slice(&sum.to_ne_bytes());
        }
    }
}

impl FakeStream {
    /// The first stream of a device.
    pub fn of_new_device() -> Self {
        // No address is null.
        let device = Device { memory: vec![0; 256], streams: vec![Queue::default()] };
        Self { device: Arc::new(Mutex::new(device)), number: 0 }
    }

    fn device(&self) -> MutexGuard<'_, Device> {
        self.device.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, work: Work) -> Result<(), Fault> {
        self.device().streams[self.number].waiting.push_back(work);
        Ok(())
    }

    fn asked(&self, device: &Device) -> usize {
        let Queue { waiting, done } = &device.streams[self.number];
        done + waiting.len()
    }
}

impl Door for FakeStream {
    fn describe(&self) -> String {
        "a device in host memory".into()
    }

    fn compute_capability(&self) -> (u32, u32) {
        (9, 0)
    }

    fn memory(&self) -> Result<Memory, Fault> {
        Ok(Memory { free_bytes: 0, total_bytes: 0 })
    }

    fn alloc(&self, bytes: usize) -> Result<Address, Fault> {
        if bytes == 0 {
            return Ok(Address::default());
        }
        let mut device = self.device();
        let start = device.memory.len();
        device.memory.resize((start + bytes).next_multiple_of(256), 0xff);
        drop(device);
        self.ask(Work::Clear { to: start, bytes })?;
        Ok(Address(start as u64))
    }

    fn free(&self, _: Address) {}

    fn write(&self, to: Address, from: &[u8]) -> Result<(), Fault> {
        self.ask(Work::Write(to.0 as usize, from.to_vec()))
    }

    fn read(&self, to: &mut [u8], from: Address) -> Result<(), Fault> {
        self.synchronize()?;
        to.copy_from_slice(&self.device().memory[from.0 as usize..][..to.len()]);
        Ok(())
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Fault> {
        self.ask(Work::Copy { to: to.0 as usize, from: from.0 as usize, bytes })
    }

    fn clear(&self, to: Address, bytes: usize) -> Result<(), Fault> {
        self.ask(Work::Clear { to: to.0 as usize, bytes })
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        match (launch.kernel, launch.args) {
            ("elementwise_add_parts_f32", [Arg::Pointer(table), Arg::I32(parts)]) => {
                self.ask(Work::Add { table: table.0 as usize, parts: *parts as usize })
            }
            (other, _) => Err(Fault::NoKernel(other.into())),
        }
    }

    fn synchronize(&self) -> Result<(), Fault> {
        let mut device = self.device();
        let asked = self.asked(&device);
        device.drive(self.number, asked);
        Ok(())
    }

    fn beside(&self) -> Result<Arc<dyn Door>, Fault> {
        let mut device = self.device();
        let number = device.streams.len();
        device.streams.push(Queue::default());
        drop(device);
        Ok(Arc::new(Self { device: self.device.clone(), number }))
    }

    fn mark(&self) -> Result<Mark, Fault> {
        let asked = self.asked(&self.device());
        Ok(Mark(Arc::new((self.number, asked))))
    }

    fn wait_for(&self, mark: &Mark) -> Result<(), Fault> {
        let &(stream, count) = mark.0.downcast_ref::<(usize, usize)>().unwrap();
        self.ask(Work::Wait(stream, count))
    }

    fn passed(&self, mark: &Mark) -> Result<bool, Fault> {
        let &(stream, count) = mark.0.downcast_ref::<(usize, usize)>().unwrap();
        let mut device = self.device();
        device.drive(stream, count);
        Ok(true)
    }
}

impl fmt::Debug for FakeStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FakeStream({})", self.number)
    }
}
