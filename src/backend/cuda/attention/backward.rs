//! Attention on tensor cores, backward: row sums of dout and out, then dk and dv by blocks of 128
//! keys, then dq by blocks of 64 queries, or of 128.

use super::tensor_cores::QUERIES;
use super::tensor_cores::extents;
use super::tensor_cores::of_width;
use super::tensor_cores::scale_log2;
use super::tensor_cores::sequences;
use crate::backend::cuda::Cuda;
use crate::backend::cuda::buffer::Buffer;
use crate::backend::cuda::door::Address;
use crate::backend::cuda::door::Matrix;
use crate::backend::cuda::hopper::numbers;
use crate::backend::cuda::launch::Call;
use crate::ops::OpError;
use crate::ops::attention::Backward;
use crate::ops::attention::Extents;
use crate::ops::attention::KEY_TILE;
use crate::tensor::DType;

/// Where the tensors of one backward pass are.
#[derive(Clone, Copy)]
struct Places {
    e: Extents,
    dqkv: Address,
    dout: Address,
    out: Address,
    lse: Address,
    qkv: Address,
}

impl Cuda {
    pub(super) fn tc_backward(&self, mut args: Backward<'_>) -> Result<(), OpError> {
        let at = Places {
            e: args.extents,
            dqkv: self.at_mut("attention::backward dqkv", &mut args.dqkv, DType::Bf16)?,
            dout: self.at("attention::backward dout", args.dout, DType::Bf16)?,
            out: self.at("attention::backward out", args.out, DType::Bf16)?,
            lse: self.at("attention::backward lse", args.lse, DType::F32)?,
            qkv: self.at("attention::backward qkv", args.qkv, DType::Bf16)?,
        };
        let maps = self.backward_maps(&at)?;
        self.backward_at(&at, maps)
    }

    /// By warp groups where there are `maps`, of qkv and dout.
    fn backward_at(&self, at: &Places, maps: Option<Address>) -> Result<(), OpError> {
        let rows = at.e.rows() * at.e.heads;
        let deltas = ["attention_delta_tc_32", "attention_delta_tc_64", "attention_delta_tc_128"];
        let deltas = of_width("attention::backward extents", at.e, deltas)?;
        self.with_scratch(OP, rows * size_of::<f32>(), |delta| {
            let call = self.kernel(OP, deltas).warps(rows, 8).pointer(delta).pointer(at.dout);
            call.pointer(at.out).count(rows).extent(at.e.seq_len).extent(at.e.heads).launch()?;
            match maps {
                Some(maps) => self.gradients_by_warp_groups(at, delta, maps),
                None => self.gradients_by_mma(at, delta),
            }
        })
    }

