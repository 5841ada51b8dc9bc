//! Backward: probabilities recomputed from `lse`, block by block of queries.
//!
//! For a key the chains of `dk` and `dv` run over the heads of its group, in each over tiles of
//! queries from the last one down; for a query `dq` adds up the chains of tiles of keys from the
//! first one on. So heads are the outer loop, tiles of keys the next, tiles of queries the inner.

use half::bf16;

use super::LANE;
use crate::backend::cpu::columns::Columns;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;
use crate::backend::cpu::math;
use crate::backend::cpu::math::RowSum;
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
use crate::ops::attention::QUERY_TILE;

/// What all groups share.
pub(super) struct Job<'a> {
    pub core: TensorCore,
    pub extents: Extents,
    pub level: Level,
    pub qkv: &'a [bf16],
    pub out: &'a [bf16],
    pub dout: &'a [bf16],
    pub lse: &'a [f32],
}

/// Numbers with their exponent fields, and the largest field of each row or panel.
struct Packed<'a> {
    data: &'a mut [f32],
    fields: &'a mut [u32],
    largest: &'a mut [u32],
}

impl<'a> Packed<'a> {
    fn new(data: &'a mut [f32], fields: &'a mut [f32], largest: &'a mut [f32]) -> Self {
        Self { data, fields: words(fields), largest: words(largest) }
    }

    /// Rows from `first` on, `stride` apart, at column `at`.
    fn left(&self, at: usize, stride: usize, largest: std::ops::Range<usize>) -> Left<'_> {
        let (data, fields) = (&self.data[at..], &self.fields[at..]);
        Left { data, fields, stride, largest: &self.largest[largest] }
    }

    fn left_mut(&mut self, stride: usize) -> LeftMut<'_> {
        LeftMut { data: self.data, fields: self.fields, stride, largest: self.largest }
    }

    /// Lines from `line` on of panel `i`, panels of `lines` lines of `width`.
    fn right(&self, i: usize, line: usize, lines: usize, width: usize) -> Right<'_> {
        let at = (i * lines + line) * width;
        let (data, fields) = (&self.data[at..], &self.fields[at / 2..]);
        Right { data, fields, largest: self.largest[i] }
    }

    /// Packs panel `i` of `lines` lines of `width` with `pack`.
    fn panel(
        &mut self,
        i: usize,
        lines: usize,
        width: usize,
        pack: impl Fn(&mut [f32], &mut [u32]) -> u32,
    ) {
        let size = lines * width;
        let fields = &mut self.fields[i * size / 2..][..size / 2];
        self.largest[i] = pack(&mut self.data[i * size..][..size], fields);
    }
}

/// One key/value head. `P` is T rounded up to 128, `Z` is D rounded up to 16.
struct Keys<'a> {
    /// `(P, Z)`.
    k: Packed<'a>,
    /// `(P, Z)`.
    v: Packed<'a>,
    /// `(D, P)`.
    k_transposed: Packed<'a>,
}

/// One query head; blocks are of `2·LEN` queries, and as wide are panels of columns.
struct Queries<'a> {
    /// Blocks of `(Z, 2·LEN)`.
    q: Packed<'a>,
    /// Blocks of `(Z, 2·LEN)`.
    dout: Packed<'a>,
    /// Panels of `(P, 2·LEN)`.
    q_columns: Packed<'a>,
    /// Panels of `(P, 2·LEN)`.
    dout_columns: Packed<'a>,
    /// `(P)`.
    lse: &'a mut [f32],
    /// `(P)`.
    delta: &'a mut [f32],
}

/// Where a head's gradients add up. `W` is D rounded up to panels.
struct Gradients<'a> {
    /// Blocks of `(D, 2·LEN)`.
    dq: &'a mut [f32],
    /// `(P, W)`.
    dk: &'a mut [f32],
    /// `(P, W)`.
    dv: &'a mut [f32],
}

/// A tile of keys by a block of queries.
struct Tile<'a> {
    /// `(128, 2·LEN)`: scores, then rounded probabilities.
    p: Packed<'a>,
    /// `(128, 2·LEN)`: their gradients, rounded, by rows.
    ds: Packed<'a>,
    /// Fields of `ds` as a panel.
    ds_panel: &'a mut [u32],
    /// `(D, 2·LEN)`.
    dq: &'a mut [f32],
}

