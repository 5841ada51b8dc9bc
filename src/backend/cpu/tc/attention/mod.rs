//! Attention as tensor cores compute it (docs/ARITHMETIC.md, 16.7).
//!
//! A block of `2·LEN` queries lies in lanes, so that maxima, exponentials and sums run down the keys
//! without leaving a lane, and probabilities are a panel of the next product as they stand. Heads
//! are packed once, in the orders that their products read them.

mod backward;
mod forward;

use rayon::prelude::*;

use super::pack::Head;
use crate::backend::cpu::Cpu;
use crate::backend::cpu::attention::each_group;
use crate::backend::cpu::columns::Columns;
use crate::ops::OpError;
use crate::ops::TensorCore;
use crate::ops::attention::Backward;
use crate::ops::attention::Decode;
use crate::ops::attention::Forward;
use crate::ops::host;
use crate::ops::host_mut;

/// See `ops::attention::forward`.
pub fn forward(cpu: &Cpu, core: TensorCore, args: Forward<'_>) -> Result<(), OpError> {
    let e = args.extents;
    let out = host_mut("attention::forward out", args.out)?;
    let lse = host_mut("attention::forward lse", args.lse)?;
    let qkv = host("attention::forward qkv", args.qkv)?;
    let row = e.qkv_width();
    let job = forward::Job { core, extents: e, first_position: 0, level: cpu.level() };
    let out = Columns::new(out, e.heads * e.head_dim);
    let lse = Columns::new(lse, e.heads * e.seq_len);
    cpu.run(|| {
        each_group(e).for_each(|(sequence, kv_head)| {
            let qkv = &qkv[sequence * e.seq_len * row..][..e.seq_len * row];
            let head = |first: usize| Head {
                data: &qkv[first * e.head_dim..],
                stride: row,
                rows: e.seq_len,
                width: e.head_dim,
            };
            let keys = head(e.heads + kv_head);
            let values = head(e.heads + e.kv_heads + kv_head);
            job.group(qkv, (keys, values), (sequence, kv_head), (&out, &lse));
        });
    });
    Ok(())
}

/// See `ops::attention::backward`.
pub fn backward(cpu: &Cpu, core: TensorCore, args: Backward<'_>) -> Result<(), OpError> {
    let e = args.extents;
    let dqkv = host_mut("attention::backward dqkv", args.dqkv)?;
    let job = backward::Job {
        core,
        extents: e,
        level: cpu.level(),
        qkv: host("attention::backward qkv", args.qkv)?,
        out: host("attention::backward out", args.out)?,
        dout: host("attention::backward dout", args.dout)?,
        lse: host("attention::backward lse", args.lse)?,
    };
    let dqkv = Columns::new(dqkv, e.qkv_width());
    cpu.run(|| each_group(e).for_each(|(sequence, kv_head)| job.group(sequence, kv_head, &dqkv)));
    Ok(())
}

/// See `ops::attention::decode`.
pub fn decode(cpu: &Cpu, core: TensorCore, args: Decode<'_>) -> Result<(), OpError> {
    let e = args.extents;
    let out = host_mut("attention::decode out", args.out)?;
    let qkv = host("attention::decode qkv", args.qkv)?;
    let cache = host("attention::decode cache", args.cache)?;
    let first_position = args.first_position;
    let job = forward::Job { core, extents: e, first_position, level: cpu.level() };
    let mut lse = vec![0.0; e.heads * e.seq_len];
    let out = Columns::new(out, e.heads * e.head_dim);
    let lse = Columns::new(&mut lse, e.heads * e.seq_len);
    cpu.run(|| {
        each_group(e).for_each(|(sequence, kv_head)| {
            let head = |first: usize| Head {
                data: &cache[first * e.head_dim..],
                stride: 2 * e.kv_heads * e.head_dim,
                rows: first_position + e.seq_len,
                width: e.head_dim,
            };
            let heads = (head(kv_head), head(e.kv_heads + kv_head));
            job.group(qkv, heads, (sequence, kv_head), (&out, &lse));
        });
    });
    Ok(())
}

/// The number of each lane.
const LANE: [f32; 32] = {
    let mut lanes = [0.0; 32];
    let mut i = 0;
    while i < lanes.len() {
        lanes[i] = i as f32;
        i += 1;
    }
    lanes
};
