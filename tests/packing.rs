//! What matrix products allocate to pack their left factors, measured, against the class `packed
//! operands` of the memory plan.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use half::bf16;
use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::model;
use neuroshard::model::ActivationSizes;
use neuroshard::model::Dims;
use neuroshard::ops::Kernels;
use neuroshard::ops::Precision;
use neuroshard::ops::TensorCore;
use neuroshard::ops::matmul;
use neuroshard::tensor::Tensor;

/// Bytes that are allocated now.
static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: the system's allocator does everything; this one counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.alloc(layout) }
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.alloc_zeroed(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller's.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Every product of a training step: rows of its left factor, and k.
fn products(dims: &Dims, n: usize, at_once: usize) -> Vec<(usize, usize)> {
    let Dims { width: c, ffn: f, vocab: v, .. } = *dims;
    let (w, hd) = (dims.qkv_width(), dims.heads_width());
    let forward = [(n, c), (n, hd), (n, c), (n, f), (at_once, c)];
    let inputs = [(n, w), (n, c), (n, 2 * f), (n, c), (at_once, v)];
    let weights = [(w, n), (c, n), (2 * f, n), (c, n), (v, at_once)];
    [forward, inputs, weights].concat()
}

/// What stays allocated after a product of every kind, on the one thread of `cpu`.
fn measured(cpu: &Cpu, precision: Precision, products: &[(usize, usize)]) -> usize {
    let tensor = |rows: usize, columns: usize| match precision {
        Precision::Tc(_) => Tensor::from_slice(&vec![bf16::ONE; rows * columns], &[rows, columns]),
        _ => Tensor::from_slice(&vec![1.0f32; rows * columns], &[rows, columns]),
    };
    let run = |rows: usize, k: usize| {
        let (inp, weight, mut out) = (tensor(rows, k), tensor(8, k), tensor(rows, 8));
        let (out, inp, weight) = (out.view_mut(), inp.view(), weight.view());
        matmul::forward(cpu, matmul::Forward { out, inp, weight, precision }).unwrap();
        cpu.synchronize().unwrap();
    };
    let before = ALLOCATED.load(Ordering::Relaxed);
    products.iter().for_each(|&(rows, k)| run(rows, k));
    ALLOCATED.load(Ordering::Relaxed) - before
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn what_products_pack_is_what_the_plan_says() {
    let nano = model::Config::default().dims().unwrap();
    let small = Dims { width: 24, heads: 3, kv_heads: 1, head_dim: 8, ffn: 32, vocab: 64, ..nano };
    // A thread that ends gives back what it has packed; so none ends before all is measured.
    let mut cpus = Vec::new();
    // Rows of a micro-batch: below a block of k, a model's, more than are packed at a time.
    for (dims, n) in [(small, 64), (nano, 256), (small, 3000)] {
        for precision in [Precision::F32, Precision::Bf16, Precision::Tc(TensorCore::Hopper)] {
            let sizes = ActivationSizes::of(&dims, precision, 1, n);
            let row_bytes = dims.vocab * precision.activations().size_bytes();
            let at_once = (sizes.logits / row_bytes as u128) as usize;
            let cpu = Cpu::new(Level::best(), 1).unwrap();
            let got = measured(&cpu, precision, &products(&dims, n, at_once));
            let want = sizes.packing as usize;
            cpus.push(cpu);
            // Besides a panel of the right factor; the instruction for pairs of bf16 packs half as much,
            // and levels whose tiles have other extents than AVX-512's round up a little less.
            let least = if precision == Precision::Bf16 { want / 2 } else { want - want / 32 };
            assert!(
                (least..=want + PANEL_BYTES).contains(&got),
                "{precision:?}, {n} rows: {got} bytes, {want} planned"
            );
        }
    }
}

/// Of one thread, and what the threads themselves take.
const PANEL_BYTES: usize = 200 << 10;
