//! Backward: 32 keys in lanes, probabilities recomputed from `lse`.

use super::LANES;
use super::heads::copy_rows;
use super::heads::round;
use super::heads::to_lanes;
use super::product::Product;
use crate::backend::cpu::columns::Columns;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;
use crate::backend::cpu::math;
use crate::backend::cpu::scratch::Arrays;
use crate::ops::Precision;
use crate::ops::attention::Extents;

/// What all groups share.
pub(super) struct Job<'a> {
    pub extents: Extents,
    pub precision: Precision,
    pub level: Level,
    pub qkv: &'a [f32],
    pub out: &'a [f32],
    pub dout: &'a [f32],
    pub lse: &'a [f32],
}

/// One key/value head, dense. `P` is T rounded up to 32, `W` is D rounded up to 32.
struct Keys<'a> {
    /// `(P, W)`.
    k: &'a [f32],
    /// `(P / 32, D, 32)`: keys in lanes.
    k_lanes: &'a [f32],
    /// `(P / 32, D, 32)`.
    v_lanes: &'a [f32],
}

/// One query head, dense.
struct Queries<'a> {
    /// `(P, D)`.
    q: &'a [f32],
    /// `(P, D)`.
    dout: &'a [f32],
    /// `(P)`.
    lse: &'a [f32],
    /// `(P)`.
    delta: &'a [f32],
}

/// Where a block of 32 keys puts its results.
struct Gradients<'a> {
    /// `(P, W)`, added to.
    dq: &'a mut [f32],
    /// `(D, 32)` of this block, added to.
    dk: &'a mut [f32],
    /// `(D, 32)` of this block, added to.
    dv: &'a mut [f32],
}

impl Job<'_> {
    /// All query heads of one sequence that share `kv_head`, and their gradients.
    pub fn group(&self, sequence: usize, kv_head: usize, dqkv: &Columns<'_>) {
        let (e, d, t) = (self.extents, self.extents.head_dim, self.extents.seq_len);
        let (p, w) = (t.next_multiple_of(LANES), d.next_multiple_of(LANES));
        let row = e.qkv_width();
        let first_row = sequence * t;
        let qkv = &self.qkv[first_row * row..][..t * row];
        let sizes =
            [p * w, p * d, p * d, p * d, p * d, p * d, p * d, p, p, p * w, LANES * LANES * 2];
        let mut arrays = Arrays::new(sizes.iter().sum());
        let [k, k_lanes, v_lanes, q, dout, dk, dv, lse, delta, dq, tile] = arrays.deal(sizes);
        let k_column = (e.heads + kv_head) * d;
        let v_column = (e.heads + e.kv_heads + kv_head) * d;
        copy_rows(&qkv[k_column..], row, (t, d), k, w);
        for block in (0..p).step_by(LANES) {
            let rows = LANES.min(t - block);
            let lanes = block * d..(block + LANES) * d;
            to_lanes(&qkv[block * row + k_column..], row, rows, d, &mut k_lanes[lanes.clone()]);
            to_lanes(&qkv[block * row + v_column..], row, rows, d, &mut v_lanes[lanes]);
        }
        for array in [&mut *k, k_lanes, v_lanes] {
            round(self.level, self.precision, array);
        }
        let keys = Keys { k, k_lanes, v_lanes };
        let group = e.heads / e.kv_heads;
        for (i, head) in (kv_head * group..(kv_head + 1) * group).enumerate() {
            self.load_queries(sequence, head, (&mut *q, &mut *dout), (&mut *lse, &mut *delta));
            dq.fill(0.0);
            let queries = Queries { q, dout, lse, delta };
            for block in 0..p / LANES {
                let lanes = block * d * LANES..(block + 1) * d * LANES;
                let (dk, dv) = (&mut dk[lanes.clone()], &mut dv[lanes]);
                let gradients = Gradients { dq: &mut *dq, dk, dv };
                self.block(&keys, &queries, block, i > 0, gradients, tile);
            }
            for position in 0..t {
                // SAFETY: a query head's columns belong to its group.
                let out = unsafe { dqkv.row(first_row + position, head * d, d) };
                for (slot, &x) in out.iter_mut().zip(&dq[position * w..]) {
                    *slot = x + 0.0;
                }
            }
        }
        for (column, lanes) in [(k_column, &*dk), (v_column, &*dv)] {
            for position in 0..t {
                // SAFETY: a key/value head's columns belong to its group.
                let out = unsafe { dqkv.row(first_row + position, column, d) };
                let lane = position / LANES * LANES * d + position % LANES;
                for (slot, &x) in out.iter_mut().zip(lanes[lane..].iter().step_by(LANES)) {
                    *slot = x + 0.0;
                }
            }
        }
    }

    fn load_queries(
        &self,
        sequence: usize,
        head: usize,
        (q, dout): (&mut [f32], &mut [f32]),
        (lse, delta): (&mut [f32], &mut [f32]),
    ) {
        let (e, d, t) = (self.extents, self.extents.head_dim, self.extents.seq_len);
        let first_row = sequence * t;
        let width = e.heads * d;
        copy_rows(&self.qkv[first_row * e.qkv_width() + head * d..], e.qkv_width(), (t, d), q, d);
        let rows = first_row * width + head * d;
        copy_rows(&self.dout[rows..], width, (t, d), dout, d);
        let source = &self.out[rows..];
        let deltas = &mut delta[..t];
        let products = &*dout;
        at_level!(self.level, deltas_of(deltas: &mut [f32], products: &[f32], source: &[f32], width: usize, d: usize));
        delta[t..].fill(0.0);
        lse[..t].copy_from_slice(&self.lse[(sequence * e.heads + head) * t..][..t]);
        lse[t..].fill(0.0);
        round(self.level, self.precision, q);
        round(self.level, self.precision, dout);
    }

    /// 32 keys against all queries from them on.
    fn block(
        &self,
        keys: &Keys<'_>,
        queries: &Queries<'_>,
        block: usize,
        add: bool,
        gradients: Gradients<'_>,
        tile: &mut [f32],
    ) {
        let (level, precision, d) = (self.level, self.precision, self.extents.head_dim);
        let (w, p) = (d.next_multiple_of(LANES), queries.lse.len());
        let (probabilities, ds) = tile.split_at_mut(LANES * LANES);
        let lanes = block * d * LANES..(block + 1) * d * LANES;
        let first_key = block * LANES;
        for first in (first_key..p).step_by(LANES) {
            let rows = first * d..(first + LANES) * d;
            let product = |a, b| Product {
                rows: LANES,
                k: d,
                a,
                a_row: d,
                a_k: 1,
                b,
                b_stride: LANES,
                out_stride: LANES,
                load: false,
            };
            let (q, dout) = (&queries.q[rows.clone()], &queries.dout[rows]);
            product(q, &keys.k_lanes[lanes.clone()]).run(level, precision, probabilities);
            product(dout, &keys.v_lanes[lanes.clone()]).run(level, precision, ds);
            let scale = self.extents.scale();
            let lse = &queries.lse[first..first + LANES];
            let delta = &queries.delta[first..first + LANES];
            let diagonal = first == first_key;
            let (s, dp) = (&mut *probabilities, &mut *ds);
            at_level!(level, softmax_backward(s: &mut [f32], dp: &mut [f32], lse: &[f32], delta: &[f32], scale: f32, diagonal: bool));
            round(level, precision, probabilities);
            round(level, precision, ds);
            let product = |a, b| Product {
                rows: d,
                k: LANES,
                a,
                a_row: 1,
                a_k: d,
                b,
                b_stride: LANES,
                out_stride: LANES,
                load: add || first > first_key,
            };
            product(dout, &*probabilities).run(level, precision, gradients.dv);
            product(q, &*ds).run(level, precision, gradients.dk);
            for column in (0..w).step_by(LANES) {
                let product = Product {
                    rows: LANES,
                    k: LANES,
                    a: ds,
                    a_row: LANES,
                    a_k: 1,
                    b: &keys.k[first_key * w + column..],
                    b_stride: w,
                    out_stride: w,
                    load: true,
                };
                product.run(level, precision, &mut gradients.dq[first * w + column..]);
            }
        }
    }
}

