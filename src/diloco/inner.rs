//! What the outer loop needs of an inner training.

use super::Cluster;
use super::Contributed;
use super::Fragment;
use super::fragments;
use crate::codec::Residual;
use crate::train;
use crate::train::Trainer;

/// A training whose weights can be read and overwritten between its steps.
///
/// [`Trainer`] is the real one; a simulation has others, so that the same [`Cluster`] can be driven
/// through thousands of rounds in a second.
pub trait Inner {
    /// The `count` fragments that its tensors are exchanged in.
    fn fragments(&self, count: usize) -> Vec<Fragment>;

    /// Steps done, those left out included.
    fn done(&self) -> u64;

    /// Counts `steps` steps that are not computed.
    fn skip(&mut self, steps: u64);

    /// Copies the tensors with these numbers, which ascend, to `out`, one after the other.
    fn read_tensors(&self, tensors: &[usize], out: &mut [f32]) -> Result<(), train::Error>;

    /// Overwrites the tensors with these numbers, which ascend, by `values`.
    fn write_tensors(&mut self, tensors: &[usize], values: &[f32]) -> Result<(), train::Error>;

    /// Forgets what its optimizer remembers beside the weights.
    fn forget_moments(&mut self) -> Result<(), train::Error>;
}

impl Inner for Trainer {
    fn fragments(&self, count: usize) -> Vec<Fragment> {
        fragments(&self.plan().dims, count)
    }

    fn done(&self) -> u64 {
        Self::done(self)
    }

    fn skip(&mut self, steps: u64) {
        Self::skip(self, steps);
    }

    fn read_tensors(&self, tensors: &[usize], out: &mut [f32]) -> Result<(), train::Error> {
        Self::read_tensors(self, tensors, out)
    }

    fn write_tensors(&mut self, tensors: &[usize], values: &[f32]) -> Result<(), train::Error> {
        Self::write_tensors(self, tensors, values)
    }

    fn forget_moments(&mut self) -> Result<(), train::Error> {
        Self::forget_moments(self)
    }
}

impl<I: Inner> Cluster<I> {
    /// The inner training, whatever it is.
    pub fn inner_mut(&mut self) -> &mut I {
        &mut self.trainer
    }

    /// Facts of the update of a fragment that is in flight.
    pub fn contributed(&self, fragment: usize) -> Option<Contributed> {
        self.parts[fragment].in_flight.as_ref().map(|sent| sent.contributed)
    }

    /// Forgets what updates have not said yet: a crash that loses it.
    pub fn forget_residuals(&mut self) {
        for part in &mut self.parts {
            part.residual = Residual::new(part.residual.values().len());
        }
    }
}
