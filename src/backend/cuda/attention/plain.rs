//! Attention by plain FMAs: a warp per query, or per key.

use crate::backend::cuda::Cuda;
use crate::backend::cuda::launch::Call;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::attention::Backward;
use crate::ops::attention::Decode;
use crate::ops::attention::Extents;
use crate::ops::attention::Forward;
use crate::tensor::DType;

impl Cuda {
    pub(super) fn plain_forward(&self, mut args: Forward<'_>) -> Result<(), OpError> {
        let e = check("attention::forward extents", args.extents)?;
        let kernel = of(args.precision, "attention_forward_f32", "attention_forward_bf16");
        let call = self
            .kernel("attention::forward", kernel)
            .pointer(self.at_mut("attention::forward out", &mut args.out, DType::F32)?)
            .pointer(self.at_mut("attention::forward lse", &mut args.lse, DType::F32)?)
            .pointer(self.at("attention::forward qkv", args.qkv, DType::F32)?);
        rows(call.extent(e.seq_len), e, e.rows() * e.heads).f32(e.scale()).launch()
    }

    pub(super) fn plain_decode(&self, mut args: Decode<'_>) -> Result<(), OpError> {
        let e = check("attention::decode extents", args.extents)?;
        let kernel = of(args.precision, "attention_decode_f32", "attention_decode_bf16");
        let call = self
            .kernel("attention::decode", kernel)
            .pointer(self.at_mut("attention::decode out", &mut args.out, DType::F32)?)
            .pointer(self.at("attention::decode qkv", args.qkv, DType::F32)?)
            .pointer(self.at("attention::decode cache", args.cache, DType::F32)?);
        let call = rows(call, e, e.rows() * e.heads);
        call.extent(args.first_position).f32(e.scale()).launch()
    }

    pub(super) fn plain_backward(&self, mut args: Backward<'_>) -> Result<(), OpError> {
        const OP: &str = "attention::backward";
        let e = check("attention::backward extents", args.extents)?;
        let dqkv = self.at_mut("attention::backward dqkv", &mut args.dqkv, DType::F32)?;
        let inputs = [
            self.at("attention::backward dout", args.dout, DType::F32)?,
            self.at("attention::backward out", args.out, DType::F32)?,
            self.at("attention::backward lse", args.lse, DType::F32)?,
            self.at("attention::backward qkv", args.qkv, DType::F32)?,
        ];
        let queries = ["attention_backward_queries_f32", "attention_backward_queries_bf16"];
        let keys = ["attention_backward_keys_f32", "attention_backward_keys_bf16"];
        for (names, heads) in [(queries, e.heads), (keys, e.kv_heads)] {
            let call = self.kernel(OP, of(args.precision, names[0], names[1])).pointer(dqkv);
            let call = inputs.into_iter().fold(call, Call::pointer).extent(e.seq_len);
            rows(call, e, e.rows() * heads).f32(e.scale()).launch()?;
        }
        Ok(())
    }
}

/// A warp for each of `count` rows; adds the extents that all kernels take.
fn rows(call: Call<'_>, e: Extents, count: usize) -> Call<'_> {
    let call = call.grid([count.div_ceil(WARPS), 1, 1]).block([32 * WARPS, 1, 1]);
    call.extent(e.heads).extent(e.kv_heads).extent(e.head_dim).extent(count)
}

fn of(precision: Precision, f32: &'static str, bf16: &'static str) -> &'static str {
    if precision == Precision::F32 { f32 } else { bf16 }
}

fn check(what: &'static str, e: Extents) -> Result<Extents, OpError> {
    if e.head_dim > MAX_HEAD {
        let why = format!("heads of {} elements; at most {MAX_HEAD} on a GPU", e.head_dim);
        return Err(OpError::Extent { what, why });
    }
    Ok(e)
}

/// `WARPS` and `MAX_HEAD` of kernels/attention.cu.
const WARPS: usize = 4;
const MAX_HEAD: usize = 256;
