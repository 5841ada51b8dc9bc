//! One transformer block: forward, and backward as its mirror image.

use super::At;
use super::ModelError;
use super::activations::BackwardScratch;
use super::activations::BlockActivations;
use super::params::BlockParams;
use super::pass::Pass;
use crate::ops::OpError;
use crate::ops::attention;
use crate::ops::matmul;
use crate::ops::matmul::Start;
use crate::ops::rmsnorm;
use crate::ops::rope;
use crate::ops::swiglu;
use crate::tensor::Tensor;

/// From the normalized input to the feed-forward's gate: all that backward needs of a block.
///
/// `input` is `(N, C)`, `acts.attn_norm` its norm; `mid` and the rest of `acts` are overwritten.
/// `branch` is scratch.
pub fn forward(
    pass: &Pass<'_>,
    layer: usize,
    weights: &BlockParams<Tensor>,
    input: &Tensor,
    acts: &mut BlockActivations,
    mid: &mut Tensor,
    branch: &mut Tensor,
) -> Result<(), ModelError> {
    let k = pass.kernels;
    let at = |part: &'static str| move || format!("block {layer}, {part}");
    // 1: queries, keys and values, rotated.
    product(pass, &mut acts.qkv, &acts.attn_norm, &weights.qkv).at(at("qkv"))?;
    pass.rotate(&mut acts.qkv, rope::Direction::Forward).at(at("rope"))?;
    // 2: attention.
    let args = attention::Forward {
        out: acts.heads.view_mut(),
        lse: acts.lse.view_mut(),
        qkv: acts.qkv.view(),
        extents: pass.extents(),
        precision: pass.precision,
    };
    attention::forward(k, args).at(at("attention"))?;
    // 3: heads to the residual stream's width.
    product(pass, branch, &acts.heads, &weights.attn_out).at(at("attn_out"))?;
    // 4: added to the residual stream, normalized.
    let args = rmsnorm::ForwardResidual {
        out: acts.ffn_norm.view_mut(),
        rstd: acts.ffn_rstd.view_mut(),
        sum: mid.view_mut(),
        residual: input.view(),
        inp: branch.view(),
        weight: weights.ffn_norm.view(),
        eps: pass.dims.norm_eps,
    };
    rmsnorm::forward_residual(k, args).at(at("ffn_norm"))?;
    // 5: the feed-forward, up to its product back.
    product(pass, &mut acts.ffn_in, &acts.ffn_norm, &weights.ffn_in).at(at("ffn_in"))?;
    let args = swiglu::Forward { out: acts.swiglu.view_mut(), inp: acts.ffn_in.view() };
    swiglu::forward(k, args).at(at("swiglu"))
}

/// The end of a block: `branch (N, C)` is what the feed-forward adds to the residual stream.
pub fn forward_end(
    pass: &Pass<'_>,
    layer: usize,
    weights: &BlockParams<Tensor>,
    acts: &BlockActivations,
    branch: &mut Tensor,
) -> Result<(), ModelError> {
    // 6
    product(pass, branch, &acts.swiglu, &weights.ffn_out).at(|| format!("block {layer}, ffn_out"))
}

/// Gradients of one block. `dstream (N, C)` is the gradient of the block's output on entry, of its
/// input on return. Gradients of matrices begin at `start`, those of norms are added to.
pub fn backward(
    pass: &Pass<'_>,
    layer: usize,
    weights: &BlockParams<Tensor>,
    (input, mid): (&Tensor, &Tensor),
    acts: &BlockActivations,
    (grads, start): (&mut BlockParams<Tensor>, Start),
    dstream: &mut Tensor,
    scratch: &mut BackwardScratch,
) -> Result<(), ModelError> {
    let k = pass.kernels;
    let at = |part: &'static str| move || format!("block {layer}, {part} backward");
    let BackwardScratch { dnorm, dqkv, dheads, dffn_in, dswiglu } = scratch;
    // 6
    back(pass, dswiglu, dstream, &weights.ffn_out, &acts.swiglu, (&mut grads.ffn_out, start))
        .at(at("ffn_out"))?;
    // 5
    let args = swiglu::Backward {
        dinp: dffn_in.view_mut(),
        dout: dswiglu.view(),
        inp: acts.ffn_in.view(),
    };
    swiglu::backward(k, args).at(at("swiglu"))?;
    back(pass, dnorm, dffn_in, &weights.ffn_in, &acts.ffn_norm, (&mut grads.ffn_in, start))
        .at(at("ffn_in"))?;
    // 4
    let args = rmsnorm::Backward {
        dinp: dstream.view_mut(),
        dweight: grads.ffn_norm.view_mut(),
        dout: dnorm.view(),
        inp: mid.view(),
        weight: weights.ffn_norm.view(),
        rstd: acts.ffn_rstd.view(),
    };
    rmsnorm::backward(k, args).at(at("ffn_norm"))?;
    // 3
    back(pass, dheads, dstream, &weights.attn_out, &acts.heads, (&mut grads.attn_out, start))
        .at(at("attn_out"))?;
    // 2
    let args = attention::Backward {
        dqkv: dqkv.view_mut(),
        dout: dheads.view(),
        out: acts.heads.view(),
        lse: acts.lse.view(),
        qkv: acts.qkv.view(),
        extents: pass.extents(),
        precision: pass.precision,
    };
    attention::backward(k, args).at(at("attention"))?;
    // 1
    pass.rotate(dqkv, rope::Direction::Inverse).at(at("rope"))?;
    back(pass, dnorm, dqkv, &weights.qkv, &acts.attn_norm, (&mut grads.qkv, start))
        .at(at("qkv"))?;
    // The norm that stands before the block.
    let args = rmsnorm::Backward {
        dinp: dstream.view_mut(),
        dweight: grads.attn_norm.view_mut(),
        dout: dnorm.view(),
        inp: input.view(),
        weight: weights.attn_norm.view(),
        rstd: acts.attn_rstd.view(),
    };
    rmsnorm::backward(k, args).at(at("attn_norm"))
}

/// `out = inp · weightᵀ`.
fn product(
    pass: &Pass<'_>,
    out: &mut Tensor,
    inp: &Tensor,
    weight: &Tensor,
) -> Result<(), OpError> {
    let args = matmul::Forward {
        out: out.view_mut(),
        inp: inp.view(),
        weight: weight.view(),
        precision: pass.precision,
    };
    matmul::forward(pass.kernels, args)
}

/// Gradients of [`product`]: `dinp` overwritten, `dweight` from its start.
fn back(
    pass: &Pass<'_>,
    dinp: &mut Tensor,
    dout: &Tensor,
    weight: &Tensor,
    inp: &Tensor,
    (dweight, start): (&mut Tensor, Start),
) -> Result<(), OpError> {
    let precision = pass.precision;
    let (dinp, weight) = (dinp.view_mut(), weight.view());
    let args = matmul::BackwardInput { dinp, dout: dout.view(), weight, precision };
    matmul::backward_input(pass.kernels, args)?;
    let (dweight, dout, inp) = (dweight.view_mut(), dout.view(), inp.view());
    let args = matmul::BackwardWeight { dweight, dout, inp, precision, start };
    matmul::backward_weight(pass.kernels, args)
}
