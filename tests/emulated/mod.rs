//! Ranks whose devices are emulated GPUs: the schedule of exchanges, with the kernels that GPUs run.

use std::sync::Arc;
use std::time::Duration;

use neuroshard::backend::cuda::Cuda;
use neuroshard::backend::cuda::door::{Address, Door, Fault, Launch, Memory};
use neuroshard::backend::cuda::emulator::{Emulator, Order};
use neuroshard::collective::{Communicator, DeviceLink, Error, Turn, device_group, threads};
use neuroshard::ops::{Kernels, TensorCore};

use crate::cases;
use crate::on_devices::OnDevices;

/// The contract of communicators; says loudly if there is no emulator.
pub fn cases() {
    let path = Emulator::usual_path();
    if let Err(why) = Emulator::open(&path, TensorCore::default(), Order::default()) {
        println!("SKIPPED LOUDLY: no sums with emulated kernels. {why}");
        return;
    }
    for ranks in [2, 4] {
        std::thread::scope(|scope| {
            for comm in threads(ranks) {
                let path = &path;
                scope.spawn(move || {
                    let emulator = Emulator::open(path, TensorCore::default(), Order::default());
                    let cuda = Cuda::new(Arc::new(InOrder(Arc::new(emulator.unwrap()))));
                    let link = Arc::new(ByHost(comm.split(0).unwrap()));
                    let rank = comm.rank();
                    let devices = device_group(comm.as_ref(), &cuda, link, rank).unwrap();
                    let kernels: Arc<dyn Kernels> = Arc::new(cuda);
                    let ranks: Arc<dyn Communicator> =
                        Arc::new(OnDevices { comm, kernels, devices });
                    for (name, case) in cases::ALL.iter().take(SUMS_AND_GATHERS) {
                        case(&ranks);
                        if rank == 0 {
                            println!("test {name} on {} emulated GPUs ... ok", ranks.size());
                        }
                    }
                });
            }
        });
    }
}

/// The cases that touch devices come first.
const SUMS_AND_GATHERS: usize = 4;

/// Two streams of an emulator, which does everything in the order of asking.
#[derive(Clone, Debug)]
struct InOrder(Arc<Emulator>);

impl Door for InOrder {
    fn describe(&self) -> String {
        self.0.describe()
    }
    fn compute_capability(&self) -> (u32, u32) {
        self.0.compute_capability()
    }
    fn memory(&self) -> Result<Memory, Fault> {
        self.0.memory()
    }
    fn alloc(&self, bytes: usize) -> Result<Address, Fault> {
        self.0.alloc(bytes)
    }
    fn free(&self, address: Address) {
        self.0.free(address);
    }
    fn write(&self, to: Address, from: &[u8]) -> Result<(), Fault> {
        self.0.write(to, from)
    }
    fn read(&self, to: &mut [u8], from: Address) -> Result<(), Fault> {
        self.0.read(to, from)
    }
    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Fault> {
        self.0.copy(to, from, bytes)
    }
    fn clear(&self, to: Address, bytes: usize) -> Result<(), Fault> {
        self.0.clear(to, bytes)
    }
    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        self.0.launch(launch)
    }
    fn synchronize(&self) -> Result<(), Fault> {
        self.0.synchronize()
    }
    fn beside(&self) -> Result<Arc<dyn Door>, Fault> {
        Ok(Arc::new(self.clone()))
    }
}

/// Bytes from device to device by way of the host.
#[derive(Debug)]
struct ByHost(Arc<dyn Communicator>);

impl DeviceLink for ByHost {
    fn rank(&self) -> usize {
        self.0.rank()
    }
    fn size(&self) -> usize {
        self.0.size()
    }
    fn describe(&self) -> String {
        "threads of one process".into()
    }
    fn exchange(&self, stream: &dyn Door, turn: &Turn<'_>) -> Result<(), Error> {
        for span in turn.give {
            let mut bytes = vec![0; span.bytes];
            stream.read(&mut bytes, span.at).unwrap();
            self.0.send(turn.peer, 0, bytes).wait(LONG)?;
        }
        for span in turn.take {
            let bytes = self.0.receive(turn.peer, 0, span.bytes).wait(LONG)?;
            stream.write(span.at, &bytes).unwrap();
        }
        Ok(())
    }
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }
    fn give_up(&self) {}
}

const LONG: Duration = Duration::from_secs(60);
