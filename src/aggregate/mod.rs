//! Many updates to one, liars among them.
//!
//! Every peer aggregates the same set of updates by the same rule and gets the same bits: inner
//! products are exact integer sums of the updates' codes, the small systems that rules solve are
//! IEEE f64 in a fixed order, peers are sorted by identity first, and the combination is one chain
//! per element. So neither threads nor shards nor the order of arrival can show.

mod config;
mod error;

pub use config::Config;
pub use config::Rule;
pub use error::Error;

use rayon::prelude::*;

use crate::codec;
use crate::codec::Codes;
use crate::codec::Layout;
use crate::codec::Support;
use crate::codec::Update;
use crate::crypto::PeerId;

/// What a peer contributes.
pub trait Contribution: Sync {
    /// The codes of block `index` of the layout.
    fn block(&self, index: usize, codes: &mut Codes) -> Result<(), codec::Error>;
}

impl Contribution for Update<'_> {
    fn block(&self, index: usize, codes: &mut Codes) -> Result<(), codec::Error> {
        Update::block(self, index, codes)
    }
}

/// An update and who sent it.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// Who.
    pub peer: PeerId,
    /// What.
    pub update: &'a dyn Contribution,
}

/// What became of every update.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// By identity, ascending.
    pub peers: Vec<Share>,
}

/// What became of one update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share {
    /// Whose.
    pub peer: PeerId,
    /// Its Euclidean norm.
    pub norm: f64,
    /// Its factor in the aggregate, where the rule is a weighted sum.
    pub weight: Option<f64>,
}

/// A rule with what it remembers from round to round.
#[derive(Clone, Debug)]
pub struct Aggregator {
    config: Config,
}

impl Aggregator {
    /// The rule of `config`, which must be valid for `peers` peers at most.
    pub fn new(config: &Config) -> Result<Self, Error> {
        Ok(Self { config: config.clone() })
    }

    /// Overwrites `out` (of `layout`, flat) with the aggregate of `inputs`, one per peer, in any
    /// order. An update with a block that cannot be decoded fails the whole, named by its peer:
    /// callers leave such peers out and ask again.
    pub fn aggregate(
        &mut self,
        round: u64,
        layout: &Layout,
        inputs: &[Input<'_>],
        out: &mut [f32],
    ) -> Result<Outcome, Error> {
        let _ = round;
        let mut inputs = inputs.to_vec();
        inputs.sort_by_key(|input| input.peer);
        self.config.check(inputs.len())?;
        let weight = 1.0 / inputs.len() as f64;
        let mut parts = Vec::new();
        let mut rest = out;
        for (i, block) in layout.blocks().iter().enumerate() {
            let (mine, others) = rest.split_at_mut(block.len());
            parts.push((i, mine));
            rest = others;
        }
        parts.into_par_iter().try_for_each(|(i, out)| combine(&inputs, weight, i, out))?;
        let share =
            |input: &Input<'_>| Share { peer: input.peer, norm: f64::NAN, weight: Some(weight) };
        Ok(Outcome { peers: inputs.iter().map(share).collect() })
    }
}

fn combine(inputs: &[Input<'_>], weight: f64, index: usize, out: &mut [f32]) -> Result<(), Error> {
    let (mut codes, mut sums) = (Codes::default(), vec![0.0f64; out.len()]);
    for input in inputs {
        let decoded = input.update.block(index, &mut codes);
        decoded.map_err(|source| Error::Update { peer: input.peer, source })?;
        let mut first = 0;
        for chunk in codes.chunks() {
            let sums = &mut sums[first..first + chunk.elements];
            first += chunk.elements;
            let scale = weight * 2f64.powi(chunk.exponent);
            match chunk.support {
                Support::Dense => {
                    sums.iter_mut().zip(chunk.values).for_each(|(s, &v)| *s += scale * f64::from(v))
                }
                Support::Sparse(places) => places.iter().zip(chunk.values).for_each(|(&p, &v)| {
                    sums[usize::from(p)] += scale * f64::from(v);
                }),
            }
        }
    }
    out.iter_mut().zip(sums).for_each(|(x, s)| *x = s as f32);
    Ok(())
}
