//! The vector kernel against the integers.

use half::bf16;

use super::kernel::Chains;
use super::kernel::Left;
use super::kernel::Right;
use super::lanes::Sums;
use super::pack;
use super::sum;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;
use crate::ops::TensorCore;

/// Numbers of a plain generator (Marsaglia 2003, xorshift64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Exponent fields of `low..=high`; one number in eight is a zero.
    fn bf16(&mut self, low: u64, high: u64) -> bf16 {
        let bits = (low + self.next() % (high - low + 1)) << 7 | self.next() & 0x807f;
        bf16::from_bits(if self.next().is_multiple_of(8) { bits & 0x8000 } else { bits } as u16)
    }
}

/// Rows by columns of chains over k.
struct Factors {
    k: usize,
    /// `(ROWS, k)`.
    a: Vec<bf16>,
    /// `(k, COLUMNS)`.
    b: Vec<bf16>,
    /// `(ROWS, COLUMNS)`.
    start: Vec<f32>,
}

const ROWS: usize = 3;
/// Those of the widest panel; narrower ones take the first of them.
const COLUMNS: usize = 32;

impl Factors {
    fn want(&self, core: TensorCore) -> Vec<f32> {
        let outputs = (0..ROWS * COLUMNS).map(|i| (i / COLUMNS, i % COLUMNS));
        let one = |(row, column): (usize, usize)| {
            let b: Vec<_> = self.b[column..].iter().copied().step_by(COLUMNS).collect();
            let start = self.start[row * COLUMNS + column];
            sum::chain(core, start, &self.a[row * self.k..][..self.k], &b)
        };
        outputs.map(one).collect()
    }

    fn got(&self, core: TensorCore, level: Level) -> Vec<f32> {
        let factors = self;
        at_level!(level, multiply(factors: &Factors, level: Level, core: TensorCore) -> Vec<f32>)
    }

    fn assert_bits(&self, what: &str) {
        for core in [TensorCore::Hopper, TensorCore::Ampere] {
            let want = self.want(core);
            for level in Level::available() {
                for (i, (got, want)) in self.got(core, level).iter().zip(&want).enumerate() {
                    let (got, want) = (got.to_bits(), want.to_bits());
                    assert_eq!(got, want, "{what}, {core:?}, {level}, [{i}]: {got:x}, {want:x}");
                }
            }
        }
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn multiply<V: Sums>(factors: &Factors, level: Level, core: TensorCore) -> Vec<f32> {
    let (k, width) = (factors.k, 2 * V::LEN);
    let a: Vec<f32> = factors.a.iter().map(|x| x.to_f32()).collect();
    let mut a_fields = vec![0; a.len()];
    let mut out = factors.start.clone();
    for first in (0..COLUMNS).step_by(width) {
        let lines = factors.b.chunks(COLUMNS).flat_map(|line| &line[first..first + width]);
        let b: Vec<f32> = lines.map(|x| x.to_f32()).collect();
        let mut b_fields = vec![0; b.len() / 2];
        // SAFETY: `ROWS` rows of k, a multiple of 16, and k lines of a panel.
        let (largest, panel) = unsafe {
            let mut rows = [0; ROWS];
            for (row, largest) in rows.iter_mut().enumerate() {
                let fields = a_fields.as_mut_ptr().add(row * k);
                *largest = pack::row_fields::<V>(a.as_ptr().add(row * k), fields, k);
            }
            (rows, pack::panel_fields::<V>(b.as_ptr(), b_fields.as_mut_ptr(), k))
        };
        let left = Left { data: &a, fields: &a_fields, stride: k, largest: &largest };
        let right = Right { data: &b, fields: &b_fields, largest: panel };
        let chains = Chains { core, left, right, k, load: true };
        chains.run(level, &mut out[first..], COLUMNS);
    }
    out
}

/// Chains of numbers as in a model, of ever wider exponents, of tiny and of huge ones.
#[test]
fn chains_are_those_of_the_integers_at_every_level() {
    let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
    let ranges =
        [(118, 130), (90, 160), (60, 190), (1, 200), (0, 254), (30, 70), (0, 3), (180, 254)];
    for (low, high) in ranges {
        for turn in 0..12 {
            let k = 16 * (1 + turn % 5);
            let mut many = |n: usize| (0..n).map(|_| numbers.bf16(low, high)).collect::<Vec<_>>();
            let (a, b) = (many(ROWS * k), many(k * COLUMNS));
            let mut start = vec![0.0; ROWS * COLUMNS];
            if turn % 2 == 1 {
                let field = |n: &mut Numbers| (low + n.next() % (high - low + 1)) << 23;
                let any = |n: &mut Numbers| field(n) | n.next() & 0x807f_ffff;
                start.fill_with(|| f32::from_bits(any(&mut numbers) as u32));
            }
            Factors { k, a, b, start }.assert_bits(&format!("fields {low}..={high}, {k}"));
        }
    }
}

/// Sums of the largest terms pass 31 bits.
#[test]
fn the_largest_sums_are_right() {
    let (large, k) = (bf16::from_bits(0x3fff), 32);
    for start in [0x3fff_ffff, 0x407f_ffff, 0xbfff_ffff, 0].map(f32::from_bits) {
        for sign in [large, -large] {
            let (a, b) = (vec![large; ROWS * k], vec![sign; k * COLUMNS]);
            Factors { k, a, b, start: vec![start; ROWS * COLUMNS] }.assert_bits("largest");
        }
    }
}

/// An infinity or NaN anywhere, beside zeros too.
#[test]
fn numbers_that_are_none_are_those_of_the_integers() {
    let mut numbers = Numbers(88172645463325252);
    for special in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN] {
        for place in 0..3 {
            let k = 48;
            let mut many = |n: usize| (0..n).map(|_| numbers.bf16(118, 130)).collect::<Vec<_>>();
            let (mut a, mut b) = (many(ROWS * k), many(k * COLUMNS));
            let mut start = vec![0.5; ROWS * COLUMNS];
            match place {
                0 => a[k + 20] = bf16::from_f32(special),
                1 => b[20 * COLUMNS + 5] = bf16::from_f32(special),
                _ => start[COLUMNS + 7] = special,
            }
            Factors { k, a, b, start }.assert_bits(&format!("{special}, {place}"));
        }
    }
}
