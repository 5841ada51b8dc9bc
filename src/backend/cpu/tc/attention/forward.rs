//! Forward, and decoding: online softmax over tiles of keys.

use half::bf16;

use super::LANE;
use crate::backend::cpu::columns::Columns;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;
use crate::backend::cpu::math;
use crate::backend::cpu::scratch::Arrays;
use crate::backend::cpu::tc::kernel::Chains;
use crate::backend::cpu::tc::kernel::Left;
use crate::backend::cpu::tc::kernel::Right;
use crate::backend::cpu::tc::lanes::Sums;
use crate::backend::cpu::tc::pack;
use crate::backend::cpu::tc::pack::Head;
use crate::backend::cpu::tc::pack::LeftMut;
use crate::backend::cpu::tc::product::lanes;
use crate::backend::cpu::tc::product::words;
use crate::ops::TC_STEP;
use crate::ops::TensorCore;
use crate::ops::attention::Extents;
use crate::ops::attention::KEY_TILE;

/// What all groups share.
pub(super) struct Job {
    pub core: TensorCore,
    pub extents: Extents,
    /// Position of the first query.
    pub first_position: usize,
    pub level: Level,
}

/// Running values of a block's queries, of which the first `2·LEN` lanes are in use.
struct Softmax {
    max: [f32; 32],
    /// Largest score times c.
    max_c: [f32; 32],
    alpha: [f32; 32],
    sums: [[f32; 32]; PARTIALS],
}

/// Where the queries of a block stand, and which keys they see.
#[derive(Clone, Copy)]
struct Place {
    /// Position of lane 0.
    first: usize,
    /// The tile's first key.
    tile: usize,
    /// From scores to exponents of two.
    c: f32,
}

impl Job {
    /// All query heads of one sequence that share `kv_head`. `qkv` holds the queries' rows.
    pub fn group(
        &self,
        qkv: &[bf16],
        (keys, values): (Head<'_>, Head<'_>),
        (sequence, kv_head): (usize, usize),
        (out, lse): (&Columns<'_, bf16>, &Columns<'_>),
    ) {
        let (e, d, level) = (self.extents, self.extents.head_dim, self.level);
        let width = 2 * lanes(level);
        let positions = keys.rows.next_multiple_of(KEY_TILE);
        let (tiles, k) = (positions / KEY_TILE, d.next_multiple_of(TC_STEP));
        let (rows, columns) = (positions * k, d * positions);
        let sizes = [
            rows,
            rows,
            positions,
            columns,
            columns,
            tiles * d,
            k * width,
            k * width,
            d * width,
            KEY_TILE * width,
            KEY_TILE * width,
        ];
        let mut arrays = Arrays::new(sizes.iter().sum());
        let [key, key_f, key_l, value, value_f, value_l, q, q_f, o, s, s_f] = arrays.deal(sizes);
        let (key_f, key_l, value_f, value_l) =
            (words(key_f), words(key_l), words(value_f), words(value_l));
        let (q_f, s_f) = (words(q_f), words(s_f));
        keys.left(level, LeftMut { data: key, fields: key_f, stride: k, largest: key_l });
        let to = LeftMut { data: value, fields: value_f, stride: positions, largest: value_l };
        values.left_transposed(level, to);
        let group = e.heads / e.kv_heads;
        for head in kv_head * group..(kv_head + 1) * group {
            let queries =
                Head { data: &qkv[head * d..], stride: e.qkv_width(), rows: e.seq_len, width: d };
            let mut row = 0;
            while row < e.seq_len {
                // A block ends with a tile of keys: all its queries see the same tiles.
                let first = self.first_position + row;
                let count = width.min(e.seq_len - row).min(KEY_TILE - first % KEY_TILE);
                let largest = queries.rows(row, count).panel_transposed(level, q, q_f);
                let q = Right { data: q, fields: q_f, largest };
                let softmax = &mut Softmax::new();
                for tile in 0..=first / KEY_TILE {
                    let at = tile * KEY_TILE;
                    let left = Left {
                        data: &key[at * k..],
                        fields: &key_f[at * k..],
                        stride: k,
                        largest: &key_l[at..at + KEY_TILE],
                    };
                    Chains { core: self.core, left, right: q, k, load: false }.run(level, s, width);
                    let place = Place { first, tile: at, c: e.log2_scale() };
                    let (s, s_f, o) = (&mut *s, &mut *s_f, &mut *o);
                    let largest = at_level!(level, softmax_tile(
                        s: &mut [f32],
                        s_f: &mut [u32],
                        o: &mut [f32],
                        softmax: &mut Softmax,
                        place: Place,
                    ) -> u32);
                    let left = Left {
                        data: &value[at..],
                        fields: &value_f[at..],
                        stride: positions,
                        largest: &value_l[tile * d..(tile + 1) * d],
                    };
                    let right = Right { data: s, fields: s_f, largest };
                    let load = tile > 0;
                    Chains { core: self.core, left, right, k: KEY_TILE, load }.run(level, o, width);
                }
                for lane in 0..count {
                    let token = sequence * e.seq_len + row + lane;
                    let sum = softmax.sum(lane);
                    // SAFETY: each head's columns of a row, and each (head, query) of lse, belong to
                    // one group.
                    let (out, lse) = unsafe {
                        let column = head * e.seq_len + row + lane;
                        (out.row(token, head * d, d), lse.row(sequence, column, 1))
                    };
                    let inverse = 1.0 / sum;
                    for (to, x) in out.iter_mut().zip(o[lane..].iter().step_by(width)) {
                        *to = bf16::from_f32(x * inverse);
                    }
                    let log2_e = std::f32::consts::LOG2_E;
                    lse[0] = math::log(sum).mul_add(log2_e, softmax.max_c[lane]);
                }
                row += count;
            }
        }
    }
}

