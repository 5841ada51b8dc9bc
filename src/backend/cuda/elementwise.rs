//! Fill, add, and copies between host and device, of any type.

use super::Cuda;
use super::unbuilt;
use crate::ops::OpError;
use crate::ops::elementwise::Kernel;
use crate::tensor::DType;
use crate::tensor::Mem;
use crate::tensor::MemMut;
use crate::tensor::View;
use crate::tensor::ViewMut;

impl Kernel for Cuda {
    fn elementwise_fill(&self, mut out: ViewMut<'_>, value: f32) -> Result<(), OpError> {
        let (dtype, count) = (out.dtype(), out.shape().len());
        let (kernel, per_thread) = match dtype {
            DType::Bf16 => ("elementwise_fill_bf16", 8),
            _ => ("elementwise_fill_f32", 4),
        };
        let want = if dtype == DType::Bf16 { dtype } else { DType::F32 };
        let out = self.at_mut("elementwise::fill out", &mut out, want)?;
        self.kernel("elementwise::fill", kernel)
            .threads(count.div_ceil(per_thread), THREADS)
            .pointer(out)
            .f32(value)
            .count(count)
            .launch()
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
        let (dtype, count) = (out.dtype(), out.shape().len());
        let (kernel, per_thread) = match dtype {
            DType::Bf16 => ("elementwise_add_bf16", 8),
            _ => ("elementwise_add_f32", 4),
        };
        let want = if dtype == DType::Bf16 { dtype } else { DType::F32 };
        let out = self.at_mut("elementwise::add out", &mut out, want)?;
        let inp = self.at("elementwise::add inp", inp, want)?;
        self.kernel("elementwise::add", kernel)
            .threads(count.div_ceil(per_thread), THREADS)
            .pointer(out)
            .pointer(inp)
            .count(count)
            .launch()
    }

    fn elementwise_round(&self, _: ViewMut<'_>, _: View<'_>) -> Result<(), OpError> {
        unbuilt("elementwise::round")
    }

    fn elementwise_widen(&self, _: ViewMut<'_>, _: View<'_>) -> Result<(), OpError> {
        unbuilt("elementwise::widen")
    }

    fn elementwise_first_non_finite(&self, _: View<'_>) -> Result<Option<usize>, OpError> {
        unbuilt("elementwise::first_non_finite")
    }
}

const THREADS: usize = 256;
