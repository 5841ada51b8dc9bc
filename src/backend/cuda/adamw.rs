//! AdamW: all tensors in one launch, by a table of where they are.

use super::Cuda;
use super::door::Address;
use crate::ops::OpError;
use crate::ops::adamw::Kernel;
use crate::ops::adamw::Scalars;
use crate::ops::adamw::Tensors;
use crate::ops::norm;
use crate::tensor::DType;

/// A tensor of the table: `Tensors` of kernels/adamw.cu.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Entry {
    param: u64,
    m: u64,
    v: u64,
    grad: u64,
    /// Null where nobody wants the rounded weights.
    copy: u64,
    count: u64,
    decay: f32,
    /// Number of its first block.
    first: u32,
}

impl Kernel for Cuda {
    fn adamw_update(&self, tensors: &mut [Tensors<'_>], scalars: &Scalars) -> Result<(), OpError> {
        const OP: &str = "adamw::update";
        let (mut table, mut blocks) = (Vec::with_capacity(tensors.len()), 0);
        for tensor in tensors {
            let count = tensor.param.shape().len();
            if count == 0 {
                continue;
            }
            let copy = match &mut tensor.copy {
                Some(copy) => self.at_mut("adamw::update copy", copy, DType::Bf16)?,
                None => Address::default(),
            };
            table.push(Entry {
                param: self.at_mut("adamw::update param", &mut tensor.param, DType::F32)?.0,
                m: self.at_mut("adamw::update m", &mut tensor.m, DType::F32)?.0,
                v: self.at_mut("adamw::update v", &mut tensor.v, DType::F32)?.0,
                grad: self.at("adamw::update grad", tensor.grad, DType::F32)?.0,
                copy: copy.0,
                count: count as u64,
                decay: tensor.decay,
                first: blocks as u32,
            });
            blocks += norm::blocks(count);
        }
        if table.is_empty() {
            return Ok(());
        }
        let bytes: &[u8] = bytemuck::cast_slice(&table);
        self.with_scratch(OP, bytes.len(), |at| {
            self.door.write(at, bytes).map_err(|fault| self.failed(OP, fault))?;
            let call = self.kernel(OP, "adamw_update").grid([blocks, 1, 1]).block([
                self.launches.adamw_threads,
                1,
                1,
            ]);
            let call = call.pointer(at).extent(table.len()).f32(scalars.grad_scale);
            let call = call.f32(scalars.beta1).f32(scalars.one_minus_beta1).f32(scalars.beta2);
            let call = call.f32(scalars.one_minus_beta2).f32(scalars.step_size);
            call.f32(scalars.inv_sqrt_bias2).f32(scalars.eps).launch()
        })
    }
}
