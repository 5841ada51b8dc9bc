//! Blocks, threads and the order of packing; results depend on none of it.

use rayon::prelude::*;

use super::kernel::Chain;
use super::kernel::Flushed;
use super::kernel::Outputs;
use super::kernel::Plain;
use super::kernel::tile;
use super::pack;
use super::pack::DEPTH;
#[cfg(target_arch = "x86_64")]
use super::pairs;
use crate::backend::cpu::columns::Columns;
use crate::backend::cpu::flush;
use crate::backend::cpu::lanes::Lanes;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::level::at_level;
use crate::backend::cpu::scratch::Scratch;
use crate::ops::Precision;
use crate::ops::matmul::Start;

/// One operand as rows (of outputs) by k.
#[derive(Clone, Copy)]
pub(super) struct Operand<'a> {
    /// All elements.
    pub data: &'a [f32],
    /// Distance between rows.
    pub row_stride: usize,
    /// Distance between successive k.
    pub k_stride: usize,
}

impl<'a> Operand<'a> {
    /// `(rows, k)` in memory.
    pub fn rows_by_k(data: &'a [f32], k: usize) -> Self {
        Self { data, row_stride: k, k_stride: 1 }
    }

    /// `(k, rows)` in memory.
    pub fn k_by_rows(data: &'a [f32], rows: usize) -> Self {
        Self { data, row_stride: 1, k_stride: rows }
    }
}

/// `out(M, N) = start + a(M, k) · b(N, k)ᵀ`.
pub(super) struct Product<'a> {
    pub a: Operand<'a>,
    pub b: Operand<'a>,
    pub k: usize,
    pub precision: Precision,
    pub start: Start,
}

