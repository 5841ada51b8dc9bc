//! Gradients of RMSNorm in f32, each array passing through memory once.
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

use rayon::prelude::*;

use super::Normal;
use super::backward::Rows;
use super::backward::input_gradients;
use crate::backend::cpu::Cpu;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;
use crate::backend::cpu::split::SMALL_ELEMENTS;

/// Gradients of `rows`, of which there is at least one.
pub(super) fn backward(cpu: &Cpu, dweight: &mut [f32], rows: Rows<'_, f32>) {
    let (n, c) = (rows.rstd.len(), rows.weight.len());
    let (level, threads) = (cpu.level(), cpu.threads());
    let block = rows_per_block(n, c, threads);
    let chain = Chain::new(dweight, rows.blocks(block));
    if 4 * n * c <= SMALL_ELEMENTS {
        chain.work(level);
    } else {
        let workers = threads.min(n.div_ceil(block));
        let workers = (0..workers).into_par_iter().with_max_len(1);
        cpu.run(|| workers.for_each(|_| chain.work(level)));
    }
}

/// All rows in blocks, and the columns of `dweight` that pass through them.
struct Chain<'a, I> {
    blocks: Mutex<Enumerate<I>>,
    columns: Vec<Columns<'a>>,
}

struct Columns<'a> {
    /// Running values. Never contended: the turn below says whose it is.
    dweight: Mutex<&'a mut [f32]>,
    /// Blocks that the values have passed.
    turn: AtomicUsize,
}

impl<'a, I: Iterator<Item = Rows<'a, f32>> + Send> Chain<'a, I> {
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
            at_level!(level, input_gradients<E: Normal>(rows: &mut Rows<'_, E>));
            for (i, columns) in self.columns.iter().enumerate() {
                let mut tries = 0;
                while columns.turn.load(Ordering::Acquire) != block {
                    tries += 1;
                    if tries < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
                }
                let mut part = columns.dweight.lock().unwrap_or_else(PoisonError::into_inner);
                let (dweight, first) = (&mut **part, i * COLUMNS);
                let rows = &*rows;
                at_level!(level, weight_gradients(dweight: &mut [f32], first: usize, rows: &Rows<'_, f32>));
                drop(part);
                columns.turn.store(block + 1, Ordering::Release);
            }
        }
    }
}

/// Rows in a block: its inputs stay in the second-level cache, and every thread gets several.
fn rows_per_block(n: usize, c: usize, threads: usize) -> usize {
    let share = if threads == 1 { n } else { n.div_ceil(4 * threads) };
    share.min(BLOCK_ELEMENTS / c).max(1)
}

/// Continues the chains of the columns `first..first + dweight.len()` over `rows`.
///
/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn weight_gradients<V: Lanes>(dweight: &mut [f32], first: usize, rows: &Rows<'_, f32>) {
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

/// Columns whose running values travel together: whole cache lines, and one register tile.
const COLUMNS: usize = 128;
/// Registers of a tile.
const UNROLL: usize = 8;
/// Elements of each of the two inputs in a block (256 KiB each).
const BLOCK_ELEMENTS: usize = 64 << 10;
/// Turns waited for before the thread offers its core to another.
const SPINS: u32 = 1 << 10;
