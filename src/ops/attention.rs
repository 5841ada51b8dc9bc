//! Causal attention with grouped queries, tiled, with online softmax (Dao et al. 2022,
//! arXiv:2205.14135, algorithm 1); no `T x T` buffer.
//!
//! Rows of `qkv` are packed `[H query heads | K key heads | K value heads]`, each head `D` wide;
//! the `G = H / K` consecutive query heads of a group share one key/value head.
//!
//! For the query at position `t` of one head, keys `0..=t` in tiles of [`KEY_TILE`], ascending.
//! `dot` and `acc` are matrix products by [`Precision`]; other sums are chains of additions.
//!
//! ```text
//! s[j]  = dot_d(q[d], k[j][d]) * scale
//! m'    = max(m, max_j s[j])                p[j] = exp(s[j] - m')
//! alpha = exp(m - m')                       (first tile: no rescaling; sums start at 0)
//! l     = fma(l, alpha, ts), ts = chain_j p[j]   (ts starts at 0, j ascending in the tile)
//! o[d]  = (o[d] * alpha) then the product's chain over j ascending of p[j] * v[j][d]
//! out[d] = o[d] * (1 / l) + 0               lse = m + log(l)
//! ```
//!
//! Keys after `t` take no part. Adding their exact zeros is the same but for the sign of a zero,
//! which the final `+ 0` removes; so a kernel may run over whole blocks with `p = 0` there. In
//! [`Precision::Bf16`] q, k, p and v are rounded where they enter a product; `l` sums unrounded p.
//!
//! In [`Precision::Tc`] `qkv`, `out`, their gradients and the cache are bf16, `lse` is f32 in units of
//! log2, and the formulas are those of docs/ARITHMETIC.md, 16.7.

use super::{Kernels, OpError, Precision, expect_shape};
use crate::tensor::View;
use crate::tensor::ViewMut;

/// Keys in a tile of the online softmax: a constant of the contract.
pub const KEY_TILE: usize = 128;

/// Queries in a tile of the backward pass in [`Precision::Tc`]: a constant of the contract.
pub const QUERY_TILE: usize = 64;

/// Extents of one attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extents {
    /// Sequences (B).
    pub sequences: usize,
    /// Tokens in a sequence (T).
    pub seq_len: usize,
    /// Query heads (H), a multiple of `kv_heads`.
    pub heads: usize,
    /// Key/value heads (K).
    pub kv_heads: usize,
    /// Head width (D), even.
    pub head_dim: usize,
}

impl Extents {
    /// Rows: `N = B * T`.
    pub fn rows(&self) -> usize {
        self.sequences * self.seq_len
    }

    /// Width of a packed row: `(H + 2K) * D`.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// `1 / sqrt(D)`, in f64, rounded once.
    pub fn scale(&self) -> f32 {
        (1.0 / (self.head_dim as f64).sqrt()) as f32
    }

    /// `log2(e) / sqrt(D)`, in f64, rounded once: from scores to exponents of two.
    pub fn log2_scale(&self) -> f32 {
        (std::f64::consts::LOG2_E / (self.head_dim as f64).sqrt()) as f32
    }
}

/// Arguments of [`forward`].
#[derive(Debug)]
pub struct Forward<'a> {
    /// `(N, H·D)`, overwritten.
    pub out: ViewMut<'a>,
    /// `(B, H, T)`, overwritten; backward needs it.
    pub lse: ViewMut<'a>,
    /// `(N, (H + 2K)·D)`, after rotation.
    pub qkv: View<'a>,
    /// The extents.
    pub extents: Extents,
    /// Rounding and order of the products.
    pub precision: Precision,
}

/// Arguments of [`backward`].
#[derive(Debug)]
pub struct Backward<'a> {
    /// `(N, (H + 2K)·D)`, overwritten.
    pub dqkv: ViewMut<'a>,
    /// `(N, H·D)`.
    pub dout: View<'a>,
    /// `(N, H·D)`, from forward.
    pub out: View<'a>,
    /// `(B, H, T)`, from forward.
    pub lse: View<'a>,
    /// `(N, (H + 2K)·D)`, after rotation.
    pub qkv: View<'a>,
    /// The extents.
    pub extents: Extents,
    /// Rounding and order of the products.
    pub precision: Precision,
}

/// Arguments of [`decode`]: new tokens of one sequence against a cache.
#[derive(Debug)]
pub struct Decode<'a> {
    /// `(N, H·D)`, overwritten.
    pub out: ViewMut<'a>,
    /// `(N, (H + 2K)·D)`, after rotation: the new tokens, at positions `first_position..`.
    pub qkv: View<'a>,
    /// `(P, 2·K·D)`: keys, then values, of all positions below `first_position + N`.
    pub cache: View<'a>,
    /// Position of the first new token.
    pub first_position: usize,
    /// `sequences` is 1 and `seq_len` is N.
    pub extents: Extents,
    /// Rounding and order of the products.
    pub precision: Precision,
}

