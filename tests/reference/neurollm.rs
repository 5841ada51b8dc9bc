//! NeuroLLM in f64, the whole model in one file: forward, loss, and every gradient, in the plainest
//! form there is. To be read before the model itself, which computes the same with kernels.
//!
//! `N` rows of `C` features: one row per token, sequence after sequence. A weight `(out, in)` acts
//! as `y = x · wᵀ`. Gradients are `d` + name. Numeric guarantee: f64 rounding, some 1e-15.

use neuroshard::model::BlockParams;
use neuroshard::model::Dims;
use neuroshard::model::Params;
use std::ops::Index;
use std::ops::IndexMut;

/// Rows of numbers; a vector is one row.
#[derive(Clone, Debug)]
pub struct Matrix {
    pub rows: usize,
    pub cols: usize,
    pub data: Vec<f64>,
}

impl Matrix {
    pub fn zeros(rows: usize, cols: usize) -> Self {
        Self { rows, cols, data: vec![0.0; rows * cols] }
    }

    /// A weight of the model, of one or two extents.
    pub fn of(values: &[f32], shape: &[usize]) -> Self {
        let cols = shape[shape.len() - 1];
        let data = values.iter().map(|&x| f64::from(x)).collect();
        Self { rows: values.len() / cols, cols, data }
    }

    fn add(&mut self, other: &Matrix) {
        for (x, y) in self.data.iter_mut().zip(&other.data) {
            *x += y;
        }
    }
}

impl Index<(usize, usize)> for Matrix {
    type Output = f64;
    fn index(&self, (row, col): (usize, usize)) -> &f64 {
        &self.data[row * self.cols + col]
    }
}

impl IndexMut<(usize, usize)> for Matrix {
    fn index_mut(&mut self, (row, col): (usize, usize)) -> &mut f64 {
        &mut self.data[row * self.cols + col]
    }
}

/// What forward leaves for backward.
pub struct Trace {
    blocks: Vec<Block>,
    last: Matrix,
    final_norm: Matrix,
    /// `(N, V)`.
    pub logits: Matrix,
}

/// What one block leaves: its input, and the output of each of its operations in order.
struct Block {
    input: Matrix,
    attn_norm: Matrix,
    qkv: Matrix,
    heads: Matrix,
    mid: Matrix,
    ffn_norm: Matrix,
    ffn_in: Matrix,
    swiglu: Matrix,
}

/// From tokens to logits.
pub fn forward(dims: &Dims, w: &Params<Matrix>, tokens: &[u32], seq_len: usize) -> Trace {
    let mut stream = embedding(tokens, &w.embedding);
    let mut blocks = Vec::new();
    for w in &w.blocks {
        let input = stream;
        let attn_norm = rmsnorm(&input, &w.attn_norm, dims);
        let mut qkv = linear(&attn_norm, &w.qkv);
        rotate(&mut qkv, dims, seq_len, 1.0);
        let heads = attention(&qkv, dims, seq_len);
        let mut mid = linear(&heads, &w.attn_out);
        mid.add(&input);
        let ffn_norm = rmsnorm(&mid, &w.ffn_norm, dims);
        let ffn_in = linear(&ffn_norm, &w.ffn_in);
        let swiglu = swiglu(&ffn_in);
        stream = linear(&swiglu, &w.ffn_out);
        stream.add(&mid);
        blocks.push(Block { input, attn_norm, qkv, heads, mid, ffn_norm, ffn_in, swiglu });
    }
    let final_norm = rmsnorm(&stream, &w.final_norm, dims);
    let logits = linear(&final_norm, w.lm_head.as_ref().unwrap_or(&w.embedding));
    Trace { blocks, last: stream, final_norm, logits }
}

/// Gradients of the mean loss.
pub fn backward(
    dims: &Dims,
    w: &Params<Matrix>,
    (tokens, targets): (&[u32], &[u32]),
    seq_len: usize,
    trace: &Trace,
) -> Params<Matrix> {
    let dlogits = cross_entropy_backward(&trace.logits, targets);
    let head = w.lm_head.as_ref().unwrap_or(&w.embedding);
    let (dnorm, dhead) = linear_backward(&dlogits, &trace.final_norm, head);
    let (mut dstream, dfinal_norm) = rmsnorm_backward(&dnorm, &trace.last, &w.final_norm, dims);
    let mut blocks = Vec::new();
    for (w, block) in w.blocks.iter().zip(&trace.blocks).rev() {
        blocks.insert(0, block_backward(dims, w, seq_len, block, &mut dstream));
    }
    let mut dembedding = embedding_backward(&dstream, tokens, &w.embedding);
    let lm_head = match w.lm_head {
        Some(_) => Some(dhead),
        None => {
            dembedding.add(&dhead);
            None
        }
    };
    Params { embedding: dembedding, blocks, final_norm: dfinal_norm, lm_head }
}

