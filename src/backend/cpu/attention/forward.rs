//! Forward: 32 queries of a head in lanes, keys in tiles, online softmax.

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
use crate::ops::attention::KEY_TILE;

/// What all groups share.
pub(super) struct Job {
    pub extents: Extents,
    pub precision: Precision,
    /// Position of the first query.
    pub first_position: usize,
    /// Distance between the rows of keys, and of values.
    pub key_stride: usize,
    pub level: Level,
}

/// Where results go.
pub(super) struct Outputs<'a> {
    out: Columns<'a>,
    lse: Columns<'a>,
}

impl<'a> Outputs<'a> {
    /// `out` `(N, H·D)` and `lse` `(B, H, T)`.
    pub fn new(out: &'a mut [f32], lse: &'a mut [f32], e: Extents) -> Self {
        Self {
            out: Columns::new(out, e.heads * e.head_dim),
            lse: Columns::new(lse, e.heads * e.seq_len),
        }
    }
}

/// Running values of 32 queries.
struct Softmax {
    max: [f32; LANES],
    sum: [f32; LANES],
    alpha: [f32; LANES],
}

impl Job {
    /// All query heads of one sequence that share `kv_head`. `qkv` holds the queries' rows;
    /// `keys` and `values` start at the first head of the first position.
    pub fn group(
        &self,
        qkv: &[f32],
        keys: &[f32],
        values: &[f32],
        sequence: usize,
        kv_head: usize,
        outputs: &Outputs<'_>,
    ) {
        let (e, d) = (self.extents, self.extents.head_dim);
        let positions = self.first_position + e.seq_len;
        let padded = positions.next_multiple_of(LANES);
        let sizes = [padded * d, padded * d, d * LANES, d * LANES, KEY_TILE * LANES];
        let mut arrays = Arrays::new(sizes.iter().sum());
        let [k, v, q, o, s] = arrays.deal(sizes);
        let (stride, precision) = (self.key_stride, self.precision);
        copy_rows(&keys[kv_head * d..], stride, (positions, d), k, d);
        copy_rows(&values[kv_head * d..], stride, (positions, d), v, d);
        round(self.level, precision, k);
        round(self.level, precision, v);
        let group = e.heads / e.kv_heads;
        for head in kv_head * group..(kv_head + 1) * group {
            for first in (0..e.seq_len).step_by(LANES) {
                let queries = LANES.min(e.seq_len - first);
                let source = &qkv[first * e.qkv_width() + head * d..];
                to_lanes(source, e.qkv_width(), queries, d, q);
                round(self.level, precision, q);
                let softmax = self.block(k, v, q, o, s, self.first_position + first);
                for lane in 0..queries {
                    let row = sequence * e.seq_len + first + lane;
                    // SAFETY: each head's columns of a row, and each (head, query) of lse, belong
                    // to one group.
                    let (out, lse) = unsafe {
                        (
                            outputs.out.row(row, head * d, d),
                            outputs.lse.row(sequence, head * e.seq_len + first + lane, 1),
                        )
                    };
                    let inverse = 1.0 / softmax.sum[lane];
                    for (slot, &x) in out.iter_mut().zip(o[lane..].iter().step_by(LANES)) {
                        *slot = x * inverse + 0.0;
                    }
                    lse[0] = softmax.max[lane] + math::log(softmax.sum[lane]);
                }
            }
        }
    }