/// Arguments of [`append`].
#[derive(Debug)]
pub struct Append<'a> {
    /// `(N, 2·K·D)`, overwritten: the new tokens' rows of a cache.
    pub cache: ViewMut<'a>,
    /// `(N, (H + 2K)·D)`, after rotation.
    pub qkv: View<'a>,
}

/// Copies the keys and values of new tokens to their rows of a cache.
pub fn append(kernels: &dyn Kernels, args: Append<'_>) -> Result<(), OpError> {
    let [n, width] = super::matrix("attention::append cache", &args.cache.shape())?;
    let [_, qkv_width] = super::matrix("attention::append qkv", &args.qkv.shape())?;
    expect_shape("attention::append qkv", &args.qkv.shape(), &[n, qkv_width.max(width)])?;
    kernels.attention_append(args)
}

/// Attends from every token to itself and all before it.
pub fn forward(kernels: &dyn Kernels, args: Forward<'_>) -> Result<(), OpError> {
    let e = check_extents("attention::forward extents", args.extents)?;
    let width = e.heads * e.head_dim;
    expect_shape("attention::forward qkv", &args.qkv.shape(), &[e.rows(), e.qkv_width()])?;
    expect_shape("attention::forward out", &args.out.shape(), &[e.rows(), width])?;
    let lse = [e.sequences, e.heads, e.seq_len];
    expect_shape("attention::forward lse", &args.lse.shape(), &lse)?;
    kernels.attention_forward(args)
}

/// Gradients of [`forward`]; recomputes the probabilities from `lse`.
///
/// ```text
/// delta[t] = chain_d dout[t][d] * out[t][d]        (fma from 0, d ascending, unrounded)
/// p  = exp(s - lse)      dp = dot_d(dout[t][d], v[j][d])      ds = (p * (dp - delta)) * scale
/// dv[j][d] = product's chain over (head of the group, t ascending, t >= j) of p * dout[t][d]
/// dk[j][d] = likewise of ds * q[t][d]
/// dq[t][d] = product's chain over j ascending, j <= t, of ds * k[j][d]
/// ```
///
/// each from 0, and `+ 0` at the end. In [`Precision::Bf16`] pairs are formed from t = 0 and
/// j = 0 of each head on (so a chain may begin with a zero of a masked partner), and p, ds, q, k,
/// v and dout are rounded where they enter a product.
pub fn backward(kernels: &dyn Kernels, args: Backward<'_>) -> Result<(), OpError> {
    let e = check_extents("attention::backward extents", args.extents)?;
    let width = e.heads * e.head_dim;
    expect_shape("attention::backward qkv", &args.qkv.shape(), &[e.rows(), e.qkv_width()])?;
    expect_shape("attention::backward dqkv", &args.dqkv.shape(), &[e.rows(), e.qkv_width()])?;
    expect_shape("attention::backward out", &args.out.shape(), &[e.rows(), width])?;
    expect_shape("attention::backward dout", &args.dout.shape(), &[e.rows(), width])?;
    let lse = [e.sequences, e.heads, e.seq_len];
    expect_shape("attention::backward lse", &args.lse.shape(), &lse)?;
    kernels.attention_backward(args)
}

/// Attends from new tokens to a cache of keys and values: the bits that [`forward`] gives.
pub fn decode(kernels: &dyn Kernels, args: Decode<'_>) -> Result<(), OpError> {
    let e = check_extents("attention::decode extents", args.extents)?;
    if e.sequences != 1 {
        let why = format!("one sequence at a time, got {}", e.sequences);
        return Err(OpError::Extent { what: "attention::decode extents", why });
    }
    expect_shape("attention::decode qkv", &args.qkv.shape(), &[e.rows(), e.qkv_width()])?;
    expect_shape("attention::decode out", &args.out.shape(), &[e.rows(), e.heads * e.head_dim])?;
    let positions = args.cache.shape().first().copied().unwrap_or(0);
    let cache = [positions.max(args.first_position + e.seq_len), 2 * e.kv_heads * e.head_dim];
    expect_shape("attention::decode cache", &args.cache.shape(), &cache)?;
    kernels.attention_decode(args)
}

/// What a backend supplies. Shapes have been checked.
pub trait Kernel {
    /// See [`forward`].
    fn attention_forward(&self, args: Forward<'_>) -> Result<(), OpError>;
    /// See [`backward`].
    fn attention_backward(&self, args: Backward<'_>) -> Result<(), OpError>;
    /// See [`append`].
    fn attention_append(&self, args: Append<'_>) -> Result<(), OpError>;
    /// See [`decode`].
    fn attention_decode(&self, args: Decode<'_>) -> Result<(), OpError>;
}

fn check_extents(what: &'static str, e: Extents) -> Result<Extents, OpError> {
    if e.kv_heads == 0 || !e.heads.is_multiple_of(e.kv_heads) {
        let why = format!("{} query heads over {} key/value heads", e.heads, e.kv_heads);
        return Err(OpError::Extent { what, why });
    }
    if e.head_dim == 0 || !e.head_dim.is_multiple_of(2) {
        let why = format!("head width {} is not even", e.head_dim);
        return Err(OpError::Extent { what, why });
    }
    Ok(e)
}