impl Product<'_> {
    /// Computes all of `out`, whose rows are `n` wide, on the current rayon pool.
    ///
    /// The left factor is packed once for all threads, some rows at a time; then each task takes a
    /// few panels of columns, packs one after the other into its first cache, and runs the tiles
    /// of its rows over it.
    pub fn run(&self, level: Level, out: &mut [f32], n: usize) {
        if out.is_empty() {
            return;
        }
        if self.k == 0 {
            if self.start == Start::Zero {
                out.fill(0.0);
            }
            return;
        }
        let m = out.len() / n;
        let Extents { height, width, tile } = extents(level);
        let k = pack::padded(self.k, self.precision);
        let how = How::of(self.precision, level);
        let blocks = Blocks { count: k.div_ceil(DEPTH * how.per_packed()), k };
        let at_once = (PACKED_ELEMENTS / blocks.count / DEPTH).clamp(1, MAX_ROWS);
        let at_once = at_once.next_multiple_of(height).min(m.next_multiple_of(height));
        let mut packed = Scratch::take(at_once / height * blocks.count * tile);
        let out = Columns::new(out, n);
        for row in (0..m).step_by(at_once) {
            let rows = at_once.min(m - row);
            let tiles = rows.div_ceil(height);
            let a = &mut packed.elements()[..tiles * blocks.count * tile];
            self.pack_rows(level, (row, rows), tiles, blocks, a);
            let left = Left { product: self, blocks, a, row, rows, tiles };
            let panels = n.div_ceil(width);
            let grid = Grid::of(panels, tiles, rayon::current_num_threads());
            (0..grid.tasks()).into_par_iter().with_max_len(1).for_each(|task| {
                let (panels, tiles) = grid.task(task, panels, tiles);
                let mut panel = Scratch::take(width * DEPTH);
                left.multiply(level, panels, tiles, &out, panel.elements());
            });
        }
    }

    fn pack_rows(
        &self,
        level: Level,
        (row, rows): (usize, usize),
        tiles: usize,
        blocks: Blocks,
        a: &mut [f32],
    ) {
        let product = self;
        let end = row + rows;
        let Extents { height, tile, .. } = extents(level);
        let some = tiles.div_ceil(4 * rayon::current_num_threads()).max(MIN_TILES);
        a.par_chunks_mut(tiles * tile).enumerate().for_each(|(block, a)| {
            let range = blocks.range(block);
            a.par_chunks_mut(some * tile).enumerate().for_each(|(i, a)| {
                let rows = (row + i * some * height, end);
                match How::of(product.precision, level) {
                    How::Plain => {
                        at_level!(level, pack_plain(product: &Product<'_>, rows: (usize, usize), range: (usize, usize), a: &mut [f32]));
                    }
                    How::Flushed => {
                        at_level!(level, pack_flushed(product: &Product<'_>, rows: (usize, usize), range: (usize, usize), a: &mut [f32]));
                    }
                    #[cfg(target_arch = "x86_64")]
                    How::Pairs(proof) => pairs::pack(proof, product, rows, range, a),
                }
            });
        });
    }
}

/// Which chains a product runs.
#[derive(Clone, Copy)]
enum How {
    Plain,
    Flushed,
    #[cfg(target_arch = "x86_64")]
    Pairs(pairs::Proof),
}

impl How {
    fn of(precision: Precision, level: Level) -> Self {
        match precision {
            Precision::F32 => Self::Plain,
            Precision::Tc(_) => unreachable!("tensor-core products have their own kernels"),
            #[cfg(target_arch = "x86_64")]
            Precision::Bf16 => pairs::Proof::of(level).map_or(Self::Flushed, Self::Pairs),
            #[cfg(not(target_arch = "x86_64"))]
            Precision::Bf16 => Self::Flushed,
        }
    }

    fn per_packed(self) -> usize {
        match self {
            Self::Plain | Self::Flushed => 1,
            #[cfg(target_arch = "x86_64")]
            Self::Pairs(_) => 2,
        }
    }
}

/// k in pieces of about the same extent, at most [`DEPTH`] packed elements each.
#[derive(Clone, Copy)]
struct Blocks {
    count: usize,
    k: usize,
}

impl Blocks {
    fn range(self, block: usize) -> (usize, usize) {
        let extent = self.k.div_ceil(self.count).next_multiple_of(32);
        ((block * extent).min(self.k), ((block + 1) * extent).min(self.k))
    }
}

/// How the panels and tiles of an output are cut into tasks.
struct Grid {
    columns: usize,
    rows: usize,
}

impl Grid {
    fn of(panels: usize, tiles: usize, threads: usize) -> Self {
        if threads == 1 {
            return Self { columns: 1, rows: 1 };
        }
        // Enough tasks that threads end together; rows are cut only where columns are few, since
        // every cut packs the panels again.
        let columns = panels.min(TASKS_PER_THREAD * threads);
        let rows = (2 * threads).div_ceil(columns).min(tiles.div_ceil(MIN_TILES)).max(1);
        Self { columns, rows }
    }

    fn tasks(&self) -> usize {
        self.columns * self.rows
    }

    fn task(
        &self,
        task: usize,
        panels: usize,
        tiles: usize,
    ) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        let part = |i: usize, of: usize, all: usize| i * all / of..(i + 1) * all / of;
        let (column, row) = (task / self.rows, task % self.rows);
        (part(column, self.columns, panels), part(row, self.rows, tiles))
    }
}

/// Packed rows of the left factor.
struct Left<'a> {
    product: &'a Product<'a>,
    blocks: Blocks,
    /// By block of k, then by tile.
    a: &'a [f32],
    /// The first row.
    row: usize,
    /// Rows.
    rows: usize,
    /// Tiles that hold them.
    tiles: usize,
}

/// What a task computes.
pub(super) struct Task<'a> {
    left: &'a Left<'a>,
    panels: std::ops::Range<usize>,
    tiles: std::ops::Range<usize>,
    out: &'a Columns<'a>,
}

