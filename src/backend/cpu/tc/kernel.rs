//! Chains of a tensor core's sums over packed factors, `MR` rows by two vectors of outputs.
//!
//! Sixteen products cost five operations (two multiplications, a conversion, an addition, and half
//! of an addition and a maximum of exponents), and some fifteen for a group: six in all. Zen 4 does
//! two operations of 512 bits a cycle, hence at best 10.7 FLOP a cycle, 40 GFLOP/s at 3.7 GHz; the
//! loop reaches 32 there, and 22 with AVX2.
//!
//! With `M` the largest exponent field of a group's products and its accumulator (a product's is
//! the sum of two, so that it is the exponent + 254), the unit of the sum is `2^(M - 254 - F)`. All
//! terms times `2^(F + 254 - M)` lie below 2^27, so a conversion to integers cuts them, and sixteen
//! fit 31 bits. What does not hold for every number is looked for and, for the lanes concerned,
//! done again in integers ([`again`]):
//!
//! * Units below 2^-126 (all terms below 2^-100): a product could lose bits in f32, the result
//!   could be subnormal. Groups of zeros only are such a case, and a quick one.
//! * A sum of 2^31 units or more.
//! * Factors whose largest exponents add up to more than [`MAX_FIELDS`], infinities and NaN: by row
//!   and panel, before anything is computed.

use half::bf16;

use super::lanes::Sums;
use super::sum;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;
use crate::ops::TensorCore;

/// Rows of a left factor: numbers that are bf16 kept as f32, and their exponent fields twice in
/// each word.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    /// Element `(row, k)` at `row * stride + k`.
    pub data: &'a [f32],
    /// Words of the same places.
    pub fields: &'a [u32],
    /// Distance between rows.
    pub stride: usize,
    /// The largest exponent field of each row.
    pub largest: &'a [u32],
}

/// A panel of a right factor, `2·LEN` columns.
#[derive(Clone, Copy)]
pub(super) struct Right<'a> {
    /// `(k, 2·LEN)`, bf16 kept as f32.
    pub data: &'a [f32],
    /// `(k, LEN)`: fields of columns `j` in the lower halves and of `j + LEN` in the upper ones.
    pub fields: &'a [u32],
    /// The largest exponent field.
    pub largest: u32,
}

/// Chains for all rows of `left` and all columns of `right`.
pub(super) struct Chains<'a> {
    pub core: TensorCore,
    pub left: Left<'a>,
    pub right: Right<'a>,
    /// Products of a chain, a multiple of the group.
    pub k: usize,
    /// Whether the chains start from the values in the output, else from 0.
    pub load: bool,
}

