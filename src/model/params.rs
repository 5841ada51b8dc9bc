//! What the model's weights are: one line each gives field, shape and Hugging Face names.
//!
//! Weights, gradients, moments and names are all [`Params<T>`] for some `T`, so a new weight is one
//! new line here. Canonical order: embedding, blocks ascending, final norm, LM head.

use std::ops::Range;

use super::config::Dims;
use crate::ops::Kernels;
use crate::ops::OpError;
use crate::ops::Precision;
use crate::ops::elementwise;
use crate::rng;
use crate::tensor::DType;
use crate::tensor::Tensor;

macro_rules! weights {
    ($(#[$doc:meta])* $name:ident($m:ident) {
        $($(#[$field_doc:meta])* $field:ident: [$($extent:expr),*] $hf:expr,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $name<T> { $($(#[$field_doc])* pub $field: T,)* }

        impl<T> $name<T> {
            /// Applies `f` to every value and its name, in canonical order; stops at an error.
            pub fn try_map<U, E>(
                self,
                mut f: impl FnMut(&'static str, T) -> Result<U, E>,
            ) -> Result<$name<U>, E> {
                Ok($name { $($field: f(stringify!($field), self.$field)?,)* })
            }
            /// Borrows every value.
            pub fn as_ref(&self) -> $name<&T> {
                $name { $($field: &self.$field,)* }
            }
            /// Borrows every value mutably.
            pub fn as_mut(&mut self) -> $name<&mut T> {
                $name { $($field: &mut self.$field,)* }
            }
            /// Pairs every value with its counterpart.
            pub fn zip<U>(self, other: $name<U>) -> $name<(T, U)> {
                $name { $($field: (self.$field, other.$field),)* }
            }
        }

        impl $name<Vec<usize>> {
            /// The shape of every weight.
            pub fn shapes($m: &Dims) -> Self {
                Self { $($field: vec![$($extent),*],)* }
            }
        }

        impl $name<&'static [&'static str]> {
            /// The names in a Hugging Face checkpoint, after `model.layers.N.`; several where
            /// such a checkpoint keeps the rows of one weight apart.
            pub const HF_NAMES: Self = Self { $($field: &$hf,)* };
        }
    };
}

weights! {
    /// One value per weight of a transformer block.
    BlockParams(m) {
        /// `(C)`: scale of the norm before attention.
        attn_norm: [m.width]                  ["input_layernorm.weight"],
        /// `((H + 2K)·D, C)`: queries, keys, values.
        qkv: [m.qkv_width(), m.width]         ["self_attn.q_proj.weight",
                                               "self_attn.k_proj.weight",
                                               "self_attn.v_proj.weight"],
        /// `(C, H·D)`: heads back to the residual stream.
        attn_out: [m.width, m.heads_width()]  ["self_attn.o_proj.weight"],
        /// `(C)`: scale of the norm before the feed-forward.
        ffn_norm: [m.width]                   ["post_attention_layernorm.weight"],
        /// `(2F, C)`: gate, then up.
        ffn_in: [2 * m.ffn, m.width]          ["mlp.gate_proj.weight", "mlp.up_proj.weight"],
        /// `(C, F)`: back to the residual stream.
        ffn_out: [m.width, m.ffn]             ["mlp.down_proj.weight"],
    }
}

/// One value per weight of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Params<T> {
    /// `(V, C)`: a row per token.
    pub embedding: T,
    /// The blocks, first to last.
    pub blocks: Vec<BlockParams<T>>,
    /// `(C)`: scale of the norm before the LM head.
    pub final_norm: T,
    /// `(V, C)`; none where the embedding serves.
    pub lm_head: Option<T>,
}

impl<T> Params<T> {
    /// Applies `f` to every name and value in canonical order; stops at the first error.
    pub fn try_map<U, E>(self, mut f: impl FnMut(&str, T) -> Result<U, E>) -> Result<Params<U>, E> {
        let embedding = f("embedding", self.embedding)?;
        let mut blocks = Vec::with_capacity(self.blocks.len());
        for (layer, block) in self.blocks.into_iter().enumerate() {
            blocks.push(block.try_map(|name, value| f(&format!("blocks.{layer}.{name}"), value))?);
        }
        let final_norm = f("final_norm", self.final_norm)?;
        let lm_head = self.lm_head.map(|value| f("lm_head", value)).transpose()?;
        Ok(Params { embedding, blocks, final_norm, lm_head })
    }

    /// Applies `f` to every name and value in canonical order.
    pub fn map<U>(self, mut f: impl FnMut(&str, T) -> U) -> Params<U> {
        let mapped = self.try_map(|name, value| Ok::<_, std::convert::Infallible>(f(name, value)));
        match mapped {
            Ok(params) => params,
            Err(never) => match never {},
        }
    }

    /// Borrows every value.
    pub fn as_ref(&self) -> Params<&T> {
        Params {
            embedding: &self.embedding,
            blocks: self.blocks.iter().map(BlockParams::as_ref).collect(),
            final_norm: &self.final_norm,
            lm_head: self.lm_head.as_ref(),
        }
    }

    /// Borrows every value mutably.
    pub fn as_mut(&mut self) -> Params<&mut T> {
        Params {
            embedding: &mut self.embedding,
            blocks: self.blocks.iter_mut().map(BlockParams::as_mut).collect(),
            final_norm: &mut self.final_norm,
            lm_head: self.lm_head.as_mut(),
        }
    }

    /// Pairs every value with its counterpart in a model of the same shape.
    pub fn zip<U>(self, other: Params<U>) -> Params<(T, U)> {
        Params {
            embedding: (self.embedding, other.embedding),
            blocks: self.blocks.into_iter().zip(other.blocks).map(|(a, b)| a.zip(b)).collect(),
            final_norm: (self.final_norm, other.final_norm),
            lm_head: self.lm_head.zip(other.lm_head),
        }
    }

    /// Names and values in canonical order.
    pub fn into_named(self) -> Vec<(String, T)> {
        let mut named = Vec::new();
        self.map(|name, value| named.push((name.to_owned(), value)));
        named
    }
}

impl Params<Vec<usize>> {
    /// The shape of every weight.
    pub fn shapes(dims: &Dims) -> Self {
        Self {
            embedding: vec![dims.vocab, dims.width],
            blocks: (0..dims.layers).map(|_| BlockParams::shapes(dims)).collect(),
            final_norm: vec![dims.width],
            lm_head: (!dims.tied).then(|| vec![dims.vocab, dims.width]),
        }
    }
}

impl Params<Tensor> {
    /// Zeros.
    pub fn zeros(kernels: &dyn Kernels, dims: &Dims) -> Result<Self, OpError> {
        Params::shapes(dims).try_map(|_, shape| kernels.zeros(DType::F32, &shape))
    }

    /// Random weights, as [`initial`] gives them.
    pub fn random(kernels: &dyn Kernels, dims: &Dims, seed: u64) -> Result<Self, OpError> {
        Params::shapes(dims).try_map(|name, shape| {
            let count = shape.iter().product();
            initial(kernels, dims, seed, name, 0..count, &shape)
        })
    }
}

/// Elements `range` of the initial weight called `name`, as a tensor of `shape`.
///
/// Norms are ones; all else is normal with deviation 0.02, in the two projections back to the
/// residual stream 1/sqrt(2L) of that. Tensor `i` in canonical order takes the normals of step `i`
/// of the seed's `Init` stream, so any rank can make any part.
pub fn initial(
    kernels: &dyn Kernels,
    dims: &Dims,
    seed: u64,
    name: &str,
    range: Range<usize>,
    shape: &[usize],
) -> Result<Tensor, OpError> {
    let mut host = Tensor::zeros(DType::F32, shape);
    let values = host.host_mut::<f32>();
    if is_norm(name) {
        values.fill(1.0);
    } else {
        // A head that is a copy of the embedding table has no name of its own.
        let names = Params::shapes(dims).into_named();
        let step = names.iter().position(|(known, _)| known == name).unwrap_or(0) as u64;
        let (purpose, index) = (rng::Purpose::Init, range.start as u64);
        let back = name.ends_with("attn_out") || name.ends_with("ffn_out");
        let std = if back { INIT_STD / (2.0 * dims.layers as f64).sqrt() } else { INIT_STD };
        rng::fill_normal(rng::Address { seed, purpose, step, index }, std, values);
    }
    let mut tensor = kernels.zeros(DType::F32, shape)?;
    elementwise::copy(kernels, tensor.view_mut(), host.view())?;
    Ok(tensor)
}

/// The type in which the weight called `name` enters passes of `precision`.
pub fn entering_dtype(precision: Precision, name: &str) -> DType {
    if is_norm(name) { DType::F32 } else { precision.activations() }
}

/// The f32 weight called `name` as passes of `precision` read it.
pub fn entering(
    kernels: &dyn Kernels,
    precision: Precision,
    name: &str,
    weight: Tensor,
) -> Result<Tensor, OpError> {
    let dtype = entering_dtype(precision, name);
    if weight.dtype() == dtype {
        return Ok(weight);
    }
    let mut rounded = kernels.zeros(dtype, &weight.shape())?;
    elementwise::round(kernels, rounded.view_mut(), weight.view())?;
    Ok(rounded)
}

/// Whether the weight called `name` is the scale of a norm (which does not decay).
pub fn is_norm(name: &str) -> bool {
    name.ends_with("_norm")
}

/// Deviation of initial weights, as in GPT-2 and its heirs.
const INIT_STD: f64 = 0.02;