/// Gradients of one block's weights. `dstream` is the gradient of its output, then of its input.
fn block_backward(
    dims: &Dims,
    w: &BlockParams<Matrix>,
    seq_len: usize,
    block: &Block,
    dstream: &mut Matrix,
) -> BlockParams<Matrix> {
    let (dswiglu, ffn_out) = linear_backward(dstream, &block.swiglu, &w.ffn_out);
    let dffn_in = swiglu_backward(&dswiglu, &block.ffn_in);
    let (dnorm, ffn_in) = linear_backward(&dffn_in, &block.ffn_norm, &w.ffn_in);
    let (dmid, ffn_norm) = rmsnorm_backward(&dnorm, &block.mid, &w.ffn_norm, dims);
    dstream.add(&dmid);
    let (dheads, attn_out) = linear_backward(dstream, &block.heads, &w.attn_out);
    let mut dqkv = attention_backward(&dheads, &block.qkv, dims, seq_len);
    rotate(&mut dqkv, dims, seq_len, -1.0);
    let (dnorm, qkv) = linear_backward(&dqkv, &block.attn_norm, &w.qkv);
    let (dinput, attn_norm) = rmsnorm_backward(&dnorm, &block.input, &w.attn_norm, dims);
    dstream.add(&dinput);
    BlockParams { attn_norm, qkv, attn_out, ffn_norm, ffn_in, ffn_out }
}

/// A row of the table for every token.
fn embedding(tokens: &[u32], table: &Matrix) -> Matrix {
    let mut out = Matrix::zeros(tokens.len(), table.cols);
    for (n, &token) in tokens.iter().enumerate() {
        for c in 0..table.cols {
            out[(n, c)] = table[(token as usize, c)];
        }
    }
    out
}

fn embedding_backward(dout: &Matrix, tokens: &[u32], table: &Matrix) -> Matrix {
    let mut dtable = Matrix::zeros(table.rows, table.cols);
    for (n, &token) in tokens.iter().enumerate() {
        for c in 0..table.cols {
            dtable[(token as usize, c)] += dout[(n, c)];
        }
    }
    dtable
}

/// `x · wᵀ`.
fn linear(x: &Matrix, w: &Matrix) -> Matrix {
    let mut out = Matrix::zeros(x.rows, w.rows);
    for n in 0..x.rows {
        for o in 0..w.rows {
            out[(n, o)] = (0..x.cols).map(|i| x[(n, i)] * w[(o, i)]).sum();
        }
    }
    out
}

/// Gradients of `x` and `w`.
fn linear_backward(dout: &Matrix, x: &Matrix, w: &Matrix) -> (Matrix, Matrix) {
    let (mut dx, mut dw) = (Matrix::zeros(x.rows, x.cols), Matrix::zeros(w.rows, w.cols));
    for n in 0..x.rows {
        for o in 0..w.rows {
            for i in 0..x.cols {
                dx[(n, i)] += dout[(n, o)] * w[(o, i)];
                dw[(o, i)] += dout[(n, o)] * x[(n, i)];
            }
        }
    }
    (dx, dw)
}

/// `1 / sqrt(mean square + eps)` of row `n`.
fn rstd(x: &Matrix, n: usize, dims: &Dims) -> f64 {
    let squares: f64 = (0..x.cols).map(|c| x[(n, c)].powi(2)).sum();
    1.0 / (squares / x.cols as f64 + f64::from(dims.norm_eps)).sqrt()
}

/// `x · rstd · weight`.
fn rmsnorm(x: &Matrix, weight: &Matrix, dims: &Dims) -> Matrix {
    let mut out = x.clone();
    for n in 0..x.rows {
        for c in 0..x.cols {
            out[(n, c)] = x[(n, c)] * rstd(x, n, dims) * weight[(0, c)];
        }
    }
    out
}

/// Gradients of `x` and `weight`; `rstd` depends on every element of its row.
fn rmsnorm_backward(dout: &Matrix, x: &Matrix, weight: &Matrix, dims: &Dims) -> (Matrix, Matrix) {
    let (mut dx, mut dweight) = (x.clone(), Matrix::zeros(1, x.cols));
    for n in 0..x.rows {
        let rstd = rstd(x, n, dims);
        let drstd: f64 = (0..x.cols).map(|c| dout[(n, c)] * weight[(0, c)] * x[(n, c)]).sum();
        for c in 0..x.cols {
            let direct = dout[(n, c)] * weight[(0, c)] * rstd;
            dx[(n, c)] = direct - drstd * rstd.powi(3) * x[(n, c)] / x.cols as f64;
            dweight[(0, c)] += dout[(n, c)] * x[(n, c)] * rstd;
        }
    }
    (dx, dweight)
}

/// Turns query and key heads by their position's angle: element `i` of a head with `i + D/2`, as
/// in Hugging Face's Llama. `sign` -1 turns back, which is also the gradient.
fn rotate(qkv: &mut Matrix, dims: &Dims, seq_len: usize, sign: f64) {
    let half = dims.head_dim / 2;
    for n in 0..qkv.rows {
        for head in 0..dims.heads + dims.kv_heads {
            for i in 0..half {
                let frequency = dims.rope_base.powf(-(i as f64) / half as f64);
                let (sin, cos) = (sign * (n % seq_len) as f64 * frequency).sin_cos();
                let (a, b) = (head * dims.head_dim + i, head * dims.head_dim + i + half);
                let (x, y) = (qkv[(n, a)], qkv[(n, b)]);
                qkv[(n, a)] = x * cos - y * sin;
                qkv[(n, b)] = y * cos + x * sin;
            }
        }
    }
}

