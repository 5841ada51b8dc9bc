//! Memory of training by class of tensor, predicted from the extents.

use std::fmt;

use super::activations::Passes;
use super::activations::logit_rows;
use super::config::Dims;

/// Bytes by class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// f32 weights.
    pub weights: u64,
    /// f32 gradients (a tied head keeps its own until the end of a step).
    pub gradients: u64,
    /// AdamW's two f32 moments.
    pub moments: u64,
    /// What forward keeps for one micro-batch.
    pub activations: u64,
    /// Gradients of activations.
    pub scratch: u64,
    /// Logits of some rows at a time.
    pub logits: u64,
    /// Packed operands of matrix products.
    pub packing: u64,
    /// Evaluation between steps: forward only, one sequence at a time.
    pub evaluation: u64,
    /// The program itself, its libraries, threads and tables.
    pub program: u64,
}

impl Memory {
    /// For micro-batches of `sequences` sequences of `seq_len` tokens.
    pub fn of(dims: &Dims, sequences: usize, seq_len: usize, passes: Passes) -> Self {
        let [c, f, v, layers, w, hd] =
            [dims.width, dims.ffn, dims.vocab, dims.layers, dims.qkv_width(), dims.heads_width()]
                .map(|x| x as u64);
        let n = sequences as u64 * seq_len as u64;
        let weights = 4 * dims.parameters();
        let tied = if dims.tied { 4 * v * c } else { 0 };
        // attn_norm, ffn_norm; rstd twice; qkv; heads; lse; ffn_in and swiglu.
        let block = n * (2 * c + 2 + w + hd + dims.heads as u64 + 3 * f);
        let (blocks, inputs, mids) = match passes {
            Passes::Forward => (1, 2, 2),
            Passes::Stored => (layers, layers, layers),
            Passes::Recomputed => (1, layers, 2),
        };
        // Besides: branch, last, final_norm; final_rstd, losses, tokens, targets.
        let activations = 4 * (blocks * block + n * c * (inputs + mids + 3) + 4 * n);
        let scratch = match passes {
            Passes::Forward => 0,
            _ => 4 * n * (2 * c + w + hd + 3 * f),
        };
        let rows = logit_rows(dims, n as usize) as u64;
        // Each product packs its left factor: rows by k, some rows at a time.
        let packed = [(rows, v), (v, rows), (n, 2 * f), (2 * f, n), (n, w), (w, n)];
        let packed = packed.iter().map(|&(rows, k)| rows.min(PACKED_ROWS) * k).max().unwrap_or(0);
        let evaluation = match passes {
            Passes::Forward => 0,
            _ => {
                let of = Self::of(dims, 1, seq_len, Passes::Forward);
                of.activations + of.logits
            }
        };
        Self {
            weights,
            gradients: if passes == Passes::Forward { 0 } else { weights + tied },
            moments: if passes == Passes::Forward { 0 } else { 2 * weights },
            activations,
            scratch,
            logits: 4 * rows * v,
            packing: (4 * packed).min(PACKED_BYTES),
            evaluation,
            program: PROGRAM_BYTES,
        }
    }

    /// All classes together.
    pub fn total(&self) -> u64 {
        self.rows().iter().map(|(_, bytes)| bytes).sum()
    }

    fn rows(&self) -> [(&'static str, u64); 9] {
        [
            ("weights (f32)", self.weights),
            ("gradients (f32)", self.gradients),
            ("moments (2 x f32)", self.moments),
            ("activations", self.activations),
            ("activation gradients", self.scratch),
            ("logits", self.logits),
            ("packed operands", self.packing),
            ("evaluation", self.evaluation),
            ("program", self.program),
        ]
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = |f: &mut fmt::Formatter<'_>, name: &str, bytes: u64| {
            writeln!(f, "  {name:22} {:>12.1} MiB", bytes as f64 / f64::from(1 << 20))
        };
        for (name, bytes) in self.rows() {
            line(f, name, bytes)?;
        }
        line(f, "total", self.total())
    }
}

/// What the CPU's matrix products pack at a time, at most.
const PACKED_BYTES: u64 = 8 << 20;
/// Rows that they pack at a time, at most.
const PACKED_ROWS: u64 = 1032;
/// Measured with a model of some thousand weights: code, libraries and stacks.
const PROGRAM_BYTES: u64 = 11 << 20;
