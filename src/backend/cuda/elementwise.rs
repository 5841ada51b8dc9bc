//! Fill, add, rounding, and copies between host and device, of any type.

use super::Cuda;
use super::door::Address;
use super::rmsnorm::whole_runs;
use crate::ops::OpError;
use crate::ops::elementwise::Kernel;
use crate::tensor::DType;
use crate::tensor::Mem;
use crate::tensor::MemMut;
use crate::tensor::View;
use crate::tensor::ViewMut;

impl Kernel for Cuda {
    fn elementwise_fill(&self, mut out: ViewMut<'_>, value: f32) -> Result<(), OpError> {
        let count = out.shape().len();
        let t = self.activations("elementwise::fill out", out.dtype())?;
        let at = self.at_mut("elementwise::fill out", &mut out, t)?;
        if value.to_bits() == 0 {
            let cleared = self.door.clear(at, count * t.size_bytes());
            return cleared.map_err(|fault| self.failed("elementwise::fill", fault));
        }
        let bf16 = t == DType::Bf16;
        let kernel = if bf16 { "elementwise_fill_bf16" } else { "elementwise_fill_f32" };
        let call = self
            .kernel("elementwise::fill", kernel)
            .threads(count, self.launches.elementwise_threads);
        call.pointer(at).f32(value).count(count).launch()
    }

    fn elementwise_copy(&self, mut out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        const OP: &str = "elementwise::copy";
        let (want, got) = (out.dtype(), inp.dtype());
        if want != got {
            return Err(OpError::Place { what: "elementwise::copy inp", want, got });
        }
        let bytes = out.shape().len() * want.size_bytes();
        let elsewhere = |what| OpError::Place { what, want, got };
        let from = match inp.mem() {
            Mem::Host(_) => None,
            Mem::Device { .. } => Some(self.at("elementwise::copy inp", inp, want)?),
        };
        let to = match out.mem() {
            MemMut::Host(_) => None,
            MemMut::Device { .. } => Some(self.at_mut("elementwise::copy out", &mut out, want)?),
        };
        if bytes == 0 {
            return Ok(());
        }
        let outcome = match (to, out.mem(), from, inp.mem()) {
            (Some(to), _, Some(from), _) => self.door.copy(to, from, bytes),
            (Some(to), _, None, Mem::Host(from)) => self.door.write(to, from),
            (None, MemMut::Host(to), Some(from), _) => self.door.read(to, from),
            (None, MemMut::Host(to), None, Mem::Host(from)) => {
                to.copy_from_slice(from);
                Ok(())
            }
            _ => return Err(elsewhere("elementwise::copy out")),
        };
        outcome.map_err(|fault| self.failed(OP, fault))
    }

    fn elementwise_add(&self, mut out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        let count = out.shape().len();
        let t = self.activations("elementwise::add out", out.dtype())?;
        let out = self.at_mut("elementwise::add out", &mut out, t)?;
        let inp = self.at("elementwise::add inp", inp, t)?;
        self.add_at(t, out, inp, count)
    }

    fn elementwise_round(&self, mut out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        let count = out.shape().len();
        let out = self.at_mut("elementwise::round out", &mut out, DType::Bf16)?;
        let inp = self.at("elementwise::round inp", inp, DType::F32)?;
        let call = self
            .kernel("elementwise::round", "elementwise_round")
            .threads(count, self.launches.elementwise_threads);
        call.pointer(out).pointer(inp).count(count).launch()
    }

    fn elementwise_widen(&self, mut out: ViewMut<'_>, inp: View<'_>) -> Result<(), OpError> {
        let count = out.shape().len();
        let out = self.at_mut("elementwise::widen out", &mut out, DType::F32)?;
        let inp = self.at("elementwise::widen inp", inp, DType::Bf16)?;
        let call = self
            .kernel("elementwise::widen", "elementwise_widen")
            .threads(count, self.launches.elementwise_threads);
        call.pointer(out).pointer(inp).count(count).launch()
    }

    fn elementwise_first_non_finite(&self, inp: View<'_>) -> Result<Option<usize>, OpError> {
        const OP: &str = "elementwise::first_non_finite";
        let count = inp.shape().len();
        let t = self.activations("elementwise::first_non_finite inp", inp.dtype())?;
        let inp = self.at("elementwise::first_non_finite inp", inp, t)?;
        let bf16 = t == DType::Bf16;
        let kernel = match bf16 {
            true => "elementwise_first_non_finite_bf16",
            false => "elementwise_first_non_finite_f32",
        };
        let mut found = (count as u64).to_le_bytes();
        self.with_scratch(OP, found.len(), |at| {
            self.door.write(at, &found).map_err(|fault| self.failed(OP, fault))?;
            let blocks = count.div_ceil(THREADS).min(self.blocks_at_once());
            let call = self.kernel(OP, kernel).grid([blocks, 1, 1]).block([THREADS, 1, 1]);
            call.pointer(at).pointer(inp).count(count).launch()?;
            self.door.read(&mut found, at).map_err(|fault| self.failed(OP, fault))
        })?;
        let found = u64::from_le_bytes(found) as usize;
        Ok((found < count).then_some(found))
    }
}

impl Cuda {
    /// `out[i] += inp[i]` of `count` elements of type `t`, on this value's stream.
    pub(super) fn add_at(
        &self,
        t: DType,
        out: Address,
        inp: Address,
        count: usize,
    ) -> Result<(), OpError> {
        let kernel = match (t, whole_runs(t, 16, &[out, inp])) {
            (DType::Bf16, true) => "elementwise_add_bf16",
            (DType::Bf16, false) => "elementwise_add_bf16_any",
            (_, true) => "elementwise_add_f32",
            (_, false) => "elementwise_add_f32_any",
        };
        let runs = (count * t.size_bytes()).div_ceil(16);
        let call = self
            .kernel("elementwise::add", kernel)
            .threads(runs, self.launches.elementwise_threads);
        call.pointer(out).pointer(inp).count(count).launch()
    }
}

impl Cuda {
    /// `out[i] += inp[i]` of f32 for all `parts` in one launch, on this value's stream.
    pub(super) fn add_parts(&self, parts: &[Sum]) -> Result<(), OpError> {
        const OP: &str = "elementwise::add";
        let (mut table, mut blocks) = (Vec::with_capacity(parts.len()), 0);
        for part in parts.iter().filter(|part| part.count > 0) {
            let (out, inp, first) = (part.out.0, part.inp.0, blocks as u32);
            table.push(Part { out, inp, count: part.count as u64, first, unused: 0 });
            blocks += part.count.div_ceil(PART_BLOCK);
        }
        if table.is_empty() {
            return Ok(());
        }
        let bytes: &[u8] = bytemuck::cast_slice(&table);
        self.with_scratch(OP, bytes.len(), |at| {
            self.door.write(at, bytes).map_err(|fault| self.failed(OP, fault))?;
            let call = self.kernel(OP, "elementwise_add_parts_f32").grid([blocks, 1, 1]);
            call.block([THREADS, 1, 1]).pointer(at).extent(table.len()).launch()
        })
    }
}

/// A sum of f32 in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sum {
    /// What is added to.
    pub out: Address,
    /// What is added.
    pub inp: Address,
    /// Elements of both.
    pub count: usize,
}

/// A part of the table: `Part` of kernels/elementwise.cu.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Part {
    out: u64,
    inp: u64,
    count: u64,
    /// Number of its first block.
    first: u32,
    unused: u32,
}

/// `BLOCK` of kernels/table.cuh.
const PART_BLOCK: usize = 4096;
const THREADS: usize = 256;
