//! Embedding: a block per row; backward a block per class of tokens.

use super::Cuda;
use crate::ops::OpError;
use crate::ops::embedding::Backward;
use crate::ops::embedding::Forward;
use crate::ops::embedding::Kernel;
use crate::tensor::DType;

impl Kernel for Cuda {
    fn embedding_forward(&self, mut args: Forward<'_>) -> Result<(), OpError> {
        let [rows, columns] = [args.out.shape()[0], args.out.shape()[1]];
        let t = self.activations("embedding::forward table", args.table.dtype())?;
        let bf16 = t == DType::Bf16;
        let kernel = if bf16 { "embedding_forward_bf16" } else { "embedding_forward_f32" };
        self.kernel("embedding::forward", kernel)
            .grid([rows, 1, 1])
            .block([self.launches.embedding_threads, 1, 1])
            .pointer(self.at_mut("embedding::forward out", &mut args.out, t)?)
            .pointer(self.at("embedding::forward tokens", args.tokens, DType::U32)?)
            .pointer(self.at("embedding::forward table", args.table, t)?)
            .extent(args.table.shape()[0])
            .extent(columns)
            .launch()
    }

    fn embedding_backward(&self, mut args: Backward<'_>) -> Result<(), OpError> {
        let [rows, columns] = [args.dout.shape()[0], args.dout.shape()[1]];
        let vocab = args.dtable.shape()[0];
        let t = self.activations("embedding::backward dout", args.dout.dtype())?;
        let bf16 = t == DType::Bf16;
        let kernel = if bf16 { "embedding_backward_bf16" } else { "embedding_backward_f32" };
        if rows == 0 {
            return Ok(());
        }
        self.kernel("embedding::backward", kernel)
            .grid([vocab.min(self.launches.embedding_blocks), 1, 1])
            .block([256, 1, 1])
            .pointer(self.at_mut("embedding::backward dtable", &mut args.dtable, DType::F32)?)
            .pointer(self.at("embedding::backward tokens", args.tokens, DType::U32)?)
            .pointer(self.at("embedding::backward dout", args.dout, t)?)
            .extent(vocab)
            .extent(rows)
            .extent(columns)
            .launch()
    }
}
