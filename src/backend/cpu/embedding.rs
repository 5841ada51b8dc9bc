//! Rows copied, and rows added back to f32: by token, each token's rows in order.

use half::bf16;

use super::Cpu;
use super::activation::Activation;
use super::elementwise::add;
use super::lanes::Lanes;
use super::level::at_level;
use super::split::fence;
use super::split::streams;
use crate::ops::OpError;
use crate::ops::embedding::Backward;
use crate::ops::embedding::Forward;
use crate::ops::embedding::Kernel;
use crate::ops::expect_tokens;
use crate::ops::host;
use crate::ops::host_mut;
use crate::tensor::DType;

impl Kernel for Cpu {
    fn embedding_forward(&self, args: Forward<'_>) -> Result<(), OpError> {
        match args.table.dtype() {
            DType::Bf16 => self.embedding_forward_of::<bf16>(args),
            _ => self.embedding_forward_of::<f32>(args),
        }
    }

    fn embedding_backward(&self, args: Backward<'_>) -> Result<(), OpError> {
        match args.dout.dtype() {
            DType::Bf16 => self.embedding_backward_of::<bf16>(args),
            _ => self.embedding_backward_of::<f32>(args),
        }
    }
}

impl Cpu {
    fn embedding_forward_of<E: Activation>(&self, args: Forward<'_>) -> Result<(), OpError> {
        let [n, c] = [args.out.shape()[0], args.out.shape()[1]];
        let vocab = args.table.shape()[0];
        let out: &mut [E] = host_mut("embedding::forward out", args.out)?;
        let tokens: &[u32] = host("embedding::forward tokens", args.tokens)?;
        let table: &[E] = host("embedding::forward table", args.table)?;
        expect_tokens("embedding::forward tokens", tokens, vocab)?;
        if c == 0 {
            return Ok(());
        }
        let (level, stream) = (self.level(), streams(out, c));
        let task = self.rows_per_task(n, 2 * c);
        let items = out.chunks_mut(task * c).zip(tokens.chunks(task));
        self.for_each(2 * n * c, items, |(out, tokens)| {
            at_level!(level, gather<E: Activation>(out: &mut [E], tokens: &[u32], table: &[E], c: usize, stream: bool));
        });
        Ok(())
    }

    fn embedding_backward_of<E: Activation>(&self, args: Backward<'_>) -> Result<(), OpError> {
        let [n, c] = [args.dout.shape()[0], args.dout.shape()[1]];
        let vocab = args.dtable.shape()[0];
        let dtable: &mut [f32] = host_mut("embedding::backward dtable", args.dtable)?;
        let tokens: &[u32] = host("embedding::backward tokens", args.tokens)?;
        let dout: &[E] = host("embedding::backward dout", args.dout)?;
        expect_tokens("embedding::backward tokens", tokens, vocab)?;
        if c == 0 {
            return Ok(());
        }
        let mut order: Vec<(u32, usize)> = tokens.iter().copied().zip(0..).collect();
        order.sort_unstable();
        let (level, task) = (self.level(), self.rows_per_task(n, 3 * c) * c);
        let tasks = tasks(dtable, &order, c, task).into_iter();
        self.for_each(3 * n * c, tasks, |runs| {
            at_level!(level, add_runs<E: Activation>(runs: Vec<Run<'_>>, dout: &[E], c: usize));
        });
        Ok(())
    }
}

/// # Safety
/// `V`'s instruction set is available; with `stream`, `split::streams` said so.
#[inline(always)]
unsafe fn gather<V: Lanes, E: Activation>(
    out: &mut [E],
    tokens: &[u32],
    table: &[E],
    c: usize,
    stream: bool,
) {
    for (out, &token) in out.chunks_exact_mut(c).zip(tokens) {
        let row = &table[token as usize * c..][..c];
        if !stream {
            out.copy_from_slice(row);
            continue;
        }
        for i in (0..c).step_by(V::LEN) {
            // SAFETY: rows that are streamed are whole and aligned vectors; the rest is this
            // function's contract.
            unsafe { E::put::<V, true>(E::load(row.as_ptr().add(i)), out.as_mut_ptr().add(i)) };
        }
    }
    fence(stream);
}

/// Columns of one table row, and the tokens that name it.
struct Run<'a> {
    /// Columns `first..`, added to.
    dtable: &'a mut [f32],
    /// The first of them.
    first: usize,
    /// The token and its positions, ascending.
    rows: &'a [(u32, usize)],
}

/// Runs of equal tokens in `order`, in tasks of some `task` elements of `dout`.
///
/// A token that would make several tasks alone is shared out by columns.
fn tasks<'a>(
    mut dtable: &'a mut [f32],
    order: &'a [(u32, usize)],
    c: usize,
    task: usize,
) -> Vec<Vec<Run<'a>>> {
    let (mut tasks, mut runs, mut elements) = (Vec::new(), Vec::new(), 0);
    let mut passed = 0;
    for rows in order.chunk_by(|a, b| a.0 == b.0) {
        let start = rows[0].0 as usize * c;
        let (row, rest) = std::mem::take(&mut dtable)[start - passed..].split_at_mut(c);
        (dtable, passed) = (rest, start + c);
        let columns = (task / rows.len()).next_multiple_of(MIN_COLUMNS).max(MIN_COLUMNS);
        for (i, dtable) in row.chunks_mut(columns).enumerate() {
            elements += dtable.len() * rows.len();
            runs.push(Run { dtable, first: i * columns, rows });
            if elements >= task {
                tasks.push(std::mem::take(&mut runs));
                elements = 0;
            }
        }
    }
    tasks.push(runs);
    tasks
}

/// # Safety
/// `V`'s instruction set is available.
#[inline(always)]
unsafe fn add_runs<V: Lanes, E: Activation>(runs: Vec<Run<'_>>, dout: &[E], c: usize) {
    for run in runs {
        for (_, row) in run.rows {
            let dout = &dout[row * c + run.first..][..run.dtable.len()];
            // SAFETY: by this function's contract.
            unsafe { add::<V, f32, E>(run.dtable, dout) };
        }
    }
}

/// Columns of a token shared out: a few cache lines.
const MIN_COLUMNS: usize = 64;
