//! Chains by `vdpbf16ps`: packed elements are pairs of bf16, the even one in the low half.
//!
//! The instruction adds the product of the odd elements, then that of the even ones, each by an
//! FMA, with subnormal inputs and results flushed to zero whatever the MXCSR register says
//! (tests/ops/bf16_dot.rs). So its bits are those of the other levels.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::kernel::Chain;
use super::pack;
use super::product::Operand;
use super::product::Product;
use super::product::Task;
use super::product::multiply as multiply_task;
use crate::backend::cpu::lanes::Avx512;
use crate::backend::cpu::level::Isa;
use crate::backend::cpu::level::Level;
use crate::backend::cpu::peak::CHAINS;
use crate::backend::cpu::peak::TURNS;

/// The CPU has `vdpbf16ps`, and the level asks for it.
#[derive(Clone, Copy)]
pub(in crate::backend::cpu) struct Proof(());

impl Proof {
    /// The proof, if `level` is one.
    pub fn of(level: Level) -> Option<Self> {
        (level.0 == Isa::Avx512Bf16).then_some(Self(()))
    }
}

/// Packs tiles of rows of the left factor.
pub(super) fn pack(
    _: Proof,
    product: &Product<'_>,
    rows: (usize, usize),
    range: (usize, usize),
    packed: &mut [f32],
) {
    // SAFETY: the proof stands for the features.
    unsafe { pack_at_level(product, rows, range, packed) }
}

