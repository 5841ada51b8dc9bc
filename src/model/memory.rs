//! What the pieces of a model take in memory, predicted from the extents.
//!
//! Weights are counted in elements, activations in bytes, in 128 bits: no extents that a run file may
//! give overflow them. Which pieces a rank holds at a time is up to `shard::RankMemory`.

use super::activations::logit_rows;
use super::config::Dims;
use crate::ops::Precision;

/// Elements of the tensors that hold a model's weights, group by group. Gradients and moments have
/// the same tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightSizes {
    /// The embedding table `(V, C)`.
    pub embedding: u128,
    /// The weights of one block.
    pub block: [u128; 6],
    /// The final norm `(C)`.
    pub final_norm: u128,
    /// The LM head `(V, C)`, whether or not it is the embedding table.
    pub head: u128,
}

impl WeightSizes {
    /// Elements of a block that are scales of norms, no matrices.
    pub fn norms_of_block(&self) -> u128 {
        2 * self.final_norm
    }

    /// Those of a model of these extents.
    pub fn of(dims: &Dims) -> Self {
        let [c, f, v, w, hd] =
            [dims.width, dims.ffn, dims.vocab, dims.qkv_width(), dims.heads_width()]
                .map(|x| x as u128);
        Self {
            embedding: v * c,
            block: [c, w * c, c * hd, c, 2 * f * c, c * f],
            final_norm: c,
            head: v * c,
        }
    }
}

/// Bytes of the tensors of one micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivationSizes {
    /// What one block keeps between its forward and its backward pass: normalized inputs, their
    /// scales, queries, keys and values, heads, attention's sums, the feed-forward's inside.
    pub block: u128,
    /// The residual stream `(N, C)` at one point.
    pub stream: u128,
    /// One value per token `(N)`.
    pub tokens: u128,
    /// Gradients of one block's activations.
    pub gradients: u128,
    /// Logits, of some rows at a time.
    pub logits: u128,
    /// What matrix products pack of their left factor.
    pub packing: u128,
}

impl ActivationSizes {
    /// Those of `sequences` sequences of `seq_len` tokens.
    pub fn of(dims: &Dims, precision: Precision, sequences: usize, seq_len: usize) -> Self {
        let [c, f, v, w, hd, heads] =
            [dims.width, dims.ffn, dims.vocab, dims.qkv_width(), dims.heads_width(), dims.heads]
                .map(|x| x as u128);
        let n = sequences as u128 * seq_len as u128;
        let rows = usize::try_from(n).unwrap_or(usize::MAX);
        let at_once = logit_rows(dims, precision, rows) as u128;
        let each = precision.activations().size_bytes() as u128;
        // Each product packs its left factor: rows by k, some rows at a time.
        let products = [(at_once, v), (v, at_once), (n, 2 * f), (2 * f, n), (n, w), (w, n)];
        let packed = products.iter().map(|&(rows, k)| packed_bytes(precision, rows, k)).max();
        Self {
            block: n * (each * (2 * c + w + hd + 3 * f) + F32_BYTES * (2 + heads)),
            stream: each * n * c,
            tokens: F32_BYTES * n,
            gradients: each * n * (c + w + hd + 3 * f),
            logits: each * at_once * v,
            packing: packed.unwrap_or(0),
        }
    }
}

/// What the CPU's product of a left factor of `rows` rows by `k` packs of it at a time, in bytes: some rows
/// in whole blocks of k. Panels of the right factor (164 KB a thread at most) are left out; a GPU packs
/// nothing.
fn packed_bytes(precision: Precision, rows: u128, k: u128) -> u128 {
    // Depth of a block, rows at least and at most, rows of a tile, words beside a tile of a block.
    let (depth, least, most, tile, beside) = match precision {
        Precision::F32 | Precision::Bf16 => (256, 1, 1032, 12, 16),
        // An element's exponent stands beside it, and the largest of a row beside the row.
        Precision::Tc(_) => (128, 16, 1024, 1, 129),
    };
    let blocks = k.div_ceil(depth).max(1);
    let at_once = (PACKED_ELEMENTS / (blocks * depth)).clamp(least, most);
    let at_once = at_once.next_multiple_of(tile).min(rows.next_multiple_of(tile));
    F32_BYTES * at_once / tile * blocks * (tile * depth + beside)
}

/// Of a token, a loss, a scale.
const F32_BYTES: u128 = 4;
/// Elements that a product packs at a time, roughly at most.
const PACKED_ELEMENTS: u128 = 2 << 20;