/// Positions, and numbers that go with them.
#[derive(Clone, Copy)]
struct Place {
    /// Of lane 0's query.
    query: usize,
    /// Of the tile's first key.
    key: usize,
    /// Queries of the sequence.
    queries: usize,
    /// From scores to exponents of two.
    c: f32,
}

impl Job<'_> {
    /// All query heads of one sequence that share `kv_head`, and their gradients.
    pub fn group(&self, sequence: usize, kv_head: usize, dqkv: &Columns<'_, bf16>) {
        let (e, d, t, level) =
            (self.extents, self.extents.head_dim, self.extents.seq_len, self.level);
        let width = 2 * lanes(level);
        let (p, z) = (t.next_multiple_of(KEY_TILE), d.next_multiple_of(TC_STEP));
        let (blocks, panels) = (p / width, d.div_ceil(width));
        let (w, tile) = (panels * width, KEY_TILE * width);
        let sizes = [
            [p * z, p * z, p],                // k
            [p * z, p * z, p],                // v
            [d * p, d * p, p / KEY_TILE * d], // k_transposed
            [p * z, p * z, blocks],           // q
            [p * z, p * z, blocks],           // dout
            [p * w, p * w, panels],           // q_columns
            [p * w, p * w, panels],           // dout_columns
            [tile, tile, KEY_TILE],           // p
            [tile, tile, KEY_TILE],           // ds
            [p, p, tile],                     // lse, delta, ds_panel
            [p * d, p * w, p * w],            // dq, dk, dv
            [d * width, 0, 0],                // dq of a tile
        ];
        let total: usize = sizes.as_flattened().iter().sum();
        let mut arrays = Arrays::new(total);
        let mut rest = arrays.deal([total]);
        let mut rest = std::mem::take(&mut rest[0]);
        let mut next = sizes.into_iter().map(|sizes| {
            sizes.map(|size| {
                let (array, tail) = std::mem::take(&mut rest).split_at_mut(size);
                rest = tail;
                array
            })
        });
        let mut three = || next.next().unwrap_or_default();
        let mut packed = || {
            let [data, fields, largest] = three();
            Packed::new(data, fields, largest)
        };
        let mut keys = Keys { k: packed(), v: packed(), k_transposed: packed() };
        let [q, dout, q_columns, dout_columns] = [packed(), packed(), packed(), packed()];
        let (probabilities, ds) = (packed(), packed());
        let [lse, delta, ds_panel] = three();
        let [dq, dk, dv] = three();
        let [tile_dq, ..] = three();
        let mut queries = Queries { q, dout, q_columns, dout_columns, lse, delta };
        let mut tile = Tile { p: probabilities, ds, ds_panel: words(ds_panel), dq: tile_dq };
        let row = e.qkv_width();
        let qkv = &self.qkv[sequence * t * row..][..t * row];
        let head = |i: usize| Head { data: &qkv[i * d..], stride: row, rows: t, width: d };
        let (k_head, v_head) = (e.heads + kv_head, e.heads + e.kv_heads + kv_head);
        head(k_head).left(level, keys.k.left_mut(z));
        head(v_head).left(level, keys.v.left_mut(z));
        head(k_head).left_transposed(level, keys.k_transposed.left_mut(p));
        dk.fill(0.0);
        dv.fill(0.0);
        let scale = e.scale();
        let group = e.heads / e.kv_heads;
        for i in kv_head * group..(kv_head + 1) * group {
            self.load(sequence, i, head(i), &mut queries);
            let mut gradients = Gradients { dq: &mut *dq, dk: &mut *dk, dv: &mut *dv };
            for key in (0..t).step_by(KEY_TILE) {
                let last = (t - 1) / QUERY_TILE * QUERY_TILE;
                for first in (key..=last).rev().filter(|first| first.is_multiple_of(QUERY_TILE)) {
                    for query in (first..first + QUERY_TILE).step_by(width) {
                        let place = Place { query, key, queries: t, c: e.log2_scale() };
                        self.tile(&keys, &queries, place, &mut gradients, &mut tile);
                    }
                }
            }
            for position in 0..t {
                let at = position / width * width * d + position % width;
                let dq = dq[at..].iter().step_by(width);
                // SAFETY: a query head's columns belong to its group.
                let to = unsafe { dqkv.row(sequence * t + position, i * d, d) };
                to.iter_mut().zip(dq).for_each(|(to, x)| *to = bf16::from_f32(x * scale));
            }
        }
        for position in 0..t {
            // SAFETY: a key/value head's columns belong to its group.
            let (to_k, to_v) = unsafe {
                let row = sequence * t + position;
                (dqkv.row(row, k_head * d, d), dqkv.row(row, v_head * d, d))
            };
            let (dk, dv) = (&dk[position * w..], &dv[position * w..]);
            to_k.iter_mut().zip(dk).for_each(|(to, x)| *to = bf16::from_f32(x * scale));
            to_v.iter_mut().zip(dv).for_each(|(to, x)| *to = bf16::from_f32(*x));
        }
    }

    /// Packs query head `head`, `q`.
    fn load(&self, sequence: usize, head: usize, q: Head<'_>, queries: &mut Queries<'_>) {
        let (e, d, t, level) =
            (self.extents, self.extents.head_dim, self.extents.seq_len, self.level);
        let width = 2 * lanes(level);
        let (p, z) = (t.next_multiple_of(KEY_TILE), d.next_multiple_of(TC_STEP));
        let row = e.heads * d;
        let start = sequence * t * row + head * d;
        let of = |data| Head { data, stride: row, rows: t, width: d };
        let (dout, out) = (of(&self.dout[start..]), of(&self.out[start..]));
        let Queries { lse, delta, .. } = queries;
        for (head, blocks, columns) in [
            (q, &mut queries.q, &mut queries.q_columns),
            (dout, &mut queries.dout, &mut queries.dout_columns),
        ] {
            for i in 0..p / width {
                let rows = head.rows(i * width, width);
                blocks
                    .panel(i, z, width, |data, fields| rows.panel_transposed(level, data, fields));
            }
            for i in 0..d.div_ceil(width) {
                columns
                    .panel(i, p, width, |data, fields| head.panel(level, i * width, data, fields));
            }
        }
        lse[..t].copy_from_slice(&self.lse[(sequence * e.heads + head) * t..][..t]);
        lse[t..].fill(0.0);
        delta[t..].fill(0.0);
        let delta = &mut delta[..t];
        at_level!(level, deltas(dout: Head<'_>, out: Head<'_>, delta: &mut [f32]));
    }

    /// A tile of keys against a block of queries.
    fn tile(
        &self,
        keys: &Keys<'_>,
        queries: &Queries<'_>,
        place: Place,
        gradients: &mut Gradients<'_>,
        tile: &mut Tile<'_>,
    ) {
        let (core, level, d) = (self.core, self.level, self.extents.head_dim);
        let width = 2 * lanes(level);
        let (p, z) = (queries.lse.len(), d.next_multiple_of(TC_STEP));
        let (panels, block) = (d.div_ceil(width), place.query / width);
        let rows = place.key..place.key + KEY_TILE;
        let products = [
            (&keys.k, &queries.q, &mut *tile.p.data),
            (&keys.v, &queries.dout, &mut *tile.ds.data),
        ];
        for (left, right, out) in products {
            let left = left.left(place.key * z, z, rows.clone());
            let right = right.right(block, 0, z, width);
            Chains { core, left, right, k: z, load: false }.run(level, out, width);
        }
        let lse = &queries.lse[place.query..][..width];
        let delta = &queries.delta[place.query..][..width];
        let this = &mut *tile;
        let largest = at_level!(level, softmax_backward(
            this: &mut Tile<'_>,
            lse: &[f32],
            delta: &[f32],
            place: Place,
        ) -> u32);
        let stride = panels * width;
        let sums = [
            (&tile.p, &queries.dout_columns, &mut *gradients.dv),
            (&tile.ds, &queries.q_columns, &mut *gradients.dk),
        ];
        for (left, right, out) in sums {
            let left = left.left(0, width, 0..KEY_TILE);
            for i in 0..panels {
                let right = right.right(i, place.query, p, width);
                let out = &mut out[place.key * stride + i * width..];
                Chains { core, left, right, k: width, load: true }.run(level, out, stride);
            }
        }
        let pieces = place.key / KEY_TILE * d..(place.key / KEY_TILE + 1) * d;
        let left = keys.k_transposed.left(place.key, p, pieces);
        let right = Right { data: tile.ds.data, fields: tile.ds_panel, largest };
        Chains { core, left, right, k: KEY_TILE, load: false }.run(level, tile.dq, width);
        let dq = &mut gradients.dq[block * d * width..][..d * width];
        for (to, x) in dq.iter_mut().zip(&*tile.dq) {
            *to = if place.key == 0 { *x } else { *to + x };
        }
    }
}

