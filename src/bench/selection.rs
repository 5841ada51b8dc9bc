//! Which cases: operations, profiles, and the shapes of models or such as were asked for.

use super::Case;
use super::{adamw, attention, cross_entropy, digest, elementwise, embedding};
use super::{matmul, norm, rmsnorm, rope, swiglu};
use crate::model::Dims;
use crate::ops::Precision;
use crate::ops::TensorCore;

/// Which cases are wanted.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Operations by name; empty: all.
    pub ops: Vec<String>,
    /// Profiles; row operations skip `bf16`, where they are those of `f32`.
    pub precisions: Vec<Precision>,
    /// Models, by name, whose shapes are taken.
    pub models: Vec<(String, Dims)>,
    /// Tokens in a call (N).
    pub tokens: usize,
    /// Tokens in a sequence (T), where they matter.
    pub seq_len: usize,
    /// Shapes instead of the models'. An operation takes those with as many extents as it has.
    pub shapes: Vec<Vec<usize>>,
}

/// An operation: its name, the extents of its `--shape`, and its cases.
type Operation = (&'static str, &'static str, fn(&Selection) -> Vec<Case>);

/// Every operation, what its shape consists of, and its cases.
pub const OPERATIONS: [Operation; 11] = [
    ("embedding", "NxCxV", embedding::cases),
    ("rmsnorm", "NxC", rmsnorm::cases),
    ("matmul", "NxIxO", matmul::cases),
    ("rope", "BxTxHxKxD", rope::cases),
    ("attention", "BxTxHxKxD", attention::cases),
    ("swiglu", "NxF", swiglu::cases),
    ("cross_entropy", "NxV", cross_entropy::cases),
    ("adamw", "N", adamw::cases),
    ("norm", "N", norm::cases),
    ("elementwise", "N", elementwise::cases),
    ("digest", "N", digest::cases),
];

impl Selection {
    /// Awkward shapes: none like a tile, a warp or another extent, tails everywhere; all small.
    pub fn ragged(precisions: Vec<Precision>) -> Self {
        let shapes: [&[usize]; 13] = [
            &[1],
            &[4097],
            &[70_001],
            &[1, 1],
            &[7, 40],
            &[65, 1027],
            &[131, 520],
            &[1, 1, 1],
            &[67, 136, 200],
            &[131, 51, 149],
            &[2, 70, 6, 2, 32],
            &[1, 197, 3, 1, 64],
            &[1, 140, 2, 1, 128],
        ];
        let shapes = shapes.map(<[usize]>::to_vec).into();
        Self { precisions, shapes, tokens: 1, seq_len: 1, ..Self::default() }
    }

    /// All chosen cases; or which operation is not known, or that nothing is left.
    pub fn cases(&self) -> Result<Vec<Case>, String> {
        let names =
            || OPERATIONS.map(|(name, extents, _)| format!("{name} ({extents})")).join(", ");
        for op in &self.ops {
            if !OPERATIONS.iter().any(|(name, ..)| name == op) {
                return Err(format!("no operation is called `{op}`; there are {}", names()));
            }
        }
        let chosen = |name: &str| self.ops.is_empty() || self.ops.iter().any(|op| op == name);
        let operations = OPERATIONS.iter().filter(|(name, ..)| chosen(name));
        let cases: Vec<Case> = operations.flat_map(|(.., cases)| cases(self)).collect();
        match cases.is_empty() {
            true => Err(format!("no operation has such a shape; there are {}", names())),
            false => Ok(cases),
        }
    }

    /// The places and extents of an operation: those asked for, or what `of_model` says.
    pub(super) fn extents<const N: usize>(
        &self,
        of_model: impl Fn(&Dims) -> Vec<(&'static str, [usize; N])>,
    ) -> Vec<(String, [usize; N])> {
        if !self.shapes.is_empty() {
            let fit = |shape: &Vec<usize>| <[usize; N]>::try_from(&shape[..]).ok();
            return self.shapes.iter().filter_map(fit).map(|e| (String::new(), e)).collect();
        }
        let mut all = Vec::new();
        for (model, dims) in &self.models {
            for (place, extents) in of_model(dims) {
                let place = format!("{model} {place}");
                all.push((place.trim_end().to_owned(), extents));
            }
        }
        all
    }

    /// Sequences and their length.
    pub(super) fn sequences(&self) -> [usize; 2] {
        let seq_len = self.seq_len.clamp(1, self.tokens.max(1));
        [(self.tokens / seq_len).max(1), seq_len]
    }

    /// The profiles in which row operations differ.
    pub(super) fn of_rows(&self) -> Vec<Precision> {
        let mut found: Vec<Precision> = Vec::new();
        for &precision in &self.precisions {
            // By type of activations; tensor cores of either kind are alike to them.
            let precision = match precision {
                Precision::Bf16 => Precision::F32,
                Precision::Tc(_) => Precision::Tc(TensorCore::default()),
                Precision::F32 => precision,
            };
            if !found.contains(&precision) {
                found.push(precision);
            }
        }
        found
    }
}