/// Runs a task.
pub(super) fn multiply(_: Proof, task: &Task<'_>, panel: &mut [f32]) {
    // SAFETY: the proof stands for the features.
    unsafe { multiply_at_level(task, panel) }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn pack_at_level(
    product: &Product<'_>,
    rows: (usize, usize),
    range: (usize, usize),
    packed: &mut [f32],
) {
    // SAFETY: the features are enabled in this function.
    unsafe { Pairs::pack_tiles(product, rows, range, packed) }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
unsafe fn multiply_at_level(task: &Task<'_>, panel: &mut [f32]) {
    // SAFETY: the features are enabled in this function.
    unsafe { multiply_task::<Pairs>(task, panel) }
}

struct Pairs;

#[allow(clippy::missing_safety_doc, reason = "see the trait")]
impl Chain for Pairs {
    type V = Avx512;
    const PER_PACKED: usize = 2;

    #[inline(always)]
    unsafe fn run<const MR: usize, const A_ROW: usize, const A_K: usize>(
        count: usize,
        mut a: *const f32,
        mut b: *const f32,
        acc: &mut [[Avx512; 2]; MR],
    ) {
        for _ in 0..count {
            // SAFETY: by the trait's contract and `tile`'s; 16 pairs of bf16 fill a register.
            unsafe {
                let b0: __m512bh = std::mem::transmute(_mm512_loadu_ps(b));
                let b1: __m512bh = std::mem::transmute(_mm512_loadu_ps(b.add(16)));
                for (i, acc) in acc.iter_mut().enumerate() {
                    let pair = a.add(i * A_ROW).cast::<i32>().read();
                    let x: __m512bh = std::mem::transmute(_mm512_set1_epi32(pair));
                    acc[0].0 = _mm512_dpbf16_ps(acc[0].0, x, b0);
                    acc[1].0 = _mm512_dpbf16_ps(acc[1].0, x, b1);
                }
                (a, b) = (a.add(A_K), b.add(32));
            }
        }
    }

    #[inline(always)]
    unsafe fn pack_tiles(
        product: &Product<'_>,
        (row, end): (usize, usize),
        (from, to): (usize, usize),
        packed: &mut [f32],
    ) {
        let Operand { data, row_stride, k_stride } = product.a;
        let height = pack::tile_rows::<Avx512>();
        let stop = to.min(product.k);
        let tiles = packed.chunks_exact_mut(pack::tile_elements::<Avx512>()).enumerate();
        if k_stride == 1 {
            for (i, tile) in tiles {
                for (r, line) in tile.chunks_exact_mut(pack::DEPTH).take(height).enumerate() {
                    let source = row + i * height + r;
                    let line = &mut line[..(to - from) / 2];
                    if source < end {
                        let source = &data[source * row_stride..][from..stop];
                        for (line, source) in line.chunks_mut(16).zip(source.chunks(32)) {
                            // SAFETY: by the trait's contract; pieces of at most 16 pairs.
                            unsafe { store(along_k(source), line) };
                        }
                    } else {
                        line.fill(0.0);
                    }
                }
            }
            return;
        }
        for (i, tile) in tiles {
            let first = row + i * height;
            let rows = height.min(end.saturating_sub(first));
            let lines = tile.chunks_exact_mut(height);
            for (line, k) in lines.zip((from..to).step_by(2)) {
                let at = |k: usize| {
                    if k < stop {
                        data.get(k * k_stride + first..).map(|x| &x[..rows])
                    } else {
                        None
                    }
                };
                // SAFETY: by the trait's contract; at most 12 rows.
                unsafe { store(across_k(at(k), at(k + 1)), line) };
            }
        }
    }

    #[inline(always)]
    unsafe fn pack_panel(
        product: &Product<'_>,
        (first, columns): (usize, usize),
        (from, to): (usize, usize),
        panel: &mut [f32],
    ) {
        let Operand { data, row_stride, k_stride } = product.b;
        let stop = to.min(product.k);
        let panel = &mut panel[..(to - from) * 16];
        let halves = [(0, columns.min(16)), (16, columns.saturating_sub(16))];
        if k_stride == 1 {
            for (half, rows) in halves {
                for (lines, k) in panel.chunks_mut(16 * 32).zip((from..stop).step_by(32)) {
                    let count = 32.min(stop - k);
                    let mut block = [0.0f32; 256];
                    for (r, line) in block.chunks_exact_mut(16).take(rows).enumerate() {
                        let source = &data[(first + half + r) * row_stride + k..][..count];
                        // SAFETY: by the trait's contract; 16 pairs.
                        unsafe { store(along_k(source), line) };
                    }
                    // SAFETY: a block of 16 by 16; the panel has these lines.
                    unsafe {
                        let to = lines[half..].as_mut_ptr();
                        let extents = (16, lines.len() / 32);
                        <Avx512 as crate::backend::cpu::lanes::Lanes>::transpose::<false>(
                            block.as_ptr(),
                            16,
                            extents,
                            to,
                            32,
                        );
                    }
                }
            }
            return;
        }
        for (line, k) in panel.chunks_exact_mut(32).zip((from..to).step_by(2)) {
            for (half, rows) in halves {
                let at = |k: usize| {
                    let start = k * k_stride + first + half;
                    if k < stop && rows > 0 { Some(&data[start..][..rows]) } else { None }
                };
                // SAFETY: by the trait's contract; 16 pairs.
                unsafe { store(across_k(at(k), at(k + 1)), &mut line[half..half + 16]) };
            }
        }
    }
}

/// Up to 32 successive elements of k, rounded, as pairs.
///
/// # Safety
/// avx512f is available.
#[inline(always)]
unsafe fn along_k(source: &[f32]) -> __m512i {
    // SAFETY: masked loads within the slice.
    unsafe {
        let (low, high) = source.split_at(source.len().min(16));
        let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
        let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
        let (low, high) = (rounded(low), rounded(high));
        paired(
            _mm512_permutex2var_epi32(low, even, high),
            _mm512_permutex2var_epi32(low, odd, high),
        )
    }
}

/// Up to 16 rows at an even k and at the next one, rounded, as pairs.
///
/// # Safety
/// avx512f is available.
#[inline(always)]
unsafe fn across_k(even: Option<&[f32]>, odd: Option<&[f32]>) -> __m512i {
    // SAFETY: by this function's contract.
    unsafe { paired(rounded(even.unwrap_or(&[])), rounded(odd.unwrap_or(&[]))) }
}

/// Up to 16 elements rounded to bf16, in the upper halves; zeros after them.
///
/// # Safety
/// avx512f is available.
#[inline(always)]
unsafe fn rounded(source: &[f32]) -> __m512i {
    use crate::backend::cpu::lanes::Lanes;
    // SAFETY: by this function's contract; the slice has as many elements as are loaded.
    unsafe {
        _mm512_castps_si512(Avx512::load_first(source.as_ptr(), source.len().min(16)).bf16().0)
    }
}

/// # Safety
/// avx512f is available.
#[inline(always)]
unsafe fn paired(even: __m512i, odd: __m512i) -> __m512i {
    // SAFETY: by this function's contract.
    unsafe { _mm512_or_si512(_mm512_srli_epi32::<16>(even), odd) }
}

/// Writes as many pairs as `to` takes, at most 16.
///
/// # Safety
/// avx512f is available.
#[inline(always)]
unsafe fn store(pairs: __m512i, to: &mut [f32]) {
    use crate::backend::cpu::lanes::Lanes;
    // SAFETY: the slice has as many elements as are stored.
    unsafe { Avx512(_mm512_castsi512_ps(pairs)).store_first(to.as_mut_ptr(), to.len().min(16)) }
}

/// Some `vdpbf16ps` on registers; their FLOPs.
pub(in crate::backend::cpu) fn burst(_: Proof) -> usize {
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn chains() {
        let x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(0.5));
        let mut chains = [_mm512_set1_ps(black_box(1.0)); CHAINS];
        for _ in 0..TURNS {
            for chain in &mut chains {
                *chain = _mm512_dpbf16_ps(*chain, x, x);
            }
        }
        chains.into_iter().for_each(|chain| {
            black_box(chain);
        });
    }
    // SAFETY: the proof stands for the features.
    unsafe { chains() };
    2 * 32 * CHAINS * TURNS
}
