//! The model's extents: presets, and what a run file may say instead.

use schemars::JsonSchema;
use serde::Deserialize;
use serde::Serialize;

/// `[model]`: a preset, extents by name, or a preset with some of them changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of a preset, listed below. Default: `"nano"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub preset: Option<String>,
    /// Model width (C), in features. Default: the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Transformer blocks (L). Default: the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<usize>,
    /// Query heads (H). Default: the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub heads: Option<usize>,
    /// Key/value heads (K), a divisor of `heads`. Default: the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<usize>,
    /// Width of a head (D), even. Default: the preset's, or `width / heads` where one of these is
    /// given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<usize>,
    /// Feed-forward width (F). Default: the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ffn: Option<usize>,
    /// Vocabulary (V), in tokens. With prepared data it must be at least the tokenizer's. Default:
    /// the preset's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vocab: Option<usize>,
    /// Whether the LM head is the embedding table, which saves V x C weights. Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tied: Option<bool>,
    /// Whether backward recomputes each block's activations instead of keeping them: less memory,
    /// about a third more time, the same bits. Default: `false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recompute: Option<bool>,
    /// Added to the mean square in RMSNorm. Default: `1e-5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub norm_eps: Option<f64>,
    /// Base of the rotary angles, above 1. Default: `10000`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rope_base: Option<f64>,
}

/// The model's extents, valid.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dims {
    /// Model width (C).
    pub width: usize,
    /// Blocks (L).
    pub layers: usize,
    /// Query heads (H).
    pub heads: usize,
    /// Key/value heads (K).
    pub kv_heads: usize,
    /// Head width (D).
    pub head_dim: usize,
    /// Feed-forward width (F).
    pub ffn: usize,
    /// Vocabulary (V).
    pub vocab: usize,
    /// Whether the LM head is the embedding table.
    pub tied: bool,
    /// Added to the mean square in RMSNorm.
    pub norm_eps: f32,
    /// Base of the rotary angles.
    pub rope_base: f64,
}

/// A named set of extents.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// Its name.
    pub name: &'static str,
    /// Width, layers, heads, kv_heads, head_dim, ffn, vocab.
    extents: [usize; 7],
}

/// All presets, smallest first; three query heads per key/value head.
pub const PRESETS: &[Preset] = &[
    Preset { name: "nano", extents: [192, 6, 6, 2, 32, 512, 4096] },
    Preset { name: "tiny", extents: [384, 6, 6, 2, 64, 1024, 8192] },
    Preset { name: "125m", extents: [768, 12, 12, 4, 64, 2048, 32000] },
    Preset { name: "350m", extents: [1152, 20, 18, 6, 64, 3072, 32000] },
    Preset { name: "1b", extents: [1920, 24, 15, 5, 128, 5120, 32000] },
    Preset { name: "3b", extents: [3072, 28, 24, 8, 128, 8192, 32000] },
    Preset { name: "7b", extents: [4224, 34, 33, 11, 128, 11264, 32000] },
    Preset { name: "13b", extents: [5376, 40, 42, 14, 128, 14336, 32000] },
    Preset { name: "70b", extents: [8448, 90, 66, 22, 128, 22528, 32000] },
];