impl Chains<'_> {
    /// Writes to `out`, whose rows of `2·LEN` values are `stride` apart.
    pub fn run(&self, level: Level, out: &mut [f32], stride: usize) {
        let chains = self;
        at_level!(level, run(chains: &Chains<'_>, out: &mut [f32], stride: usize));
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn run<V: Sums>(chains: &Chains<'_>, out: &mut [f32], stride: usize) {
    let Chains { left, right, k, core, .. } = chains;
    let (rows, width) = (left.largest.len(), 2 * V::LEN);
    if rows == 0 {
        return;
    }
    let last = (rows - 1) * left.stride + k;
    assert!(left.data.len() >= last && left.fields.len() >= last, "left factor");
    assert!(right.data.len() >= k * width && right.fields.len() >= k * V::LEN, "right factor");
    assert!(stride >= width && out.len() >= (rows - 1) * stride + width, "output");
    assert!(k.is_multiple_of(core.group()), "whole groups");
    // SAFETY: rows below `rows`, whose extents were checked above.
    unsafe {
        let mut row = 0;
        while row + 2 <= rows && V::LEN == 16 {
            match core {
                TensorCore::Hopper => tile::<V, 16, 25, 2>(chains, row, out, stride),
                TensorCore::Ampere => tile::<V, 8, 24, 2>(chains, row, out, stride),
            }
            row += 2;
        }
        while row < rows {
            match core {
                TensorCore::Hopper => tile::<V, 16, 25, 1>(chains, row, out, stride),
                TensorCore::Ampere => tile::<V, 8, 24, 1>(chains, row, out, stride),
            }
            row += 1;
        }
    }
}

/// `MR` rows from `row` on; `G` products in a group, `F` fraction bits.
///
/// # Safety
/// `V`'s instruction set is available; extents as [`run`] checks, `MR` rows are there.
#[inline(always)]
unsafe fn tile<V: Sums, const G: usize, const F: u32, const MR: usize>(
    chains: &Chains<'_>,
    row: usize,
    out: &mut [f32],
    stride: usize,
) {
    let Chains { left, right, .. } = chains;
    // SAFETY: all offsets lie within the extents that `run` checked.
    unsafe {
        let out = out.as_mut_ptr().add(row * stride);
        let mut c = [[V::splat(0.0); 2]; MR];
        let mut tame = true;
        for (r, c) in c.iter_mut().enumerate() {
            tame &= left.largest[row + r] + right.largest <= MAX_FIELDS;
            if chains.load {
                let out = out.add(r * stride);
                *c = [V::load(out), V::load(out.add(V::LEN))];
                for c in c {
                    tame &= V::of_bits(c.field(V::splat_int(0))).max_lane() < MAX_START;
                }
            }
        }
        let at = row * left.stride;
        let (mut a, mut b) = (left.data.as_ptr().add(at), right.data.as_ptr());
        let (mut a_fields, mut b_fields) = (left.fields.as_ptr().add(at), right.fields.as_ptr());
        for _ in 0..chains.k / G {
            if tame {
                let fields = largest_fields::<V, G, MR>(a_fields, left.stride, b_fields);
                group::<V, G, F, MR>(chains, a, b, fields, &mut c);
            } else {
                for (r, c) in c.iter_mut().enumerate() {
                    let before = *c;
                    for (half, c) in c.iter_mut().enumerate() {
                        let (a, b) = (a.add(r * left.stride), b.add(half * V::LEN));
                        *c = again(chains.core, before[half], *c, u32::MAX, a, b);
                    }
                }
            }
            (a, b) = (a.add(G), b.add(2 * V::LEN * G));
            (a_fields, b_fields) = (a_fields.add(G), b_fields.add(V::LEN * G));
        }
        for (r, c) in c.iter().enumerate() {
            c[0].store(out.add(r * stride));
            c[1].store(out.add(r * stride + V::LEN));
        }
    }
}

/// Of the products of a group: for each row, in pairs.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn largest_fields<V: Sums, const G: usize, const MR: usize>(
    a: *const u32,
    stride: usize,
    b: *const u32,
) -> [V::Int; MR] {
    // SAFETY: by this function's contract.
    unsafe {
        let mut largest = [V::splat_int(0); MR];
        for k in 0..G {
            let b = V::load_int(b.add(k * V::LEN));
            for (r, largest) in largest.iter_mut().enumerate() {
                let a = V::splat_int(*a.add(r * stride + k));
                *largest = V::max_pairs(*largest, V::add_pairs(a, b));
            }
        }
        largest
    }
}

/// Continues `c` by one group.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn group<V: Sums, const G: usize, const F: u32, const MR: usize>(
    chains: &Chains<'_>,
    a: *const f32,
    b: *const f32,
    fields: [V::Int; MR],
    c: &mut [[V; 2]; MR],
) {
    // SAFETY: by this function's contract.
    unsafe {
        let stride = chains.left.stride;
        let mut largest = [[V::splat_int(0); 2]; MR];
        let mut scale = [[V::splat(0.0); 2]; MR];
        for r in 0..MR {
            largest[r] = V::fields(fields[r]);
            for h in 0..2 {
                let own = c[r][h].field(V::splat_int(BIAS << 23));
                largest[r][h] = V::max_int(largest[r][h], own);
                let bits = V::sub_int(V::splat_int((3 * BIAS + F) << 23), largest[r][h]);
                scale[r][h] = V::of_bits(bits);
            }
        }
        let mut products = [[V::splat_int(0); 2]; MR];
        for k in 0..G {
            let b = b.add(k * 2 * V::LEN);
            let b = [V::load(b), V::load(b.add(V::LEN))];
            for r in 0..MR {
                let a = V::splat(*a.add(r * stride + k));
                for h in 0..2 {
                    let cut = a.mul(b[h]).mul(scale[r][h]).cut();
                    products[r][h] = V::add_int(products[r][h], cut);
                }
            }
        }
        for r in 0..MR {
            for h in 0..2 {
                let own = c[r][h].mul(scale[r][h]).cut();
                let unit = V::sub_int(largest[r][h], V::splat_int((BIAS + F) << 23));
                let (mut next, lanes) = V::end(products[r][h], own, unit);
                if lanes != 0 {
                    let (a, b) = (a.add(r * stride), b.add(h * V::LEN));
                    next = again(chains.core, c[r][h], next, lanes, a, b);
                }
                c[r][h] = next;
            }
        }
    }
}

/// `after`, with `lanes` (those there are) computed in integers from `before` and one group of
/// products.
///
/// # Safety
/// As [`tile`]; `a` and `b` point to the group.
#[inline(always)]
unsafe fn again<V: Sums>(
    core: TensorCore,
    before: V,
    after: V,
    lanes: u32,
    a: *const f32,
    b: *const f32,
) -> V {
    let (mut c, mut sums) = ([0.0; 16], [0.0; 16]);
    // SAFETY: by this function's contract; both arrays hold the widest vector.
    unsafe {
        before.store(c.as_mut_ptr());
        after.store(sums.as_mut_ptr());
        let a = std::slice::from_raw_parts(a, core.group());
        let b = std::slice::from_raw_parts(b, (core.group() - 1) * 2 * V::LEN + V::LEN);
        in_integers(
            core,
            (&c, &mut sums),
            lanes & ((1u64 << V::LEN) - 1) as u32,
            a,
            (b, 2 * V::LEN),
        );
        V::load(sums.as_ptr())
    }
}

/// The sums of `lanes` from `c` and products of `a` with columns of `b`, whose rows are `stride`
/// apart.
#[cold]
#[inline(never)]
fn in_integers(
    core: TensorCore,
    (c, sums): (&[f32; 16], &mut [f32; 16]),
    lanes: u32,
    a: &[f32],
    (b, stride): (&[f32], usize),
) {
    // No product and no accumulator: +0. The usual reason to come here.
    let mut something = [0u32; 16];
    for (k, a) in a.iter().enumerate().filter(|(_, a)| **a != 0.0) {
        let _ = a;
        for (something, b) in something.iter_mut().zip(&b[k * stride..]) {
            *something |= b.to_bits() << 1;
        }
    }
    let narrow = |x: f32| bf16::from_bits((x.to_bits() >> 16) as u16);
    let (mut factors, mut column) = ([bf16::ZERO; 16], [bf16::ZERO; 16]);
    factors.iter_mut().zip(a).for_each(|(to, &a)| *to = narrow(a));
    for lane in (0..16).filter(|lane| lanes >> lane & 1 == 1) {
        // A factor that is not finite meets zeros, too.
        sums[lane] = if something[lane] == 0 && c[lane] == 0.0 && a.iter().all(|a| a.is_finite()) {
            0.0
        } else {
            let numbers = b[lane..].iter().step_by(stride);
            column.iter_mut().zip(numbers).for_each(|(to, &b)| *to = narrow(b));
            sum::sum(core, c[lane], &factors[..a.len()], &column[..a.len()])
        };
    }
}

/// Of exponent fields.
const BIAS: u32 = 127;
/// Exponent fields of factors may add up to this: products below 2^92, and no overflow in chains of
/// 2^20 groups.
const MAX_FIELDS: u32 = 2 * BIAS + 90;
/// What stands for the largest exponent field of a row or panel that has an infinity or NaN.
pub(super) const NOT_FINITE: u32 = 1 << 16;
/// Chains start below this.
const MAX_START: f32 = (1u128 << 112) as f32;
