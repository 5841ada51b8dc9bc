//! How an operation without sums across rows is cut into tasks; results depend on none of it.

use rayon::prelude::*;

use super::Cpu;
use super::activation::Activation;
use super::lanes::Lanes;

impl Cpu {
    /// Rows in one task, at least 1, of `rows` that have `row_elements` elements each.
    ///
    /// A thread gets several tasks, so that threads end together even if one is held up, but no
    /// task is so small that handing it over costs more than running it.
    pub(super) fn rows_per_task(&self, rows: usize, row_elements: usize) -> usize {
        let threads = self.threads();
        let worthwhile = (rows * row_elements / MIN_TASK_ELEMENTS).max(1);
        let tasks = if threads == 1 { 1 } else { worthwhile.min(TASKS_PER_THREAD * threads) };
        rows.div_ceil(tasks).max(1)
    }

    /// Runs `task` on every item; here if all have at most [`SMALL_ELEMENTS`] elements together,
    /// else on the pool.
    pub(super) fn for_each<T: Send>(
        &self,
        elements: usize,
        items: impl Iterator<Item = T>,
        task: impl Fn(T) + Send + Sync,
    ) {
        if elements <= SMALL_ELEMENTS {
            items.for_each(task);
        } else {
            let items: Vec<T> = items.collect();
            self.run(|| items.into_par_iter().with_max_len(1).for_each(task));
        }
    }
}

/// Whether to write `out`, in rows of `row` elements, past the caches: it must be aligned, and so
/// large that the next operation would find little of it in a cache anyway.
pub(super) fn streams<E: Activation>(out: &[E], row: usize) -> bool {
    let aligned = out.as_ptr().addr().is_multiple_of(ALIGN_BYTES);
    let whole = (row * size_of::<E>()).is_multiple_of(ALIGN_BYTES);
    let can = cfg!(target_arch = "x86_64") && E::STREAMS;
    can && aligned && whole && size_of_val(out) >= STREAM_BYTES
}

/// Writes `x` to `dst`: past the caches if `STREAM`, after which [`fence`] must follow.
///
/// # Safety
/// `V`'s instruction set is available; `dst` has room for `V::LEN` elements, and is aligned to
/// that many if `STREAM`.
#[inline(always)]
pub(super) unsafe fn put<V: Lanes, const STREAM: bool>(x: V, dst: *mut f32) {
    // SAFETY: by this function's contract.
    unsafe { if STREAM { x.stream(dst) } else { x.store(dst) } }
}

/// Orders streamed stores before whatever tells another thread of them.
#[inline(always)]
pub(super) fn fence(streamed: bool) {
    #[cfg(target_arch = "x86_64")]
    if streamed {
        // SAFETY: part of SSE, which every x86-64 has.
        unsafe { std::arch::x86_64::_mm_sfence() };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = streamed;
}

/// Up to here a thread is done sooner than another one is woken.
pub(super) const SMALL_ELEMENTS: usize = 16 << 10;
const MIN_TASK_ELEMENTS: usize = 8 << 10;
const TASKS_PER_THREAD: usize = 4;
/// Outputs smaller than this stay in the caches.
const STREAM_BYTES: usize = 32 << 20;
/// The widest vector.
const ALIGN_BYTES: usize = 64;
