//! What `vdpbf16ps` computes is what docs/ARITHMETIC.md says: per pair two FMAs, the odd element
//! first, with subnormal inputs and results flushed. Everything bf16 rests on this.
//!
//! Millions of seeded lanes over the whole range of exponents: the instruction, hardware FMAs with
//! the MXCSR register's FTZ and DAZ bits, scalar code, and `matmul::backward_weight` of every
//! level (whose outputs are such lanes if there are two rows).
#![allow(unsafe_code, reason = "the instruction itself is under test")]

use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::ops::Precision;
use neuroshard::ops::matmul::*;
use neuroshard::rng::Address;
use neuroshard::rng::Purpose;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::assert_bits;
use crate::chain::fma_flushed;

/// `acc + a[1] * b[1] + a[0] * b[0]`: a lane. The factors are bf16 numbers.
#[derive(Clone, Copy, Debug)]
struct Lane {
    a: [f32; 2],
    b: [f32; 2],
    acc: f32,
}

/// How the exponents of a lane's numbers relate.
#[derive(Clone, Copy, Debug)]
enum Kind {
    /// Any bits: also subnormal, infinite and NaN.
    Any,
    /// Products and accumulator of similar size: rounding and cancellation.
    Near,
    /// Products and accumulator around the smallest normal number: flushing.
    Smallest,
    /// Products and accumulator around the largest number: overflow.
    Largest,
}

const KINDS: [Kind; 4] = [Kind::Any, Kind::Near, Kind::Smallest, Kind::Largest];
const LANES: usize = 1 << 20;
const SEED: u64 = 20_260_101;

impl Lane {
    fn random(kind: Kind, index: u64) -> Self {
        let address = |step| Address { seed: SEED, purpose: Purpose::Test, step, index };
        let [w0, w1, w2, w3] = address(kind as u64).words();
        let [acc_bits, shift, ..] = address(16 + kind as u64).words();
        if let Kind::Any = kind {
            let number = |word: u32| f32::from_bits(word & 0xffff_0000);
            let [a, b] = [[number(w0), number(w0 << 16)], [number(w1), number(w1 << 16)]];
            return Self { a, b, acc: f32::from_bits(acc_bits) };
        }
        // Exponent of the products; the factors share it out at random.
        let (center, spread) = match kind {
            Kind::Near => (-60 + (shift >> 8 & 127) as i32, 8),
            Kind::Smallest => (-126, 14),
            _ => (126, 3),
        };
        let product = |factors: u32, word: u32| {
            let exponent = center + (word % (2 * spread + 1)) as i32 - spread as i32;
            let low = (exponent - 127).max(-126);
            let high = (exponent + 126).min(127);
            let first = low + (word >> 8 & 0xffff) as i32 % (high - low + 1);
            let number = |bits: u32, exponent: i32| {
                let biased = (exponent + 127).clamp(0, 254) as u32;
                f32::from_bits((bits & 0x80) << 24 | biased << 23 | (bits & 0x7f) << 16)
            };
            [number(factors, first), number(factors >> 8, exponent - first)]
        };
        let [p, q] = [product(w0, w1), product(w2, w3)];
        let biased = center + 127 + (shift & 31) as i32 % (spread as i32 + 2) - 1;
        let acc = (acc_bits & 0x807f_ffff) | (biased.clamp(0, 254) as u32) << 23;
        Self { a: [p[0], q[0]], b: [p[1], q[1]], acc: f32::from_bits(acc) }
    }

    fn scalar(&self) -> f32 {
        let odd = fma_flushed(self.a[1], self.b[1], self.acc);
        fma_flushed(self.a[0], self.b[0], odd)
    }
}

fn lanes(kind: Kind) -> Vec<Lane> {
    (0..LANES as u64).map(|i| Lane::random(kind, i)).collect()
}

fn scalars(lanes: &[Lane]) -> Vec<f32> {
    lanes.iter().map(Lane::scalar).collect()
}