/// `delta[t] = chain over d of dout[t][d] * out[t][d]`; eight rows at a time, to hide latency.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
#[allow(clippy::extra_unused_type_parameters, reason = "names the level to compile for")]
unsafe fn deltas_of<V: Lanes>(
    delta: &mut [f32],
    dout: &[f32],
    out: &[f32],
    out_stride: usize,
    d: usize,
) {
    const ROWS: usize = 8;
    for (block, delta) in delta.chunks_mut(ROWS).enumerate() {
        let row = |r: usize| block * ROWS + r.min(delta.len() - 1);
        let x: [&[f32]; ROWS] = std::array::from_fn(|r| &dout[row(r) * d..][..d]);
        let y: [&[f32]; ROWS] = std::array::from_fn(|r| &out[row(r) * out_stride..][..d]);
        let mut sums = [0.0f32; ROWS];
        for i in 0..d {
            for r in 0..ROWS {
                sums[r] = x[r][i].mul_add(y[r][i], sums[r]);
            }
        }
        delta.copy_from_slice(&sums[..delta.len()]);
    }
}

/// From products to `p` (in `s`) and `ds` (in `dp`); rows are queries, lanes keys. On the
/// diagonal block, lanes after the row are masked.
///
/// # Safety
/// `V`'s instruction set is available; both tiles are 32 rows of 32 lanes.
#[inline(always)]
unsafe fn softmax_backward<V: Lanes>(
    s: &mut [f32],
    dp: &mut [f32],
    lse: &[f32],
    delta: &[f32],
    scale: f32,
    diagonal: bool,
) {
    for (row, (lse, delta)) in lse.iter().zip(delta).enumerate() {
        for lane in (0..LANES).step_by(V::LEN) {
            let offset = row * LANES + lane;
            // SAFETY: within 32 rows of 32 lanes.
            unsafe {
                let (s, dp) = (s.as_mut_ptr().add(offset), dp.as_mut_ptr().add(offset));
                let mut x = V::load(s).mul(V::splat(scale)).sub(V::splat(*lse));
                if diagonal {
                    let lanes = V::load(super::forward::LANE.as_ptr().add(lane));
                    let last = V::splat(row as f32);
                    x = V::select_less(last, lanes, V::splat(f32::NEG_INFINITY), x);
                }
                let p = math::exp(x);
                let ds = p.mul(V::load(dp).sub(V::splat(*delta))).mul(V::splat(scale));
                p.store(s);
                ds.store(dp);
            }
        }
    }
}
