//! Where the first value that is not finite came from.
//!
//! Called once, when a step has gone wrong: every sequence of the batch runs forward again, alone
//! and with all activations kept, and they are searched in the order of their computation; then
//! the gradients.

use super::Error;
use super::step::micro_batches;
use crate::data::Batch;
use crate::model::Activations;
use crate::model::Gradients;
use crate::model::ModelError;
use crate::model::NeuroLlm;
use crate::model::Passes;
use crate::ops::Kernels;
use crate::ops::elementwise;
use crate::tensor::Tensor;

/// Operation and layer of the first value that is not finite.
pub fn locate(
    kernels: &dyn Kernels,
    model: &NeuroLlm,
    batch: &Batch,
    gradients: &Gradients,
) -> Result<String, Error> {
    for (name, weight) in model.params.as_ref().into_named() {
        if elementwise::first_non_finite(kernels, weight.view())?.is_some() {
            return Ok(format!("weight {name}"));
        }
    }
    let seq_len = model.positions();
    let mut acts = Activations::new(kernels, model.dims(), 1, seq_len, Passes::Stored)?;
    for (index, sequence) in micro_batches(batch, seq_len).enumerate() {
        let failed = |what: String| format!("{what} (sequence {index} of the batch)");
        match model.losses(kernels, sequence, &mut acts) {
            Ok(()) => {}
            // An operation that refuses such values has found them.
            Err(ModelError::Op { place, source }) => {
                return Ok(failed(format!("{place}: {source}")));
            }
            Err(other) => return Err(other.into()),
        }
        for (place, tensor) in in_order(&acts) {
            if elementwise::first_non_finite(kernels, tensor.view())?.is_some() {
                return Ok(failed(place));
            }
        }
    }
    // Backward runs from the head down, so the last in canonical order was first.
    for (name, gradient) in gradients.params.as_ref().into_named().into_iter().rev() {
        if elementwise::first_non_finite(kernels, gradient.view())?.is_some() {
            return Ok(format!("gradient of {name}"));
        }
    }
    Ok("global norm: every gradient is finite, the sum of their squares is not".into())
}

/// Every activation with the operation that made it, in the order of forward.
fn in_order(acts: &Activations) -> Vec<(String, &Tensor)> {
    let mut all = vec![("embedding".to_owned(), &acts.inputs[0])];
    for (layer, block) in acts.blocks.iter().enumerate() {
        let place = |op: &str, weight: &str| format!("{op} of layer {layer} ({weight})");
        if layer > 0 {
            all.push((place("residual add", "input"), &acts.inputs[layer]));
        }
        all.extend([
            (place("rmsnorm", "attn_norm"), &block.attn_norm),
            (place("matmul and rope", "qkv"), &block.qkv),
            (place("attention", "heads"), &block.heads),
            (place("matmul and residual add", "attn_out"), &acts.mids[layer]),
            (place("rmsnorm", "ffn_norm"), &block.ffn_norm),
            (place("matmul", "ffn_in"), &block.ffn_in),
            (place("swiglu", "swiglu"), &block.swiglu),
        ]);
    }
    all.extend([
        ("matmul and residual add of the last layer (ffn_out)".to_owned(), &acts.last),
        ("rmsnorm after the last layer (final_norm)".to_owned(), &acts.final_norm),
        ("cross_entropy (lm_head and loss)".to_owned(), &acts.losses),
    ]);
    all
}