    fn gradients_by_mma(&self, at: &Places, delta: Address) -> Result<(), OpError> {
        let e = at.e;
        let of_width = |names| of_width("attention::backward extents", e, names);
        let (keys, queries) = (of_width(KEYS)?, of_width(QUERY)?);
        let inputs = |call: Call<'_>| -> Result<(), OpError> {
            let call = call.pointer(at.dqkv).pointer(at.dout).pointer(at.lse).pointer(delta);
            extents(call.pointer(at.qkv), e).f32(scale_log2(e)).f32(e.scale()).launch()
        };
        let grid = [e.seq_len.div_ceil(KEY_TILE), e.kv_heads, e.sequences];
        let tiles = (2 * KEY_TILE + 2 * QUERIES) * e.head_dim * 2;
        let shared = tiles + 2 * QUERIES * size_of::<f32>();
        inputs(self.kernel(OP, keys).grid(grid).block([256, 1, 1]).shared(shared))?;
        let grid = [e.seq_len.div_ceil(QUERIES), e.heads, e.sequences];
        inputs(self.kernel(OP, queries).grid(grid).block([128, 1, 1]).shared(tiles))
    }

    /// On Hopper.
    fn gradients_by_warp_groups(
        &self,
        at: &Places,
        delta: Address,
        maps: Address,
    ) -> Result<(), OpError> {
        let e = at.e;
        let wide = usize::from(e.head_dim == 128);
        // A block's own four tiles of 64 rows, four stages of two, and room to begin at a multiple
        // of 1,024 bytes.
        let shared = (4 + 4 * 2) * 64 * e.head_dim * 2 + 1024;
        // Blocks of 128 keys, of 128 queries.
        let tiles = e.seq_len.div_ceil(128);
        for (kernels, heads) in [(KEYS_WGMMA, e.kv_heads), (QUERY_WGMMA, e.heads)] {
            let call = self.kernel(OP, kernels[wide]).grid([heads, e.sequences, tiles]);
            let call = call.block([384, 1, 1]).shared(shared).pointer(at.dqkv).pointer(at.lse);
            let call = extents(call.pointer(delta).pointer(maps), e);
            call.f32(scale_log2(e)).f32(e.scale()).launch()?;
        }
        Ok(())
    }

    /// The tensor maps of qkv and dout, if backward by warp groups is to be used.
    fn backward_maps(&self, at: &Places) -> Result<Option<Address>, OpError> {
        let nth = match at.e.head_dim {
            64 => 5,
            128 => 6,
            _ => return Ok(None),
        };
        let aligned = at.qkv.0.is_multiple_of(16) && at.dout.0.is_multiple_of(16);
        if at.e.rows() == 0 || !aligned {
            return Ok(None);
        }
        match self.admits(OP, nth, || self.probe_backward(at.e))? {
            true => self.maps_of(OP, &matrices(at)),
            false => Ok(None),
        }
    }

    /// Whether both ways give the same bits, in heads as wide as those of `e`.
    fn probe_backward(&self, e: Extents) -> Result<Option<bool>, OpError> {
        let failed = |fault| self.failed(OP, fault);
        // Tails of a tile, two tiles of keys and more, stages that are used again.
        let e = Extents { sequences: 2, seq_len: 458, heads: 3, kv_heads: 1, ..e };
        let memory = |bytes| -> Result<Buffer, OpError> {
            Ok(Buffer::new(self.door.clone(), self.door.alloc(bytes).map_err(failed)?))
        };
        let (elements, width) = (e.rows() * e.qkv_width(), e.rows() * e.heads * e.head_dim);
        let bytes = [elements * 2, width * 2, width * 2, e.rows() * e.heads * 4, elements * 2];
        let buffers = [
            memory(bytes[0])?,
            memory(bytes[1])?,
            memory(bytes[2])?,
            memory(bytes[3])?,
            memory(bytes[4])?,
        ];
        let [dqkv, dout, out, lse, qkv] = [0, 1, 2, 3, 4].map(|i| buffers[i].address());
        let at = Places { e, dqkv, dout, out, lse, qkv };
        let Some(maps) = self.maps_of(OP, &matrices(&at))? else {
            return Ok(None);
        };
        self.door.write(qkv, &numbers(elements, 118..128, 4)).map_err(failed)?;
        self.door.write(dout, &numbers(width, 112..128, 5)).map_err(failed)?;
        self.forward_by_mma(e, out, lse, qkv)?;
        let result = |maps| -> Result<Vec<u8>, OpError> {
            let mut result = vec![0; bytes[0]];
            self.door.clear(dqkv, bytes[0]).map_err(failed)?;
            self.backward_at(&at, maps)?;
            self.door.read(&mut result, dqkv).map_err(failed)?;
            Ok(result)
        };
        Ok(Some(result(None)? == result(Some(maps))?))
    }
}

/// qkv and dout as matrices per sequence.
fn matrices(at: &Places) -> [Matrix; 2] {
    let e = at.e;
    [sequences(e, at.qkv, e.qkv_width()), sequences(e, at.dout, e.heads * e.head_dim)]
}

const OP: &str = "attention::backward";
const KEYS: [&str; 3] = [
    "attention_backward_keys_tc_32",
    "attention_backward_keys_tc_64",
    "attention_backward_keys_tc_128",
];
const QUERY: [&str; 3] = [
    "attention_backward_queries_tc_32",
    "attention_backward_queries_tc_64",
    "attention_backward_queries_tc_128",
];
const KEYS_WGMMA: [&str; 2] =
    ["attention_backward_keys_wgmma_64", "attention_backward_keys_wgmma_128"];
const QUERY_WGMMA: [&str; 2] =
    ["attention_backward_queries_wgmma_64", "attention_backward_queries_wgmma_128"];
