//! Attention on tensor cores, forward: blocks of 64 queries, or of 128.

use crate::backend::cuda::Cuda;
use crate::backend::cuda::buffer::Buffer;
use crate::backend::cuda::door::Address;
use crate::backend::cuda::door::Matrix;
use crate::backend::cuda::hopper::numbers;
use crate::backend::cuda::launch::Call;
use crate::ops::OpError;
use crate::ops::attention::Decode;
use crate::ops::attention::Extents;
use crate::ops::attention::Forward;
use crate::ops::attention::KEY_TILE;
use crate::tensor::DType;

impl Cuda {
    pub(super) fn tc_forward(&self, mut args: Forward<'_>) -> Result<(), OpError> {
        let e = args.extents;
        let out = self.at_mut("attention::forward out", &mut args.out, DType::Bf16)?;
        let lse = self.at_mut("attention::forward lse", &mut args.lse, DType::F32)?;
        let qkv = self.at("attention::forward qkv", args.qkv, DType::Bf16)?;
        match self.forward_map(e, qkv)? {
            Some(map) => self.forward_by_warp_groups(e, out, lse, map),
            None => self.forward_by_mma(e, out, lse, qkv),
        }
    }

    pub(super) fn forward_by_mma(
        &self,
        e: Extents,
        out: Address,
        lse: Address,
        qkv: Address,
    ) -> Result<(), OpError> {
        let names =
            ["attention_forward_tc_32", "attention_forward_tc_64", "attention_forward_tc_128"];
        let kernel = of_width("attention::forward extents", e, names)?;
        let shared = (QUERIES + 2 * KEY_TILE) * e.head_dim * 2;
        let call = self.kernel("attention::forward", kernel);
        let call = call.grid([e.seq_len.div_ceil(QUERIES), e.heads, e.sequences]);
        let call = call.block([128, 1, 1]).shared(shared).pointer(out).pointer(lse).pointer(qkv);
        extents(call, e).f32(scale_log2(e)).launch()
    }

    /// On Hopper; `map` is that of qkv.
    fn forward_by_warp_groups(
        &self,
        e: Extents,
        out: Address,
        lse: Address,
        map: Address,
    ) -> Result<(), OpError> {
        let wide = e.head_dim == 128;
        let kernel =
            if wide { "attention_forward_wgmma_128" } else { "attention_forward_wgmma_64" };
        // Two stages of keys and of values, and room to begin at a multiple of 1,024 bytes.
        let shared = (2 * QUERIES + 2 * 2 * KEY_TILE) * e.head_dim * 2 + 1024;
        let call = self.kernel("attention::forward", kernel);
        let call = call.grid([e.heads, e.sequences, e.seq_len.div_ceil(2 * QUERIES)]);
        let call = call.block([384, 1, 1]).shared(shared).pointer(out).pointer(lse).pointer(map);
        extents(call, e).f32(scale_log2(e)).launch()
    }

    /// The tensor map of qkv, if forward by warp groups is to be used.
    fn forward_map(&self, e: Extents, qkv: Address) -> Result<Option<Address>, OpError> {
        const OP: &str = "attention::forward";
        let nth = match e.head_dim {
            64 => 3,
            128 => 4,
            _ => return Ok(None),
        };
        if e.rows() == 0 || !qkv.0.is_multiple_of(16) {
            return Ok(None);
        }
        match self.admits(OP, nth, || self.probe_forward(OP, e))? {
            true => self.maps_of(OP, &[sequences(e, qkv, e.qkv_width()); 2]),
            false => Ok(None),
        }
    }

    /// Whether both kernels of forward give the same bits, in heads as wide as those of `e`.
    fn probe_forward(&self, op: &'static str, e: Extents) -> Result<Option<bool>, OpError> {
        let failed = |fault| self.failed(op, fault);
        let e = Extents { sequences: 2, seq_len: 330, heads: 3, kv_heads: 1, ..e };
        let memory = |bytes| -> Result<Buffer, OpError> {
            Ok(Buffer::new(self.door.clone(), self.door.alloc(bytes).map_err(failed)?))
        };
        let (elements, rows) = (e.rows() * e.qkv_width(), e.rows() * e.heads);
        let outputs = [memory(rows * e.head_dim * 2)?, memory(rows * 4)?];
        let [out, lse] = [0, 1].map(|i| outputs[i].address());
        let qkv = memory(elements * 2)?;
        let Some(map) = self.maps_of(op, &[sequences(e, qkv.address(), e.qkv_width()); 2])? else {
            return Ok(None);
        };
        self.door.write(qkv.address(), &numbers(elements, 118..128, 3)).map_err(failed)?;
        let results = || -> Result<[Vec<u8>; 2], OpError> {
            let mut results = [vec![0; rows * e.head_dim * 2], vec![0; rows * 4]];
            for (bytes, at) in results.iter_mut().zip([out, lse]) {
                self.door.read(bytes, at).map_err(failed)?;
                self.door.clear(at, bytes.len()).map_err(failed)?;
            }
            Ok(results)
        };
        self.forward_by_mma(e, out, lse, qkv.address())?;
        let by_mma = results()?;
        self.forward_by_warp_groups(e, out, lse, map)?;
        Ok(Some(by_mma == results()?))
    }

    pub(super) fn tc_decode(&self, mut args: Decode<'_>) -> Result<(), OpError> {
        let (e, first) = (args.extents, args.first_position);
        let names = ["attention_decode_tc_32", "attention_decode_tc_64", "attention_decode_tc_128"];
        let kernel = of_width("attention::decode extents", e, names)?;
        let out = self.at_mut("attention::decode out", &mut args.out, DType::Bf16)?;
        let qkv = self.at("attention::decode qkv", args.qkv, DType::Bf16)?;
        let cache = self.at("attention::decode cache", args.cache, DType::Bf16)?;
        // Blocks stand at multiples of 64 positions.
        let blocks = (first + e.seq_len).div_ceil(QUERIES) - first / QUERIES;
        let shared = (QUERIES + 2 * KEY_TILE) * e.head_dim * 2;
        let call = self.kernel("attention::decode", kernel).grid([blocks, e.heads, 1]);
        let call = call.block([128, 1, 1]).shared(shared).pointer(out).pointer(qkv).pointer(cache);
        extents(call, e).extent(first).f32(scale_log2(e)).launch()
    }
}

/// Rows of `columns` elements at `address`, as a matrix per sequence.
pub(super) fn sequences(e: Extents, address: Address, columns: usize) -> Matrix {
    Matrix { address, count: e.sequences, rows: e.seq_len, columns }
}

/// `log2(e) / sqrt(D)` in f64, rounded once.
pub(super) fn scale_log2(e: Extents) -> f32 {
    (std::f64::consts::LOG2_E / (e.head_dim as f64).sqrt()) as f32
}

pub(super) fn extents(call: Call<'_>, e: Extents) -> Call<'_> {
    call.extent(e.seq_len).extent(e.heads).extent(e.kv_heads)
}

/// The kernel for heads of 32, 64 or 128 elements.
pub(super) fn of_width(
    what: &'static str,
    e: Extents,
    names: [&'static str; 3],
) -> Result<&'static str, OpError> {
    match e.head_dim {
        32 => Ok(names[0]),
        64 => Ok(names[1]),
        128 => Ok(names[2]),
        d => {
            let why = format!("heads of {d} elements; on tensor cores they have 32, 64 or 128");
            Err(OpError::Extent { what, why })
        }
    }
}

/// Queries of a block.
pub(super) const QUERIES: usize = 64;
