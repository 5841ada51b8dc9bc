//! Descriptions of matrices for the tensor memory accelerator (CUDA driver API, tensor map).

use std::ffi::c_void;

use cudarc::driver::sys;

use super::context::Context;
use crate::backend::cuda::door::Fault;
use crate::backend::cuda::door::Matrix;

/// The map of matrices of bf16, by boxes of 64 by 64 elements swizzled by 128 bytes, zeros outside
/// of each matrix.
pub(super) fn encode(context: &Context, matrix: &Matrix) -> Result<[u8; 128], Fault> {
    /// The driver wants it aligned to 64 bytes.
    #[repr(align(128))]
    struct Aligned(sys::CUtensorMap);

    let mut map = Aligned(sys::CUtensorMap { opaque: [0; 16] });
    let [columns, rows, count] = [matrix.columns, matrix.rows, matrix.count].map(|x| x as u64);
    let (extents, strides) = ([columns, rows, count], [columns * 2, rows * columns * 2]);
    let (boxes, steps) = ([64u32, 64, 1], [1u32; 3]);
    // SAFETY: `map` is aligned as asked; the arrays have as many elements as a map of three
    // dimensions reads. The address is only written down.
    let made = unsafe {
        sys::cuTensorMapEncodeTiled(
            &raw mut map.0,
            sys::CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            3,
            matrix.address.0 as *mut c_void,
            extents.as_ptr(),
            strides.as_ptr(),
            boxes.as_ptr(),
            steps.as_ptr(),
            sys::CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            sys::CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            sys::CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
            sys::CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    };
    made.result().map_err(|e| context.fault("cuTensorMapEncodeTiled", e))?;
    let mut bytes = [0; 128];
    let words = map.0.opaque.iter().flat_map(|word| word.to_ne_bytes());
    bytes.iter_mut().zip(words).for_each(|(to, from)| *to = from);
    Ok(bytes)
}