impl Left<'_> {
    fn multiply(
        &self,
        level: Level,
        panels: std::ops::Range<usize>,
        tiles: std::ops::Range<usize>,
        out: &Columns<'_>,
        panel: &mut [f32],
    ) {
        let task = &Task { left: self, panels, tiles, out };
        match How::of(self.product.precision, level) {
            How::Plain => {
                at_level!(level, multiply_plain(task: &Task<'_>, panel: &mut [f32]));
            }
            How::Flushed => flush::with(level, || {
                at_level!(level, multiply_flushed(task: &Task<'_>, panel: &mut [f32]));
            }),
            #[cfg(target_arch = "x86_64")]
            How::Pairs(proof) => pairs::multiply(proof, task, panel),
        }
    }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn pack_plain<V: Lanes>(
    product: &Product<'_>,
    rows: (usize, usize),
    range: (usize, usize),
    a: &mut [f32],
) {
    // SAFETY: by this function's contract.
    unsafe { Plain::<V>::pack_tiles(product, rows, range, a) }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn pack_flushed<V: Lanes>(
    product: &Product<'_>,
    rows: (usize, usize),
    range: (usize, usize),
    a: &mut [f32],
) {
    // SAFETY: by this function's contract.
    unsafe { Flushed::<V>::pack_tiles(product, rows, range, a) }
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn multiply_plain<V: Lanes>(task: &Task<'_>, panel: &mut [f32]) {
    // SAFETY: by this function's contract.
    unsafe { multiply::<Plain<V>>(task, panel) }
}

/// # Safety
/// `V`'s instruction set is available, within `flush::with`.
#[inline(always)]
unsafe fn multiply_flushed<V: Lanes>(task: &Task<'_>, panel: &mut [f32]) {
    // SAFETY: by this function's contract.
    unsafe { multiply::<Flushed<V>>(task, panel) }
}

/// Runs a task: for each block of k, packs its panels one after the other and runs its tiles over
/// each.
///
/// # Safety
/// What `C` asks for.
#[inline(always)]
pub(super) unsafe fn multiply<C: Chain>(task: &Task<'_>, packed: &mut [f32]) {
    let Task { left, panels, tiles, out } = task;
    let (height, width) = (pack::tile_rows::<C::V>(), 2 * C::V::LEN);
    for block in 0..left.blocks.count {
        let range = left.blocks.range(block);
        let count = (range.1 - range.0) / C::PER_PACKED;
        let load = block > 0 || left.product.start == Start::Existing;
        let elements = pack::tile_elements::<C::V>();
        let a = &left.a[block * left.tiles * elements..][..left.tiles * elements];
        for panel in panels.clone() {
            let first = panel * width;
            let columns = width.min(out.width() - first);
            // SAFETY: as this function.
            unsafe { C::pack_panel(left.product, (first, columns), range, packed) };
            for tile in tiles.clone() {
                let a = &a[tile * elements..][..elements];
                let rows = height.min(left.rows - tile * height);
                let at = out.tile((left.row + tile * height, rows), (first, columns));
                let out = Outputs { at, stride: out.width(), rows, columns, load };
                // SAFETY: a packed tile and a packed panel of `count` elements; the outputs are there,
                // and no other task has these rows and columns.
                unsafe {
                    if left.product.a.k_stride == 1 {
                        rows_by_k::<C>(count, a, packed, out);
                    } else {
                        k_by_rows::<C>(count, a, packed, out);
                    }
                }
            }
        }
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn rows_by_k<C: Chain>(count: usize, a: &[f32], b: &[f32], out: Outputs) {
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: by this function's contract; a tile of fewer rows is laid out as a whole one.
    unsafe {
        match (C::V::LEN, out.rows) {
            (_, 0..=2) => tile::<C, 2, DEPTH, 1>(count, a, b, out),
            (16, 3..=4) => tile::<C, 4, DEPTH, 1>(count, a, b, out),
            (16, _) => tile::<C, 12, DEPTH, 1>(count, a, b, out),
            _ => tile::<C, 6, DEPTH, 1>(count, a, b, out),
        }
    }
}

/// # Safety
/// As [`tile`].
#[inline(always)]
unsafe fn k_by_rows<C: Chain>(count: usize, a: &[f32], b: &[f32], out: Outputs) {
    let (a, b) = (a.as_ptr(), b.as_ptr());
    // SAFETY: by this function's contract; a tile of fewer rows is laid out as a whole one.
    unsafe {
        match (C::V::LEN, out.rows) {
            (16, 0..=4) => tile::<C, 4, 1, 12>(count, a, b, out),
            (16, _) => tile::<C, 12, 1, 12>(count, a, b, out),
            _ => tile::<C, 6, 1, 6>(count, a, b, out),
        }
    }
}

/// What a level's kernel works on at a time.
struct Extents {
    /// Rows of a register tile.
    height: usize,
    /// Columns of a register tile.
    width: usize,
    /// Elements of a packed tile.
    tile: usize,
}

fn extents(level: Level) -> Extents {
    /// # Safety
    /// None: asks for constants.
    unsafe fn of<V: Lanes>() -> Extents {
        let (height, tile) = (pack::tile_rows::<V>(), pack::tile_elements::<V>());
        Extents { height, width: 2 * V::LEN, tile }
    }
    at_level!(level, of() -> Extents)
}

/// Rows of the left factor at a time at most: a block of k of them stays in the second cache.
const MAX_ROWS: usize = 1032;
/// Elements of the left factor packed at a time at most (8 MiB).
const PACKED_ELEMENTS: usize = 2 << 20;
/// Columns are cut into so many tasks per thread, so that threads end together.
const TASKS_PER_THREAD: usize = 8;
/// Rows are not cut finer than this many tiles.
const MIN_TILES: usize = 4;