/// Lanes that could tell one order, or one way of flushing, from another.
#[test]
fn the_lanes_reach_every_case() {
    for kind in KINDS {
        let lanes = lanes(kind);
        let count = |f: &dyn Fn(&Lane) -> bool| lanes.iter().filter(|lane| f(lane)).count();
        let other_order = count(&|l| {
            let even = fma_flushed(l.a[0], l.b[0], l.acc);
            let sum = fma_flushed(l.a[1], l.b[1], even);
            !sum.is_nan() && sum.to_bits() != l.scalar().to_bits()
        });
        let unflushed = count(&|l| {
            let sum = l.a[0].mul_add(l.b[0], l.a[1].mul_add(l.b[1], l.acc));
            !sum.is_nan() && sum.to_bits() != l.scalar().to_bits()
        });
        let infinite = count(&|l| l.scalar().is_infinite());
        let text = format!("{kind:?}: {other_order} order, {unflushed} flush, {infinite} infinite");
        println!("of {LANES} lanes tell apart: {text}");
        let enough = match kind {
            Kind::Any => unflushed > 1000 && infinite > 1000,
            Kind::Near => other_order > 50_000,
            Kind::Smallest => unflushed > 50_000 && other_order > 50_000,
            Kind::Largest => infinite > 50_000 && other_order > 50_000,
        };
        assert!(enough, "{text}");
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_instruction_is_two_fmas_odd_element_first() {
    if !std::is_x86_feature_detected!("avx512bf16") {
        skipped("vdpbf16ps", "this CPU has no avx512_bf16");
        return;
    }
    for kind in KINDS {
        let lanes = lanes(kind);
        let mut got = vec![f32::NAN; LANES];
        for (lanes, got) in lanes.chunks_exact(16).zip(got.chunks_exact_mut(16)) {
            // SAFETY: the CPU has avx512_bf16, asked above.
            unsafe { x86::dot(lanes, got) };
        }
        same(&format!("vdpbf16ps, {kind:?}"), &lanes, &got);
    }
}

#[test]
#[cfg(target_arch = "x86_64")]
fn fmas_that_flush_are_the_same() {
    if !std::is_x86_feature_detected!("fma") {
        skipped("FMA with FTZ and DAZ", "this CPU has no FMA");
        return;
    }
    for kind in KINDS {
        let lanes = lanes(kind);
        // SAFETY: the CPU has FMA, asked above.
        let got: Vec<f32> = lanes.iter().map(|lane| unsafe { x86::two_fmas(lane) }).collect();
        same(&format!("FMA with FTZ and DAZ, {kind:?}"), &lanes, &got);
    }
}

#[test]
#[cfg(not(target_arch = "x86_64"))]
fn the_instruction_is_two_fmas_odd_element_first() {
    skipped("vdpbf16ps", "it is an instruction of x86-64");
}

fn skipped(what: &str, why: &str) {
    // Past the capture of the test harness: a skipped proof must be seen.
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {what} was NOT verified: {why} ***\n");
}

fn same(what: &str, lanes: &[Lane], got: &[f32]) {
    for (lane, got) in lanes.iter().zip(got) {
        let want = lane.scalar();
        let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
        assert!(same, "{what}: {got:e}, not {want:e}, for {lane:?}");
    }
}

/// A product of two rows, whose outputs are lanes: factors by column, an accumulator each.
#[test]
fn every_level_multiplies_so() {
    const O: usize = 257;
    const I: usize = 259;
    for kind in KINDS {
        let rows = [lanes(kind), lanes(kind).split_off(LANES / 2)];
        let a = |o: usize| rows[0][o].a;
        let b = |i: usize| rows[1][i].b;
        let columns = |f: &dyn Fn(usize) -> [f32; 2], n: usize| -> Vec<f32> {
            (0..2 * n).map(|at| f(at % n)[at / n]).collect()
        };
        let (dout, inp) = (columns(&a, O), columns(&b, I));
        let acc: Vec<f32> = rows[0][..O * I].iter().map(|lane| lane.acc).collect();
        let outputs: Vec<Lane> =
            (0..O * I).map(|at| Lane { a: a(at / I), b: b(at % I), acc: acc[at] }).collect();
        let want = scalars(&outputs);
        for level in Level::available() {
            let cpu = Cpu::new(level, 2).unwrap();
            let mut dweight = acc.clone();
            let args = BackwardWeight {
                dweight: ViewMut::of(&mut dweight, &[O, I]),
                dout: View::of(&dout, &[2, O]),
                inp: View::of(&inp, &[2, I]),
                precision: Precision::Bf16,
                start: Start::Existing,
            };
            backward_weight(&cpu, args).unwrap();
            assert_bits(&format!("{kind:?}, {level}"), &dweight, &want);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::*;

    use super::Lane;

    /// # Safety
    /// The CPU has avx512_bf16; 16 lanes and 16 outputs.
    #[target_feature(enable = "avx512f,avx512bf16")]
    pub unsafe fn dot(lanes: &[Lane], out: &mut [f32]) {
        assert!(lanes.len() == 16 && out.len() == 16);
        let pair = |[even, odd]: [f32; 2]| even.to_bits() >> 16 | (odd.to_bits() & 0xffff_0000);
        let (mut a, mut b, mut acc) = ([0u32; 16], [0u32; 16], [0.0f32; 16]);
        for (i, lane) in lanes.iter().enumerate() {
            (a[i], b[i], acc[i]) = (pair(lane.a), pair(lane.b), lane.acc);
        }
        // SAFETY: the arrays hold 16 elements of 32 bits, as does a register, whose bits may be
        // read as bf16 pairs.
        unsafe {
            let a: __m512bh = std::mem::transmute(_mm512_loadu_si512(a.as_ptr().cast()));
            let b: __m512bh = std::mem::transmute(_mm512_loadu_si512(b.as_ptr().cast()));
            let sum = _mm512_dpbf16_ps(_mm512_loadu_ps(acc.as_ptr()), a, b);
            _mm512_storeu_ps(out.as_mut_ptr(), sum);
        }
    }

    /// The odd element's FMA, then the even one's, with FTZ and DAZ. One block of assembly, so
    /// that the compiler, which knows nothing of MXCSR, moves no arithmetic in or out.
    ///
    /// # Safety
    /// The CPU has FMA.
    pub unsafe fn two_fmas(lane: &Lane) -> f32 {
        let (mut before, mut flushing) = (0u32, 0u32);
        let mut acc = lane.acc;
        // SAFETY: stores MXCSR to a local variable.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut before, options(nostack)) };
        flushing |= before | 1 << 15 | 1 << 6;
        // SAFETY: scalar FMAs in registers; MXCSR is put back, and differs meanwhile only in the
        // two bits that flush.
        unsafe {
            asm!(
                "ldmxcsr [{flushing}]",
                "vfmadd231ss {acc}, {a1}, {b1}",
                "vfmadd231ss {acc}, {a0}, {b0}",
                "ldmxcsr [{before}]",
                flushing = in(reg) &raw const flushing,
                before = in(reg) &raw const before,
                acc = inout(xmm_reg) acc,
                a0 = in(xmm_reg) lane.a[0],
                b0 = in(xmm_reg) lane.b[0],
                a1 = in(xmm_reg) lane.a[1],
                b1 = in(xmm_reg) lane.b[1],
                options(nostack),
            );
        }
        acc
    }
}
