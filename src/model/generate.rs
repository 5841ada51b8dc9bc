//! Decoding with a cache of keys and values; the same bits as the whole forward pass.

use super::At;
use super::ModelError;
use super::head::to_host;
use super::neurollm::NeuroLlm;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::attention;
use crate::ops::elementwise;
use crate::ops::embedding;
use crate::ops::matmul;
use crate::ops::rmsnorm;
use crate::ops::rope;
use crate::ops::swiglu;
use crate::tensor::DType;
use crate::tensor::Tensor;
use crate::tensor::View;

/// One growing sequence.
#[derive(Debug)]
pub struct Session<'a> {
    kernels: &'a dyn Kernels,
    model: &'a NeuroLlm,
    /// `(P, 2·K·D)` per block: keys, then values.
    cache: Vec<Tensor>,
    position: usize,
}

impl<'a> Session<'a> {
    /// An empty sequence with room for `positions` tokens.
    pub fn new(
        kernels: &'a dyn Kernels,
        model: &'a NeuroLlm,
        positions: usize,
    ) -> Result<Self, ModelError> {
        if positions > model.positions() {
            return Err(ModelError::TooLong { tokens: positions, room: model.positions() });
        }
        let dims = model.dims();
        let shape = [positions, 2 * dims.kv_heads * dims.head_dim];
        let cache = (0..dims.layers)
            .map(|_| kernels.zeros(model.precision().activations(), &shape))
            .collect::<Result<_, _>>()
            .at(|| "key/value cache".into())?;
        Ok(Self { kernels, model, cache, position: 0 })
    }

    /// Tokens fed so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Appends `tokens` (at least one) and returns the logits `(V)` after the last of them.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ModelError> {
        let (n, room) = (tokens.len(), self.cache[0].shape()[0]);
        if self.position + n > room {
            return Err(ModelError::TooLong { tokens: self.position + n, room });
        }
        let (k, dims) = (self.kernels, *self.model.dims());
        let dtype = self.model.precision().activations();
        let zeros = |width: usize| k.zeros(dtype, &[n, width]).at(|| "decoding".into());
        let mut stream = zeros(dims.width)?;
        let mut tokens_on_device = k.zeros(DType::U32, &[n]).at(|| "tokens".into())?;
        elementwise::copy(k, tokens_on_device.view_mut(), View::of(tokens, &[n]))
            .at(|| "tokens".into())?;
        let args = embedding::Forward {
            out: stream.view_mut(),
            tokens: tokens_on_device.view(),
            table: self.model.params.embedding.view(),
        };
        embedding::forward(k, args).at(|| "embedding".into())?;
        for layer in 0..dims.layers {
            stream = self.block(layer, stream).at(|| format!("block {layer}, decoding"))?;
        }
        let mut normed = zeros(dims.width)?;
        let mut rstd = k.zeros(DType::F32, &[n]).at(|| "decoding".into())?;
        let args = rmsnorm::Forward {
            out: normed.view_mut(),
            rstd: rstd.view_mut(),
            inp: stream.view(),
            weight: self.model.params.final_norm.view(),
            eps: dims.norm_eps,
        };
        rmsnorm::forward(k, args).at(|| "final_norm".into())?;
        let mut logits = k.zeros(dtype, &[1, dims.vocab]).at(|| "logits".into())?;
        let args = matmul::Forward {
            out: logits.view_mut(),
            inp: normed.view().rows(n - 1..n),
            weight: self.model.head().view(),
            precision: self.model.precision(),
        };
        matmul::forward(k, args).at(|| "lm_head".into())?;
        self.position += n;
        to_host(k, logits.view()).at(|| "logits".into())
    }

    /// One block on the new rows of the residual stream.
    fn block(&mut self, layer: usize, stream: Tensor) -> Result<Tensor, OpError> {
        let (k, dims, precision) = (self.kernels, *self.model.dims(), self.model.precision());
        let weights = &self.model.params.blocks[layer];
        let n = stream.shape()[0];
        let zeros = |width: usize| k.zeros(precision.activations(), &[n, width]);
        let product = |inp: &Tensor, weight: &Tensor| -> Result<Tensor, OpError> {
            let mut out = zeros(weight.shape()[0])?;
            let (inp, weight) = (inp.view(), weight.view());
            let args = matmul::Forward { out: out.view_mut(), inp, weight, precision };
            matmul::forward(k, args)?;
            Ok(out)
        };
        let (mut normed, mut rstd) = (zeros(dims.width)?, k.zeros(DType::F32, &[n])?);
        let args = rmsnorm::Forward {
            out: normed.view_mut(),
            rstd: rstd.view_mut(),
            inp: stream.view(),
            weight: weights.attn_norm.view(),
            eps: dims.norm_eps,
        };
        rmsnorm::forward(k, args)?;
        let mut qkv = product(&normed, &weights.qkv)?;
        let (cos, sin) = self.model.rotary();
        let args = rope::Rotate {
            x: qkv.view_mut(),
            cos: cos.view(),
            sin: sin.view(),
            heads: dims.heads + dims.kv_heads,
            seq_len: n,
            first_position: self.position,
            direction: rope::Direction::Forward,
        };
        rope::rotate(k, args)?;
        let args = attention::Append {
            cache: self.cache[layer].view_mut().rows(self.position..self.position + n),
            qkv: qkv.view(),
        };
        attention::append(k, args)?;
        let mut heads = zeros(dims.heads_width())?;
        let args = attention::Decode {
            out: heads.view_mut(),
            qkv: qkv.view(),
            cache: self.cache[layer].view(),
            first_position: self.position,
            extents: attention::Extents {
                sequences: 1,
                seq_len: n,
                heads: dims.heads,
                kv_heads: dims.kv_heads,
                head_dim: dims.head_dim,
            },
            precision,
        };
        attention::decode(k, args)?;
        let branch = product(&heads, &weights.attn_out)?;
        let mut mid = zeros(dims.width)?;
        let args = rmsnorm::ForwardResidual {
            out: normed.view_mut(),
            rstd: rstd.view_mut(),
            sum: mid.view_mut(),
            residual: stream.view(),
            inp: branch.view(),
            weight: weights.ffn_norm.view(),
            eps: dims.norm_eps,
        };
        rmsnorm::forward_residual(k, args)?;
        let gates = product(&normed, &weights.ffn_in)?;
        let mut hidden = zeros(dims.ffn)?;
        swiglu::forward(k, swiglu::Forward { out: hidden.view_mut(), inp: gates.view() })?;
        let branch = product(&hidden, &weights.ffn_out)?;
        elementwise::add(k, mid.view_mut(), branch.view())?;
        Ok(mid)
    }
}