/// The row sums of `dout * out`.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn deltas<V: Lanes>(dout: Head<'_>, out: Head<'_>, delta: &mut [f32]) {
    let d = dout.width;
    for (row, delta) in delta.iter_mut().enumerate() {
        let (x, y) = (&dout.data[row * dout.stride..][..d], &out.data[row * out.stride..][..d]);
        // SAFETY: vectors that end at `d` at the latest.
        unsafe {
            let mut sum: RowSum<V> = RowSum::zero();
            for (i, at) in (0..d).step_by(V::LEN).enumerate() {
                let count = V::LEN.min(d - at);
                let x = V::load_bf16_first(x.as_ptr().add(at), count);
                let y = V::load_bf16_first(y.as_ptr().add(at), count);
                let partial = sum.at(i % RowSum::<V>::REGISTERS);
                *partial = x.fma(y, *partial);
            }
            *delta = sum.total();
        }
    }
}

/// From products to `p` and `ds`, rounded, with their fields; masked pairs become zeros. Returns the
/// largest field of `ds`.
///
/// # Safety
/// `V`'s instruction set is available; the tile is `(128, 2·LEN)`, `lse` and `delta` are a block's.
#[inline(always)]
unsafe fn softmax_backward<V: Sums>(
    tile: &mut Tile<'_>,
    lse: &[f32],
    delta: &[f32],
    place: Place,
) -> u32 {
    let width = 2 * V::LEN;
    for lane in [0, V::LEN] {
        // SAFETY: lanes below `width` of lines of the tile.
        unsafe {
            let minus = V::load(lse.as_ptr().add(lane)).mul(V::splat(-1.0));
            let delta = V::load(delta.as_ptr().add(lane));
            let numbers = V::load(LANE.as_ptr().add(lane));
            let (zero, c) = (V::splat(0.0), V::splat(place.c));
            // Queries that are not there are masked, too.
            let there = V::splat(place.queries as f32 - place.query as f32);
            for j in 0..KEY_TILE {
                let at = j * width + lane;
                let (s, dp) = (tile.p.data.as_mut_ptr().add(at), tile.ds.data.as_mut_ptr().add(at));
                let p = math::exp2(V::load(s).fma(c, minus));
                let ds = p.mul(V::load(dp).sub(delta));
                let (mut p, mut ds) = (p.nearest_bf16(), ds.nearest_bf16());
                if place.key + j > place.query {
                    let first = V::splat((place.key + j - place.query) as f32);
                    p = V::select_less(numbers, first, zero, p);
                    ds = V::select_less(numbers, first, zero, ds);
                }
                if place.query + width > place.queries {
                    p = V::select_less(numbers, there, p, zero);
                    ds = V::select_less(numbers, there, ds, zero);
                }
                p.store(s);
                ds.store(dp);
            }
        }
    }
    // SAFETY: rows and lines of the tile.
    unsafe {
        for packed in [&mut tile.p, &mut tile.ds] {
            for (j, largest) in packed.largest.iter_mut().enumerate() {
                let (data, fields) = (packed.data.as_ptr(), packed.fields.as_mut_ptr());
                let at = j * width;
                *largest = pack::row_fields::<V>(data.add(at), fields.add(at), width);
            }
        }
        pack::panel_fields::<V>(tile.ds.data.as_ptr(), tile.ds_panel.as_mut_ptr(), KEY_TILE)
    }
}