    /// 32 queries from position `first` on against all their keys; leaves sums in `o`.
    fn block(
        &self,
        k: &[f32],
        v: &[f32],
        q: &[f32],
        o: &mut [f32],
        s: &mut [f32],
        first: usize,
    ) -> Softmax {
        let (level, precision, d) = (self.level, self.precision, self.extents.head_dim);
        let mut state =
            Softmax { max: [f32::NEG_INFINITY; LANES], sum: [0.0; LANES], alpha: [0.0; LANES] };
        let end = (first + LANES).min(k.len() / d).next_multiple_of(2);
        for tile in (0..end).step_by(KEY_TILE) {
            let keys = KEY_TILE.min(end - tile);
            let scores = Product {
                rows: keys,
                k: d,
                a: &k[tile * d..],
                a_row: d,
                a_k: 1,
                b: q,
                b_stride: LANES,
                out_stride: LANES,
                load: false,
            };
            scores.run(level, precision, s);
            let s = &mut s[..keys * LANES];
            let scale = self.extents.scale();
            let diagonal = first as isize - tile as isize;
            let softmax = &mut state;
            at_level!(level, softmax_tile(s: &mut [f32], softmax: &mut Softmax, scale: f32, diagonal: isize));
            if tile > 0 {
                let alpha = &state.alpha;
                at_level!(level, rescale(o: &mut [f32], alpha: &[f32; LANES]));
            }
            round(level, precision, s);
            let values = Product {
                rows: d,
                k: keys,
                a: &v[tile * d..],
                a_row: 1,
                a_k: d,
                b: s,
                b_stride: LANES,
                out_stride: LANES,
                load: tile > 0,
            };
            values.run(level, precision, o);
        }
        state
    }
}

/// Turns products into probabilities in place and updates the running values.
///
/// Key `j` of the tile is masked for lane `l` where `l < j - diagonal`.
///
/// # Safety
/// `V`'s instruction set is available; `s` is whole rows of 32 lanes.
#[inline(always)]
unsafe fn softmax_tile<V: Lanes>(
    s: &mut [f32],
    softmax: &mut Softmax,
    scale: f32,
    diagonal: isize,
) {
    let keys = s.len() / LANES;
    let s = s.as_mut_ptr();
    for lane in (0..LANES).step_by(V::LEN) {
        // SAFETY: lanes `lane..lane + LEN` of rows below `keys`, and of the running values.
        unsafe {
            let before = V::load(softmax.max.as_ptr().add(lane));
            let lanes = V::load(LANE.as_ptr().add(lane));
            let mut max = before;
            for j in 0..keys {
                let at = s.add(j * LANES + lane);
                let mut x = V::load(at).mul(V::splat(scale));
                if j as isize > diagonal {
                    let first = V::splat((j as isize - diagonal) as f32);
                    x = V::select_less(lanes, first, V::splat(f32::NEG_INFINITY), x);
                }
                x.store(at);
                max = x.max(max);
            }
            let mut sum = V::splat(0.0);
            for j in 0..keys {
                let at = s.add(j * LANES + lane);
                let p = math::exp(V::load(at).sub(max));
                p.store(at);
                sum = sum.add(p);
            }
            let alpha = math::exp(before.sub(max));
            let total = V::load(softmax.sum.as_ptr().add(lane)).fma(alpha, sum);
            max.store(softmax.max.as_mut_ptr().add(lane));
            alpha.store(softmax.alpha.as_mut_ptr().add(lane));
            total.store(softmax.sum.as_mut_ptr().add(lane));
        }
    }
}

/// Multiplies every row of 32 lanes by `alpha`.
///
/// # Safety
/// `V`'s instruction set is available; `o` is whole rows of 32 lanes.
#[inline(always)]
unsafe fn rescale<V: Lanes>(o: &mut [f32], alpha: &[f32; LANES]) {
    for row in o.chunks_exact_mut(LANES) {
        for lane in (0..LANES).step_by(V::LEN) {
            // SAFETY: lanes within a row of 32.
            unsafe {
                let at = row.as_mut_ptr().add(lane);
                V::load(at).mul(V::load(alpha.as_ptr().add(lane))).store(at);
            }
        }
    }
}

/// The number of each lane.
pub(super) const LANE: [f32; LANES] = {
    let mut lanes = [0.0; LANES];
    let mut i = 0;
    while i < LANES {
        lanes[i] = i as f32;
        i += 1;
    }
    lanes
};
