//! Error feedback: what one update does not say is added to the next
//! (Karimireddy et al. 2019, arXiv:1901.09847; with decay: SparseLoCo, arXiv:2508.15706).

use rayon::prelude::*;

use super::About;
use super::Codec;
use super::Codes;
use super::Error;
use super::Layout;
use super::Update;
use super::encode;

/// What a cluster has computed but its updates have not said, flat.
#[derive(Clone, Debug, PartialEq)]
pub struct Residual {
    values: Vec<f32>,
}

impl Residual {
    /// Nothing left over, of `elements` elements.
    pub fn new(elements: usize) -> Self {
        Self { values: vec![0.0; elements] }
    }

    /// One that was saved.
    pub fn from_values(values: Vec<f32>) -> Self {
        Self { values }
    }

    /// The elements.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The bytes of the update `u = decay * residual + delta`, each product and each sum rounded
    /// once; the residual becomes `u - decoded`. On an error it is what it was.
    pub fn encode(
        &mut self,
        decay: f32,
        delta: &[f32],
        (codec, layout): (&dyn Codec, &Layout),
        about: &About,
    ) -> Result<Vec<u8>, Error> {
        self.check(decay, delta)?;
        self.fold(decay, delta);
        encode(codec, layout, about, &mut self.values)
    }

    /// Keeps `delta` for the next update, instead of an update: `residual = decay * residual +
    /// delta`. On an error it is what it was.
    pub fn keep(&mut self, decay: f32, delta: &[f32]) -> Result<(), Error> {
        self.check(decay, delta)?;
        self.fold(decay, delta);
        Ok(())
    }

    /// Takes back an update of `layout` that did not count: `residual = residual + decoded`.
    pub fn take_back(&mut self, update: &Update<'_>, layout: &Layout) -> Result<(), Error> {
        let mut decoded = vec![0.0; layout.elements()];
        let mut codes = Codes::default();
        for (i, block) in layout.blocks().iter().enumerate() {
            update.block(i, &mut codes)?;
            codes.write_to(&mut decoded[block.clone()]);
        }
        self.check(1.0, &decoded)?;
        self.fold(1.0, &decoded);
        Ok(())
    }

    fn check(&self, decay: f32, delta: &[f32]) -> Result<(), Error> {
        assert_eq!(self.values.len(), delta.len(), "elements of an update");
        let pairs = self.values.par_iter().zip(delta);
        match pairs.position_first(|(e, d)| !(decay * e + d).is_finite()) {
            Some(element) => Err(Error::NonFinite { element }),
            None => Ok(()),
        }
    }

    fn fold(&mut self, decay: f32, delta: &[f32]) {
        self.values.par_iter_mut().zip(delta).for_each(|(e, d)| *e = decay * *e + d);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::Config;
    use crate::codec::Kind;
    use crate::crypto::Hash;

    const ABOUT: About = About { job: Hash([1; 32]), round: 0, fragment: 0 };

    #[test]
    fn what_is_not_said_is_kept_and_a_failure_changes_nothing() {
        let layout = Layout::new([("a", 3), ("b", 2)]);
        let codec = Config { kind: Kind::F32, ..Config::default() }.codec().expect("a codec");
        let mut residual = Residual::from_values(vec![1.0, 2.0, -4.0, 0.0, 1e-30]);
        let before = residual.clone();
        let with = (codec.as_ref(), &layout);
        for bad in [f32::NAN, f32::INFINITY] {
            let refused = residual.encode(0.5, &[0.0, bad, 0.0, 0.0, 0.0], with, &ABOUT);
            assert_eq!(refused, Err(Error::NonFinite { element: 1 }));
            assert_eq!(residual, before);
        }
        // Small beside the largest of its chunk: 2^-23 of the grid's unit cannot be said.
        let delta = [0.0, 0.0, 0.0, 1.0, 0.0];
        let bytes = residual.encode(0.5, &delta, with, &ABOUT).expect("finite");
        assert_eq!(residual.values(), [0.0, 0.0, 0.0, 0.0, 0.5e-30]);
        let update = Update::parse(&bytes, codec.as_ref(), &layout, &ABOUT).expect("an update");
        residual.take_back(&update, &layout).expect("decodes");
        assert_eq!(residual.values(), [0.5, 1.0, -2.0, 1.0, 0.5e-30]);
        residual.keep(2.0, &[1.0; 5]).expect("finite");
        assert_eq!(residual.values(), [2.0, 3.0, -3.0, 3.0, 1.0]);
    }

    /// The sum of what `rounds` updates of `delta` said, and the residual.
    fn send(kind: Kind, decay: f32, delta: &[f32], rounds: usize) -> (Vec<f64>, Residual) {
        let layout = Layout::new([("w", delta.len())]);
        let codec = Config { kind, ..Config::default() }.codec().expect("a codec");
        let mut residual = Residual::new(delta.len());
        let (mut codes, mut said) = (Codes::default(), vec![f32::NAN; delta.len()]);
        let mut sums = vec![0.0; delta.len()];
        for _ in 0..rounds {
            let bytes = residual.encode(decay, delta, (codec.as_ref(), &layout), &ABOUT);
            let bytes = bytes.expect("finite");
            let update = Update::parse(&bytes, codec.as_ref(), &layout, &ABOUT).expect("ours");
            update.block(0, &mut codes).expect("a block");
            codes.write_to(&mut said);
            sums.iter_mut().zip(&said).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        (sums, residual)
    }

    fn delta() -> Vec<f32> {
        (0..5000).map(|i| ((i * 7919 % 5003) as f32 - 2500.0) / 2500.0).collect()
    }

    #[test]
    fn nothing_is_lost() {
        let delta = delta();
        for (kind, rounds) in
            [(Kind::TopK, 400), (Kind::E3m0, 20), (Kind::Int8, 5), (Kind::Sign, 50)]
        {
            let (sums, residual) = send(kind, 1.0, &delta, rounds);
            for ((sum, left), d) in sums.iter().zip(residual.values()).zip(&delta) {
                let all = f64::from(*d) * rounds as f64;
                // Sums of `rounds` roundings of what is at most some hundred.
                assert!(
                    (sum + f64::from(*left) - all).abs() < 0.02,
                    "{kind:?}: {sum} {left} {all}"
                );
            }
            let left = residual.values().iter().map(|x| x.abs()).fold(0.0, f32::max);
            // The largest wait for their turn: one of 64 a round, or for their next rounding.
            assert!(left < 130.0, "{kind:?}: {left} left of {rounds} rounds");
        }
    }

    #[test]
    fn what_decays_is_forgotten() {
        let delta = delta();
        let (_, kept) = send(Kind::TopK, 1.0, &delta, 60);
        let (_, decayed) = send(Kind::TopK, 0.5, &delta, 60);
        let (_, forgotten) = send(Kind::TopK, 0.0, &delta, 60);
        // Of a geometric series no more than twice what enters it, of none only that.
        let most =
            |residual: &Residual| residual.values().iter().map(|x| x.abs()).fold(0.0, f32::max);
        assert!(most(&forgotten) <= 1.0);
        assert!(most(&decayed) <= 2.0 && most(&decayed) > 1.0);
        assert!(most(&kept) > 10.0);
    }
}