/// First columns of query head `h`, and of the key and value heads of its group, in a row of
/// `[H query heads | K key heads | K value heads]`.
fn columns(dims: &Dims, h: usize) -> [usize; 3] {
    let kv = h / (dims.heads / dims.kv_heads);
    [h, dims.heads + kv, dims.heads + dims.kv_heads + kv].map(|head| head * dims.head_dim)
}

/// What query head `h` of row `n` makes of every row of its sequence so far: (row, probability).
fn attends(qkv: &Matrix, dims: &Dims, seq_len: usize, n: usize, h: usize) -> Vec<(usize, f64)> {
    let [q, k, _] = columns(dims, h);
    let dot = |j: usize| (0..dims.head_dim).map(|i| qkv[(n, q + i)] * qkv[(j, k + i)]).sum::<f64>();
    let rows = n - n % seq_len..=n;
    softmax(&rows.clone().map(|j| dot(j) * scale(dims)).collect::<Vec<_>>())
        .into_iter()
        .zip(rows)
        .map(|(p, j)| (j, p))
        .collect()
}

fn scale(dims: &Dims) -> f64 {
    1.0 / (dims.head_dim as f64).sqrt()
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|s| (s - max).exp()).sum();
    scores.iter().map(|s| (s - max).exp() / sum).collect()
}

/// `(N, H·D)`: means of the values, weighed by probability.
fn attention(qkv: &Matrix, dims: &Dims, seq_len: usize) -> Matrix {
    let mut out = Matrix::zeros(qkv.rows, dims.heads * dims.head_dim);
    for n in 0..qkv.rows {
        for h in 0..dims.heads {
            let [q, _, v] = columns(dims, h);
            for (j, p) in attends(qkv, dims, seq_len, n, h) {
                for i in 0..dims.head_dim {
                    out[(n, q + i)] += p * qkv[(j, v + i)];
                }
            }
        }
    }
    out
}

fn attention_backward(dout: &Matrix, qkv: &Matrix, dims: &Dims, seq_len: usize) -> Matrix {
    let mut dqkv = Matrix::zeros(qkv.rows, qkv.cols);
    for n in 0..qkv.rows {
        for h in 0..dims.heads {
            let [q, k, v] = columns(dims, h);
            let attends = attends(qkv, dims, seq_len, n, h);
            let dp = |j: usize| -> f64 {
                (0..dims.head_dim).map(|i| dout[(n, q + i)] * qkv[(j, v + i)]).sum()
            };
            let mean: f64 = attends.iter().map(|&(j, p)| p * dp(j)).sum();
            for &(j, p) in &attends {
                let ds = p * (dp(j) - mean) * scale(dims);
                for i in 0..dims.head_dim {
                    dqkv[(n, q + i)] += ds * qkv[(j, k + i)];
                    dqkv[(j, k + i)] += ds * qkv[(n, q + i)];
                    dqkv[(j, v + i)] += p * dout[(n, q + i)];
                }
            }
        }
    }
    dqkv
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// `silu(gate) · up` of rows `[gate | up]`.
fn swiglu(x: &Matrix) -> Matrix {
    let f = x.cols / 2;
    let mut out = Matrix::zeros(x.rows, f);
    for n in 0..x.rows {
        for i in 0..f {
            let (gate, up) = (x[(n, i)], x[(n, f + i)]);
            out[(n, i)] = gate * sigmoid(gate) * up;
        }
    }
    out
}

fn swiglu_backward(dout: &Matrix, x: &Matrix) -> Matrix {
    let f = x.cols / 2;
    let mut dx = Matrix::zeros(x.rows, x.cols);
    for n in 0..x.rows {
        for i in 0..f {
            let (gate, up) = (x[(n, i)], x[(n, f + i)]);
            let s = sigmoid(gate);
            dx[(n, i)] = dout[(n, i)] * up * s * (1.0 + gate * (1.0 - s));
            dx[(n, f + i)] = dout[(n, i)] * gate * s;
        }
    }
    dx
}

/// The loss of every row, in nats.
pub fn losses(logits: &Matrix, targets: &[u32]) -> Vec<f64> {
    let rows = logits.data.chunks(logits.cols).zip(targets);
    rows.map(|(row, &target)| -softmax(row)[target as usize].ln()).collect()
}

/// The gradient of the mean loss.
fn cross_entropy_backward(logits: &Matrix, targets: &[u32]) -> Matrix {
    let mut dlogits = logits.clone();
    for (row, &target) in dlogits.data.chunks_mut(logits.cols).zip(targets) {
        row.copy_from_slice(&softmax(row));
        row[target as usize] -= 1.0;
        row.iter_mut().for_each(|x| *x /= targets.len() as f64);
    }
    dlogits
}
