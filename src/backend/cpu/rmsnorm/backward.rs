//! Gradients of RMSNorm, each array passing through memory once.
//!
//! `dweight` is a chain over all rows, so threads cannot share it out by rows. They take blocks of
//! rows in turn; while a block is still in its thread's cache, the thread continues the chain of
//! one range of columns after another, each as soon as the block before has left it. So threads
//! follow each other through the columns, and only the running values travel between them.

use std::iter::Enumerate;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use super::Terms;
use super::row_sum;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;

/// Some rows.
pub(super) struct Rows<'a> {
    /// `(n, C)`, added to.
    pub dinp: &'a mut [f32],
    /// `(n, C)`.
    pub dout: &'a [f32],
    /// `(n, C)`.
    pub inp: &'a [f32],
    /// `(n)`.
    pub rstd: &'a [f32],
    /// `(C)`.
    pub weight: &'a [f32],
}

/// All rows in blocks, and the columns of `dweight` that pass through them.
pub(super) struct Chain<'a, I> {
    blocks: Mutex<Enumerate<I>>,
    columns: Vec<Columns<'a>>,
}

struct Columns<'a> {
    /// Running values. Never contended: the turn below says whose it is.
    dweight: Mutex<&'a mut [f32]>,
    /// Blocks that the values have passed.
    turn: AtomicUsize,
}