impl Softmax {
    fn new() -> Self {
        let zeros = [0.0; 32];
        Self { max: [f32::NEG_INFINITY; 32], max_c: zeros, alpha: zeros, sums: [zeros; PARTIALS] }
    }

    /// The sum of a lane's probabilities.
    fn sum(&self, lane: usize) -> f32 {
        let mut sums = self.sums.map(|sums| sums[lane]);
        for width in [4, 2, 1] {
            for r in 0..width {
                sums[r] += sums[r + width];
            }
        }
        sums[0]
    }
}

/// Turns scores `(128, 2·LEN)` into rounded probabilities in place, updates the running values and
/// scales `o`; writes the probabilities' exponent fields and returns the largest.
///
/// # Safety
/// `V`'s instruction set is available; `s` is a tile, `fields` half as many, `o` whole lines.
#[inline(always)]
unsafe fn softmax_tile<V: Sums>(
    s: &mut [f32],
    fields: &mut [u32],
    o: &mut [f32],
    softmax: &mut Softmax,
    place: Place,
) -> u32 {
    let width = 2 * V::LEN;
    let c = place.c;
    for lane in [0, V::LEN] {
        // SAFETY: lanes below `width` of lines of the tile, of `o` and of the running values.
        unsafe {
            let (before, c) = (V::load(softmax.max.as_ptr().add(lane)), V::splat(c));
            let numbers = V::load(LANE.as_ptr().add(lane));
            let s = s.as_mut_ptr().add(lane);
            let mut max = before;
            for j in 0..KEY_TILE {
                let mut x = V::load(s.add(j * width));
                if place.tile + j > place.first {
                    let first = V::splat((place.tile + j - place.first) as f32);
                    x = V::select_less(numbers, first, V::splat(f32::NEG_INFINITY), x);
                }
                max = x.max(max);
            }
            let max_c = max.mul(c);
            let minus = max_c.mul(V::splat(-1.0));
            let mut sums = [V::splat(0.0); PARTIALS];
            for j in 0..KEY_TILE {
                let at = s.add(j * width);
                let mut p = math::exp2(V::load(at).fma(c, minus));
                if place.tile + j > place.first {
                    let first = V::splat((place.tile + j - place.first) as f32);
                    p = V::select_less(numbers, first, V::splat(0.0), p);
                }
                sums[j % PARTIALS] = sums[j % PARTIALS].add(p);
                p.nearest_bf16().store(at);
            }
            let alpha = math::exp2(before.fma(c, minus));
            for (r, sum) in sums.iter().enumerate() {
                let at = softmax.sums[r].as_mut_ptr().add(lane);
                let sum = if place.tile == 0 { *sum } else { V::load(at).fma(alpha, *sum) };
                sum.store(at);
            }
            max.store(softmax.max.as_mut_ptr().add(lane));
            max_c.store(softmax.max_c.as_mut_ptr().add(lane));
            alpha.store(softmax.alpha.as_mut_ptr().add(lane));
            if place.tile > 0 {
                for line in o.chunks_exact_mut(width) {
                    let at = line.as_mut_ptr().add(lane);
                    V::load(at).mul(alpha).store(at);
                }
            }
        }
    }
    // SAFETY: as this function.
    unsafe { pack::panel_fields::<V>(s.as_ptr(), fields.as_mut_ptr(), KEY_TILE) }
}

/// Interleaved partial sums of probabilities: a constant of the contract.
const PARTIALS: usize = 8;
