//! Sums of squares: all tensors in one launch, one warp per block of the contract.

use super::Cuda;
use crate::ops::OpError;
use crate::ops::norm::Kernel;
use crate::ops::norm::blocks;
use crate::tensor::DType;
use crate::tensor::View;

/// A tensor of the table: `Summands` of kernels/adamw.cu.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
struct Entry {
    values: u64,
    count: u64,
    /// Number of its first block.
    first: u32,
    unused: u32,
}

impl Kernel for Cuda {
    fn norm_block_sums_of(&self, sums: &mut [f32], tensors: &[View<'_>]) -> Result<(), OpError> {
        const OP: &str = "norm::block_sums_of";
        let (mut table, mut first) = (Vec::with_capacity(tensors.len()), 0);
        for tensor in tensors.iter().filter(|tensor| !tensor.shape().is_empty()) {
            let values = self.at("norm::block_sums_of tensors", *tensor, DType::F32)?.0;
            let count = tensor.shape().len();
            table.push(Entry { values, count: count as u64, first: first as u32, unused: 0 });
            first += blocks(count);
        }
        if table.is_empty() {
            return Ok(());
        }
        let bytes: &[u8] = bytemuck::cast_slice(&table);
        let table_bytes = bytes.len().next_multiple_of(256);
        self.with_scratch(OP, table_bytes + size_of_val(sums), |at| {
            let failed = |fault| self.failed(OP, fault);
            let on_device = at.plus(table_bytes);
            self.door.write(at, bytes).map_err(failed)?;
            let call = self.kernel(OP, "norm_block_sums").grid([sums.len(), 1, 1]);
            call.pointer(on_device).pointer(at).extent(table.len()).launch()?;
            self.door.read(bytemuck::cast_slice_mut(sums), on_device).map_err(failed)
        })
    }
}