impl<'a, I: Iterator<Item = Rows<'a>> + Send> Chain<'a, I> {
    /// `blocks` in ascending order of rows.
    pub fn new(dweight: &'a mut [f32], blocks: I) -> Self {
        let columns = dweight.chunks_mut(COLUMNS);
        let columns = columns
            .map(|part| Columns { dweight: Mutex::new(part), turn: AtomicUsize::new(0) })
            .collect();
        Self { blocks: Mutex::new(blocks.enumerate()), columns }
    }

    /// Takes blocks until there are none; any number of threads may run this at once.
    ///
    /// A thread waits only for blocks taken before its own, whose threads are running and wait for
    /// none after it: there is always one that can go on.
    pub fn work(&self, level: Level) {
        loop {
            let next = self.blocks.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some((block, mut rows)) = next else { return };
            let rows = &mut rows;
            at_level!(level, input_gradients(rows: &mut Rows<'_>));
            for (i, columns) in self.columns.iter().enumerate() {
                let mut tries = 0;
                while columns.turn.load(Ordering::Acquire) != block {
                    tries += 1;
                    if tries < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
                }
                let mut part = columns.dweight.lock().unwrap_or_else(PoisonError::into_inner);
                let (dweight, first) = (&mut **part, i * COLUMNS);
                let rows = &*rows;
                at_level!(level, weight_gradients(dweight: &mut [f32], first: usize, rows: &Rows<'_>));
                drop(part);
                columns.turn.store(block + 1, Ordering::Release);
            }
        }
    }
}

/// Rows in a block: its inputs stay in the second-level cache, and every thread gets several.
pub(super) fn rows_per_block(n: usize, c: usize, threads: usize) -> usize {
    let share = if threads == 1 { n } else { n.div_ceil(4 * threads) };
    share.min(BLOCK_ELEMENTS / c).max(1)
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn input_gradients<V: Lanes>(rows: &mut Rows<'_>) {
    let c = rows.weight.len();
    let weight = rows.weight.as_ptr();
    let inputs = rows.dout.chunks_exact(c).zip(rows.inp.chunks_exact(c)).zip(rows.rstd);
    for (dinp, ((dout, inp), &rstd)) in rows.dinp.chunks_exact_mut(c).zip(inputs) {
        let terms = Products { dout: dout.as_ptr(), weight, inp: inp.as_ptr() };
        // SAFETY: rows of `c` elements; the rest is this function's contract.
        unsafe {
            let dot = row_sum::<V>(terms, c);
            let scale = ((rstd * rstd) * rstd) * (dot / c as f32);
            input_gradient::<V>(dinp, terms, rstd, scale);
        }
    }
}

/// # Safety
/// `V`'s instruction set is available; `terms` has as many elements as `dinp`.
#[inline(always)]
unsafe fn input_gradient<V: Lanes>(dinp: &mut [f32], terms: Products, rstd: f32, scale: f32) {
    let (len, dinp) = (dinp.len(), dinp.as_mut_ptr());
    // SAFETY: offsets stay below `len`; the rest is this function's contract.
    unsafe {
        // -(x * scale) and x * -scale are the same number.
        let (rstd, minus_scale) = (V::splat(rstd), V::splat(-scale));
        let mut i = 0;
        while i + V::LEN <= len {
            let [g, x]: [V; 2] = terms.at(i);
            let d = g.fma(rstd, x.mul(minus_scale));
            V::load(dinp.add(i)).add(d).store(dinp.add(i));
            i += V::LEN;
        }
        let rest = len - i;
        if rest > 0 {
            let [g, x]: [V; 2] = terms.first_at(i, rest);
            let d = g.fma(rstd, x.mul(minus_scale));
            V::load_first(dinp.add(i), rest).add(d).store_first(dinp.add(i), rest);
        }
    }
}

/// Continues the chains of the columns `first..first + dweight.len()` over `rows`.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn weight_gradients<V: Lanes>(dweight: &mut [f32], first: usize, rows: &Rows<'_>) {
    let c = rows.weight.len();
    let len = dweight.len();
    assert!(first + len <= c);
    assert!(rows.dout.len() == rows.rstd.len() * c && rows.inp.len() == rows.dout.len());
    let dweight = dweight.as_mut_ptr();
    // SAFETY: columns stay below `first + len`, hence below `c`, in each of the rows; the rest is
    // this function's contract.
    unsafe {
        let (dout, inp) = (rows.dout.as_ptr().add(first), rows.inp.as_ptr().add(first));
        let mut i = 0;
        while i + UNROLL * V::LEN <= len {
            let mut sums = [V::splat(0.0); UNROLL];
            for (k, sum) in sums.iter_mut().enumerate() {
                *sum = V::load(dweight.add(i + k * V::LEN));
            }
            for (n, &rstd) in rows.rstd.iter().enumerate() {
                let rstd = V::splat(rstd);
                for (k, sum) in sums.iter_mut().enumerate() {
                    let at = n * c + i + k * V::LEN;
                    let x = V::load(inp.add(at)).mul(rstd);
                    *sum = V::load(dout.add(at)).fma(x, *sum);
                }
            }
            for (k, sum) in sums.into_iter().enumerate() {
                sum.store(dweight.add(i + k * V::LEN));
            }
            i += UNROLL * V::LEN;
        }
        while i < len {
            let count = V::LEN.min(len - i);
            let mut sum = V::load_first(dweight.add(i), count);
            for (n, &rstd) in rows.rstd.iter().enumerate() {
                let x = V::load_first(inp.add(n * c + i), count).mul(V::splat(rstd));
                sum = V::load_first(dout.add(n * c + i), count).fma(x, sum);
            }
            sum.store_first(dweight.add(i), count);
            i += count;
        }
    }
}

/// `(dout * weight) * inp`.
#[derive(Clone, Copy)]
struct Products {
    dout: *const f32,
    weight: *const f32,
    inp: *const f32,
}

impl<V: Lanes> Terms<V> for Products {
    #[inline(always)]
    unsafe fn at(self, i: usize) -> [V; 2] {
        // SAFETY: by the trait's contract.
        unsafe {
            let g = V::load(self.dout.add(i)).mul(V::load(self.weight.add(i)));
            [g, V::load(self.inp.add(i))]
        }
    }
    #[inline(always)]
    unsafe fn first_at(self, i: usize, count: usize) -> [V; 2] {
        // SAFETY: by the trait's contract.
        unsafe {
            let weight = V::load_first(self.weight.add(i), count);
            let g = V::load_first(self.dout.add(i), count).mul(weight);
            [g, V::load_first(self.inp.add(i), count)]
        }
    }
}

/// Columns whose running values travel together: whole cache lines, and one register tile.
const COLUMNS: usize = 128;
/// Registers of a tile.
const UNROLL: usize = 8;
/// Elements of each of the two inputs in a block (256 KiB each).
const BLOCK_ELEMENTS: usize = 64 << 10;
/// Turns waited for before the thread offers its core to another.
const SPINS: u32 = 1 << 10;
