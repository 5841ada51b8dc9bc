//! A stand-in for a GPU, for tests: memory of the host, with the CPU's kernels under the names of ours.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use half::bf16;

use crate::backend::cpu::Cpu;
use crate::backend::cpu::Level;
use crate::backend::cuda::door::{
    Address, Door, Fault, ForeignCall, GraphId, Launch, Memory, Stream, Work,
};
use crate::ops::Precision;
use crate::ops::TensorCore;
use crate::ops::digest::Kernel as _;
use crate::ops::digest::Subtrees;
use crate::ops::matmul::BackwardInput;
use crate::ops::matmul::BackwardWeight;
use crate::ops::matmul::Forward;
use crate::ops::matmul::Kernel as _;
use crate::ops::matmul::Start;
use crate::tensor::View;
use crate::tensor::ViewMut;

/// The device.
#[derive(Debug)]
pub(super) struct HostGpu {
    cpu: Cpu,
    /// An allocation of more bytes is refused.
    most_bytes: usize,
    /// Whether a library's work may become part of a graph.
    captures: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    allocations: HashMap<u64, Vec<u128>>,
    graphs: Vec<Vec<Work>>,
    log: Vec<String>,
}

impl HostGpu {
    pub fn new() -> Self {
        let cpu = Cpu::new(Level::best(), 1).unwrap();
        Self { cpu, most_bytes: 1 << 30, captures: true, state: Mutex::default() }
    }

    /// Where at most `most_bytes` bytes can be allocated at a time, and a library's work may become part
    /// of a graph or not.
    pub fn with(self, most_bytes: usize, captures: bool) -> Self {
        Self { most_bytes, captures, ..self }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kernels, graphs and calls of libraries since the last look, in order.
    pub fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    fn note(&self, line: impl Into<String>) {
        self.state().log.push(line.into());
    }

    fn product(&self, launch: &Launch<'_>) {
        let word = |i: usize| launch.args[i].word() as usize;
        let [m, n, k] = [word(3), word(4), word(5)];
        let precision = Precision::Tc(TensorCore::Hopper);
        let (a, b) = (slice::<bf16>(word(1), m * k), slice::<bf16>(word(2), n * k));
        let done = if launch.kernel.starts_with("matmul_forward") {
            let out = ViewMut::of(slice_mut::<bf16>(word(0), m * n), &[m, n]);
            let (inp, weight) = (View::of(a, &[m, k]), View::of(b, &[n, k]));
            self.cpu.matmul_forward(Forward { out, inp, weight, precision })
        } else if launch.kernel.starts_with("matmul_backward_input") {
            let dinp = ViewMut::of(slice_mut::<bf16>(word(0), m * n), &[m, n]);
            let (dout, weight) = (View::of(a, &[m, k]), View::of(b, &[k, n]));
            self.cpu.matmul_backward_input(BackwardInput { dinp, dout, weight, precision })
        } else {
            let dweight = ViewMut::of(slice_mut::<f32>(word(0), m * n), &[m, n]);
            let (dout, inp) = (View::of(a, &[k, m]), View::of(b, &[k, n]));
            let start = if word(6) == 1 { Start::Existing } else { Start::Zero };
            self.cpu.matmul_backward_weight(BackwardWeight { dweight, dout, inp, precision, start })
        };
        done.unwrap();
    }

    fn digest(&self, launch: &Launch<'_>) {
        let word = |i: usize| launch.args[i].word();
        let mut key = [0; 32];
        for (i, bytes) in key.chunks_mut(8).enumerate() {
            bytes.copy_from_slice(&word(2 + i).to_le_bytes());
        }
        let count = launch.grid[0] as usize;
        let values = slice_mut::<[u8; 32]>(word(0) as usize, count);
        let from = slice::<f32>(word(1) as usize, count << 15);
        let (inp, offset) = (View::of(from, &[from.len()]), word(6) * 1024);
        self.cpu.digest_subtrees(Subtrees { values, inp, key: &key, offset }).unwrap();
    }
}

impl Door for HostGpu {
    fn describe(&self) -> String {
        "a stand-in for a GPU".into()
    }

    fn compute_capability(&self) -> (u32, u32) {
        (9, 0)
    }

    fn memory(&self) -> Result<Memory, Fault> {
        Ok(Memory { free_bytes: 1 << 30, total_bytes: 1 << 30 })
    }

    fn alloc(&self, bytes: usize) -> Result<Address, Fault> {
        if bytes > self.most_bytes {
            return Err(Fault::OutOfMemory { bytes, free: 0, total: 0 });
        }
        let mut memory = vec![0u128; bytes.div_ceil(16)];
        let address = memory.as_mut_ptr().expose_provenance() as u64;
        self.state().allocations.insert(address, memory);
        Ok(Address(address))
    }

    fn free(&self, address: Address) {
        self.state().allocations.remove(&address.0);
    }

    fn write(&self, to: Address, from: &[u8]) -> Result<(), Fault> {
        slice_mut(to.0 as usize, from.len()).copy_from_slice(from);
        Ok(())
    }

    fn read(&self, to: &mut [u8], from: Address) -> Result<(), Fault> {
        to.copy_from_slice(slice(from.0 as usize, to.len()));
        Ok(())
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Fault> {
        self.write(to, slice(from.0 as usize, bytes))
    }

    fn clear(&self, to: Address, bytes: usize) -> Result<(), Fault> {
        slice_mut::<u8>(to.0 as usize, bytes).fill(0);
        Ok(())
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        self.note(launch.kernel);
        match launch.kernel {
            "digest_subtrees" => self.digest(launch),
            name if name.starts_with("matmul") && name.contains("_tc") => self.product(launch),
            other => return Err(Fault::NoKernel(other.into())),
        }
        Ok(())
    }

    fn issue(&self, call: &ForeignCall) -> Result<(), Fault> {
        self.note("library");
        call.work.issue(STREAM, &call.at)
    }

    fn synchronize(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn record(&self, work: &[Work]) -> Result<Option<GraphId>, Fault> {
        if !self.captures && work.iter().any(|work| matches!(work, Work::Foreign(_))) {
            let (call, cause) = ("cublasLtMatmul", "not while capturing".into());
            return Err(Fault::Foreign { call, cause });
        }
        let mut state = self.state();
        state.graphs.push(work.to_vec());
        Ok(Some(GraphId(state.graphs.len() as u64 - 1)))
    }

    fn replay(&self, graph: GraphId) -> Result<(), Fault> {
        let work = self.state().graphs[graph.0 as usize].clone();
        self.note("graph");
        self.run(&work)
    }

    fn stream(&self) -> Option<Stream> {
        Some(Stream { handle: STREAM, bus_id: "0000:01:00.0".into() })
    }
}

/// Its stream.
pub(super) const STREAM: u64 = 0x57;

/// `len` values at an address of the device's.
fn slice<'a, T: Copy>(address: usize, len: usize) -> &'a [T] {
    slice_mut(address, len)
}

fn slice_mut<'a, T: Copy>(address: usize, len: usize) -> &'a mut [T] {
    if len == 0 {
        return &mut [];
    }
    // SAFETY: an address that `alloc` gave, with room for what the caller of the door says there is;
    // one thread at a time uses a device of these tests.
    unsafe { std::slice::from_raw_parts_mut(std::ptr::with_exposed_provenance_mut(address), len) }
}
