//! What a rank holds of its stage's tensors, and what it owns.

use std::ops::Range;

use super::config::Zero;
use super::plan::parts_of;
use crate::collective::Parts;

/// How the data ranks of a stage divide every tensor, and which of them this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// What is divided.
    pub zero: Zero,
    /// Data ranks.
    pub ranks: usize,
    /// This one.
    pub rank: usize,
}

impl Division {
    /// The slices of a tensor of `len` elements.
    pub fn parts(&self, len: usize) -> Parts {
        parts_of(len, self.ranks)
    }

    /// The elements that this rank owns: it saves them, and adds their part to the norm.
    pub fn owned(&self, len: usize) -> Range<usize> {
        self.parts(len).of(self.rank)
    }

    /// The elements whose moments this rank holds, and which it therefore updates.
    pub fn updated(&self, len: usize) -> Range<usize> {
        if self.zero >= Zero::Moments { self.owned(len) } else { 0..len }
    }

    /// The elements whose gradient this rank holds between backward and update.
    pub fn gradient(&self, len: usize) -> Range<usize> {
        if self.zero >= Zero::Gradients { self.owned(len) } else { 0..len }
    }

    /// The elements whose weights this rank holds between steps.
    pub fn weights(&self, len: usize) -> Range<usize> {
        if self.zero >= Zero::Weights { self.owned(len) } else { 0..len }
    }

    /// Whether every rank holds all weights of its stage.
    pub fn has_whole_weights(&self) -> bool {
        self.zero < Zero::Weights || self.ranks == 1
    }
}
