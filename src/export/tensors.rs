//! Which Hugging Face tensors make up each weight: rows one after the other, nothing permuted.

use std::convert::Infallible;

use crate::model::BlockParams;
use crate::model::Dims;
use crate::model::Params;

/// A weight of the model and its tensors in a Hugging Face folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Its name in a checkpoint.
    pub name: String,
    /// Its extents.
    pub shape: Vec<usize>,
    /// The tensors whose elements, one after the other, are its elements.
    pub parts: Vec<Part>,
}

/// A tensor of a Hugging Face folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name there.
    pub name: String,
    /// Its extents.
    pub shape: Vec<usize>,
}

impl Part {
    /// Number of elements, where a machine can hold so many.
    pub fn elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
    }
}

/// The weights of a model in canonical order, with their tensors.
pub fn weights(dims: &Dims) -> Vec<Weight> {
    let shapes = Params::shapes(dims);
    let mut all = Vec::new();
    shapes.zip(names(dims)).map(|name, (shape, names)| {
        let rows = rows_of(dims, name, &shape, names.len());
        let part = |(name, rows): (String, usize)| {
            let shape = [&[rows], &shape[1..]].concat();
            Part { name, shape }
        };
        let parts = names.into_iter().zip(rows).map(part).collect();
        all.push(Weight { name: name.to_owned(), shape, parts });
    });
    all
}

/// Rows of each of the `parts` of weight `name`.
fn rows_of(dims: &Dims, name: &str, shape: &[usize], parts: usize) -> Vec<usize> {
    if name.ends_with(".qkv") {
        let kv = dims.kv_heads * dims.head_dim;
        return vec![dims.heads_width(), kv, kv];
    }
    vec![shape[0] / parts; parts]
}

/// The names of every weight's tensors.
fn names(dims: &Dims) -> Params<Vec<String>> {
    let block = |layer: usize| {
        let full = |_: &str, parts: &[&str]| {
            let full = parts.iter().map(|part| format!("model.layers.{layer}.{part}"));
            Ok::<Vec<String>, Infallible>(full.collect())
        };
        match BlockParams::<&'static [&'static str]>::HF_NAMES.try_map(full) {
            Ok(names) => names,
            Err(never) => match never {},
        }
    };
    Params {
        embedding: vec!["model.embed_tokens.weight".into()],
        blocks: (0..dims.layers).map(block).collect(),
        final_norm: vec!["model.norm.weight".into()],
        lm_head: (!dims.tied).then(|| vec![LM_HEAD.into()]),
    }
}

/// Name of a head that is not the embedding table.
pub(super) const LM_HEAD: &str = "lm_head.weight";

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Extents that share no factor where they may.
    pub const DIMS: Dims = Dims {
        width: 20,
        layers: 2,
        heads: 6,
        kv_heads: 2,
        head_dim: 4,
        ffn: 28,
        vocab: 37,
        tied: false,
        norm_eps: 1e-5,
        rope_base: 10_000.0,
    };

    #[test]
    fn parts_have_all_elements_of_their_weight() {
        for tied in [false, true] {
            let dims = Dims { tied, ..DIMS };
            let all = weights(&dims);
            for weight in &all {
                let parts: usize = weight.parts.iter().map(|p| p.elements().unwrap()).sum();
                assert_eq!(parts, weight.shape.iter().product::<usize>(), "{}", weight.name);
            }
            let tensors = all.iter().map(|w| w.parts.len()).sum::<usize>();
            assert_eq!(tensors, 2 * 9 + 2 + usize::from(!tied));
        }
        let qkv = &weights(&DIMS)[2];
        assert_eq!(qkv.name, "blocks.0.qkv");
        let shapes: Vec<_> = qkv.parts.iter().map(|p| &p.shape[..]).collect();
        assert_eq!(shapes, [[24, 20], [8, 20], [8, 20]]);
        assert_eq!(qkv.parts[1].name, "model.layers.0.self_attn.k_proj.weight");
    }
}
