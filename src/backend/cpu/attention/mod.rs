//! Causal attention on the CPU: products of small tiles, everything else in lanes.
//!
//! Forward keeps 32 queries in lanes, backward 32 keys, so every sum of the contract is a chain
//! that never leaves its lane. Heads are copied to dense scratch first, rounded where the profile
//! says so; a masked score becomes an exact zero.

mod backward;
mod forward;
mod heads;
mod product;

use half::bf16;
use rayon::prelude::*;

use crate::backend::cpu::columns::Columns;
use crate::backend::cpu::tc;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::attention::Append;
use crate::ops::attention::Backward;
use crate::ops::attention::Decode;
use crate::ops::attention::Extents;
use crate::ops::attention::Forward;
use crate::ops::attention::Kernel;
use crate::ops::host;
use crate::ops::host_mut;
use crate::tensor::DType;
use crate::tensor::Element;

/// Queries (forward) or keys (backward) in lanes: a multiple of every level's vector.
const LANES: usize = 32;

impl Kernel for super::Cpu {
    fn attention_forward(&self, args: Forward<'_>) -> Result<(), OpError> {
        if let Precision::Tc(core) = args.precision {
            return tc::attention::forward(self, core, args);
        }
        let e = args.extents;
        let out = host_mut("attention::forward out", args.out)?;
        let lse = host_mut::<f32>("attention::forward lse", args.lse)?;
        let qkv = host::<f32>("attention::forward qkv", args.qkv)?;
        let row = e.qkv_width();
        let keys = e.heads * e.head_dim;
        let job = forward::Job {
            extents: e,
            precision: args.precision,
            first_position: 0,
            key_stride: row,
            level: self.level(),
        };
        let value_offset = e.kv_heads * e.head_dim;
        let outputs = forward::Outputs::new(out, lse, e);
        self.run(|| {
            each_group(e).for_each(|(sequence, kv_head)| {
                let qkv = &qkv[sequence * e.seq_len * row..][..e.seq_len * row];
                let keys = &qkv[keys..];
                job.group(qkv, keys, &keys[value_offset..], sequence, kv_head, &outputs);
            });
        });
        Ok(())
    }

    fn attention_backward(&self, args: Backward<'_>) -> Result<(), OpError> {
        if let Precision::Tc(core) = args.precision {
            return tc::attention::backward(self, core, args);
        }
        let e = args.extents;
        let dqkv = host_mut("attention::backward dqkv", args.dqkv)?;
        let job = backward::Job {
            extents: e,
            precision: args.precision,
            level: self.level(),
            qkv: host("attention::backward qkv", args.qkv)?,
            out: host("attention::backward out", args.out)?,
            dout: host("attention::backward dout", args.dout)?,
            lse: host("attention::backward lse", args.lse)?,
        };
        let dqkv = Columns::new(dqkv, e.qkv_width());
        self.run(|| {
            each_group(e).for_each(|(sequence, kv_head)| job.group(sequence, kv_head, &dqkv));
        });
        Ok(())
    }

    fn attention_append(&self, args: Append<'_>) -> Result<(), OpError> {
        let width = args.cache.shape()[1];
        let row = args.qkv.shape()[1];
        match args.qkv.dtype() {
            DType::Bf16 => append::<bf16>(args, width, row),
            _ => append::<f32>(args, width, row),
        }
    }

    fn attention_decode(&self, args: Decode<'_>) -> Result<(), OpError> {
        if let Precision::Tc(core) = args.precision {
            return tc::attention::decode(self, core, args);
        }
        let e = args.extents;
        let out = host_mut("attention::decode out", args.out)?;
        let qkv = host::<f32>("attention::decode qkv", args.qkv)?;
        let cache = host::<f32>("attention::decode cache", args.cache)?;
        let job = forward::Job {
            extents: e,
            precision: args.precision,
            first_position: args.first_position,
            key_stride: 2 * e.kv_heads * e.head_dim,
            level: self.level(),
        };
        let mut lse = vec![0.0; e.heads * e.seq_len];
        let outputs = forward::Outputs::new(out, &mut lse, e);
        self.run(|| {
            each_group(e).for_each(|(sequence, kv_head)| {
                let values = &cache[(e.kv_heads * e.head_dim).min(cache.len())..];
                job.group(qkv, cache, values, sequence, kv_head, &outputs);
            });
        });
        Ok(())
    }
}

/// Every (sequence, key/value head), in parallel.
pub(super) fn each_group(e: Extents) -> impl ParallelIterator<Item = (usize, usize)> {
    let groups = if e.seq_len == 0 { 0 } else { e.sequences * e.kv_heads };
    (0..groups).into_par_iter().with_max_len(1).map(move |i| (i / e.kv_heads, i % e.kv_heads))
}

/// Copies the ends of rows of `row` elements to rows of `width`.
fn append<E: Element>(args: Append<'_>, width: usize, row: usize) -> Result<(), OpError> {
    let cache = host_mut::<E>("attention::append cache", args.cache)?;
    let qkv = host::<E>("attention::append qkv", args.qkv)?;
    if width == 0 {
        return Ok(());
    }
    for (to, from) in cache.chunks_exact_mut(width).zip(qkv.chunks_exact(row)) {
        to.copy_from_slice(&from[row - width..]);
    }
    Ok(())
}