impl Config {
    /// The extents this configuration means, or every complaint about it, each naming its key.
    pub fn dims(&self) -> Result<Dims, Vec<String>> {
        let name = self.preset.as_deref().unwrap_or(PRESETS[0].name);
        let Some(preset) = PRESETS.iter().find(|p| p.name == name) else {
            let names: Vec<_> = PRESETS.iter().map(|p| p.name).collect();
            return Err(vec![format!(
                "model.preset: no preset is called `{name}`; there are {}",
                names.join(", ")
            )]);
        };
        let [width, layers, heads, kv_heads, head_dim, ffn, vocab] = preset.extents;
        let reshaped = self.width.is_some() || self.heads.is_some();
        let (width, heads) = (self.width.unwrap_or(width), self.heads.unwrap_or(heads));
        let head_dim = match self.head_dim {
            Some(d) => d,
            None if reshaped && heads > 0 => width / heads,
            None => head_dim,
        };
        let dims = Dims {
            width,
            layers: self.layers.unwrap_or(layers),
            heads,
            kv_heads: self.kv_heads.unwrap_or(kv_heads),
            head_dim,
            ffn: self.ffn.unwrap_or(ffn),
            vocab: self.vocab.unwrap_or(vocab),
            tied: self.tied.unwrap_or(false),
            norm_eps: self.norm_eps.unwrap_or(1e-5) as f32,
            rope_base: self.rope_base.unwrap_or(10_000.0),
        };
        let mut complaints = dims.complaints();
        if self.head_dim.is_none() && reshaped && heads > 0 && !width.is_multiple_of(heads) {
            complaints.push(format!(
                "model.heads: {heads} heads do not divide the width {width}; change one, or give \
                 model.head_dim"
            ));
        }
        if complaints.is_empty() { Ok(dims) } else { Err(complaints) }
    }

    /// Whether backward recomputes activations.
    pub fn recompute(&self) -> bool {
        self.recompute.unwrap_or(false)
    }
}

impl Dims {
    /// Every rule these extents break; none for a valid model.
    pub fn complaints(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let extents = [
            ("width", self.width),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("ffn", self.ffn),
            ("vocab", self.vocab),
        ];
        for (key, value) in extents {
            if !(1..=MAX_EXTENT).contains(&value) {
                wrong.push(format!("model.{key}: {value} is not within 1..={MAX_EXTENT}"));
            }
        }
        if self.kv_heads > 0 && !self.heads.is_multiple_of(self.kv_heads) {
            wrong.push(format!(
                "model.kv_heads: {} does not divide the {} query heads",
                self.kv_heads, self.heads
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            wrong.push(format!(
                "model.head_dim: {} is odd; rotary positions turn pairs",
                self.head_dim
            ));
        }
        if !(self.norm_eps.is_finite() && self.norm_eps > 0.0) {
            wrong.push(format!("model.norm_eps: {} is not a positive number", self.norm_eps));
        }
        if !(self.rope_base.is_finite() && self.rope_base > 1.0) {
            wrong.push(format!("model.rope_base: {} is not a number above 1", self.rope_base));
        }
        wrong
    }

    /// Width of a packed row of queries, keys and values: `(H + 2K)·D`.
    pub fn qkv_width(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// Width of all query heads: `H·D`.
    pub fn heads_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Weights in matrix products, without the embedding (a look-up) and the norms.
    pub fn matmul_parameters(&self) -> u64 {
        let [c, f, v] = [self.width, self.ffn, self.vocab].map(|x| x as u64);
        let [qkv, heads, layers] =
            [self.qkv_width(), self.heads_width(), self.layers].map(|x| x as u64);
        layers * (qkv * c + c * heads + 3 * f * c) + v * c
    }

    /// All weights, exactly.
    pub fn parameters(&self) -> u64 {
        let [c, v, layers] = [self.width, self.vocab, self.layers].map(|x| x as u64);
        let embedding = if self.tied { 0 } else { v * c };
        self.matmul_parameters() + embedding + (2 * layers + 1) * c
    }

    /// FLOPs of training on one token of a sequence of `seq_len`, causal attention counted once:
    /// `6 · N_matmul + 6 · L · H · D · T` (the convention of llm.c).
    pub fn flops_per_token_strict(&self, seq_len: usize) -> u64 {
        let attention = 6 * (self.layers * self.heads_width() * seq_len) as u64;
        6 * self.matmul_parameters() + attention
    }

    /// The same with attention counted as if it were not causal (the convention of nanoGPT and
    /// torchtitan): `6 · N_matmul + 12 · L · H · D · T`.
    pub fn flops_per_token_full(&self, seq_len: usize) -> u64 {
        let attention = 12 * (self.layers * self.heads_width() * seq_len) as u64;
        6 * self.matmul_parameters() + attention
    }
}

/// Larger extents are typing errors; bounded, no product below overflows 64 bits.
const MAX_EXTENT: usize = 1 << 20;
