//! Rotary positions: one thread per pair.

use super::Cuda;
use crate::ops::OpError;
use crate::ops::rope::Direction;
use crate::ops::rope::Kernel;
use crate::ops::rope::Rotate;
use crate::tensor::DType;

impl Kernel for Cuda {
    fn rope_rotate(&self, mut args: Rotate<'_>) -> Result<(), OpError> {
        let [rows, width] = [args.x.shape()[0], args.x.shape()[1]];
        let half = args.cos.shape()[1];
        let t = self.activations("rope::rotate x", args.x.dtype())?;
        let kernel = if t == DType::Bf16 { "rope_rotate_bf16" } else { "rope_rotate_f32" };
        let pairs = rows * args.heads * half;
        self.kernel("rope::rotate", kernel)
            .threads(pairs, self.launches.rope_threads)
            .pointer(self.at_mut("rope::rotate x", &mut args.x, t)?)
            .pointer(self.at("rope::rotate cos", args.cos, DType::F32)?)
            .pointer(self.at("rope::rotate sin", args.sin, DType::F32)?)
            .count(pairs)
            .extent(args.heads)
            .extent(half)
            .extent(width)
            .extent(args.seq_len)
            .extent(args.first_position)
            .f32(if args.direction == Direction::Forward { 1.0 } else { -1.0 })
            .launch()
    }
}
