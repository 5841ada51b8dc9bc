//! A rule, from configuration to aggregate.

use std::ops::Range;

use super::Config;
use super::Contribution;
use super::Error;
use super::Gram;
use super::Input;
use super::Memory;
use super::Outcome;
use super::Share;
use super::combine::How;
use super::combine::Seen;
use super::combine::combine;
use super::config::Mix;
use super::config::Rule;
use super::coordinate::Coordinates;
use super::coordinate::Middle;
use super::points::Points;
use super::points::clip_factors;
use super::points::groups;
use super::products::Pairs;
use super::rules::centered_clipping;
use super::rules::geometric_median;
use super::rules::krum;
use super::rules::trust;
use super::space::Point;
use super::space::Space;
use super::space::mean_of;
use crate::codec::Layout;
use crate::crypto::PeerId;

/// A rule with what it remembers from round to round.
///
/// [`Self::aggregate`] does all at once. Ranks that share a model's blocks call [`Self::gram`] for
/// theirs, merge the matrices in any order, and all [`Self::solve`] alike; each then makes its part
/// by [`Self::combine`], and the parts are those of [`Self::aggregate`] to the bit.
#[derive(Clone, Debug)]
pub struct Aggregator {
    config: Config,
    memory: Memory,
}

/// What a rule decided, before any element of the aggregate exists.
#[derive(Clone, Debug)]
pub struct Solution {
    round: u64,
    faulty: usize,
    shares: Vec<Share>,
    how: How,
    scores: Vec<f64>,
}

impl Aggregator {
    /// The rule of `config`, with nothing to remember.
    pub fn new(config: &Config) -> Result<Self, Error> {
        match config.complaints() {
            none if none.is_empty() => {
                Ok(Self { config: config.clone(), memory: Memory::default() })
            }
            complaints => Err(Error::Config { complaints }),
        }
    }

    /// What is remembered, for checkpoints.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Goes on from what a checkpoint remembered.
    pub fn set_memory(&mut self, memory: Memory) {
        self.memory = memory;
    }

    /// Overwrites `out` (of `layout`, flat) with the aggregate of `inputs`, one per peer, in any
    /// order. An update with a block that cannot be decoded fails the whole, named by its peer (of
    /// several the first by identity): callers leave such peers out and ask again. After an
    /// error nothing is remembered, and `out` has no meaning.
    ///
    /// # Panics
    /// If `out` has not as many elements as `layout`.
    pub fn aggregate(
        &mut self,
        round: u64,
        layout: &Layout,
        inputs: &[Input<'_>],
        out: &mut [f32],
    ) -> Result<Outcome, Error> {
        assert_eq!(out.len(), layout.elements(), "elements of an aggregate");
        let blocks = 0..layout.blocks().len();
        let gram = self.gram(layout, inputs, blocks.clone())?;
        let solution = self.solve(round, layout, inputs, &gram)?;
        let outcome = self.combine(layout, inputs, &solution, blocks, out)?;
        self.remember(inputs, &solution, out)?;
        Ok(outcome)
    }

    /// The inner products that the rule needs, of some blocks of `inputs` by identity, and of the
    /// previous aggregate where it is looked at.
    pub fn gram(
        &self,
        layout: &Layout,
        inputs: &[Input<'_>],
        blocks: Range<usize>,
    ) -> Result<Gram, Error> {
        let inputs = ordered(inputs)?;
        self.config.check(inputs.len())?;
        let pairs = match self.config.rule.is_coordinate_wise() && self.config.mix != Mix::Nearest {
            true => Pairs::Own,
            false => Pairs::All,
        };
        let memory = (&self.memory, layout);
        Gram::of_blocks(layout, &self.vectors(&memory, &inputs), blocks, pairs)
            .map_err(|fault| fault.named(&inputs))
    }

    /// Decides how the aggregate is made, from the inner products of all blocks.
    ///
    /// # Panics
    /// If `gram` is not of these inputs.
    pub fn solve(
        &self,
        round: u64,
        layout: &Layout,
        inputs: &[Input<'_>],
        gram: &Gram,
    ) -> Result<Solution, Error> {
        let (inputs, config) = (ordered(inputs)?, &self.config);
        let n = inputs.len();
        config.check(n)?;
        assert_eq!(gram.vectors(), n + usize::from(self.looks_back(layout)), "vectors");
        let faulty = config.faulty_of(n);
        let norms: Vec<f64> = (0..n).map(|i| gram.norm(i)).collect();
        let factors = clip_factors(config.clip, &norms, faulty);
        let share = |(i, input): (usize, &Input<'_>)| Share {
            peer: input.peer,
            norm: norms[i],
            clip: factors[i],
            weight: None,
            distance: f64::NAN,
        };
        let shares = inputs.iter().enumerate().map(share).collect();
        let mut solution =
            Solution { round, faulty, shares, how: How::Sum(Vec::new()), scores: Vec::new() };
        let mut groups = groups(config, n, round);
        let middle = match config.rule {
            Rule::Median => Some(Middle::Median),
            Rule::TrimmedMean => Some(Middle::Trimmed),
            _ => None,
        };
        if let Some(middle) = middle {
            if config.mix == Mix::Nearest {
                let space = Space::new(gram, n);
                groups = Points::new(&space, &factors, &groups).mixed(&space, faulty).1;
            }
            let name = config.rule.name();
            solution.how =
                How::Coordinates(Coordinates::new(middle, name, faulty, groups, factors));
            return Ok(solution);
        }
        let space = Space::new(gram, n);
        let mut points = Points::new(&space, &factors, &groups);
        if config.mix == Mix::Nearest {
            points = points.mixed(&space, faulty).0;
        }
        let peers: Vec<PeerId> = inputs.iter().map(|input| input.peer).collect();
        let previous = self.looks_back(layout).then(|| space.vector(n));
        let point = self.rule(&space, &points, faulty, previous, &peers, &mut solution.scores);
        solution.weigh(&space, &point);
        Ok(solution)
    }

    /// The aggregate as a point.
    fn rule(
        &self,
        space: &Space,
        points: &Points,
        faulty: usize,
        previous: Option<Point>,
        peers: &[PeerId],
        scores: &mut Vec<f64>,
    ) -> Point {
        let (config, rows, n) = (&self.config, &points.rows, points.rows.len());
        let krum = |chosen| {
            let chosen = krum::select(&points.squared, n, n - faulty - 2, chosen);
            mean_of(rows, &chosen)
        };
        let median =
            || geometric_median::robust(space, points, faulty, config.smoothing, config.iterations);
        match config.rule {
            Rule::Krum => krum(1),
            Rule::MultiKrum => krum(config.chosen.unwrap_or(n - faulty)),
            Rule::GeometricMedian => median(),
            Rule::CenteredClipping => {
                let start = previous.unwrap_or_else(|| space.origin());
                centered_clipping::iterate(space, rows, start, config.tau, config.iterations)
            }
            Rule::TrustWeighted => {
                let old: Vec<_> = peers.iter().map(|peer| self.memory.score(peer)).collect();
                let known = previous.filter(|point| space.norm(point) > 0.0);
                let reference = known.unwrap_or_else(median);
                *scores = trust::update(space, rows, &reference, config.trust_decay, &old);
                trust::combine(space, rows, scores, config.trust_temperature)
            }
            Rule::Mean | Rule::Median | Rule::TrimmedMean => {
                mean_of(rows, &(0..n).collect::<Vec<_>>())
            }
        }
    }

    /// Overwrites `out`, the elements of `blocks`, with their part of the aggregate. Votes and the
    /// distances of coordinate-wise rules in the outcome are of these blocks only.
    ///
    /// # Panics
    /// If `out` has not as many elements as `blocks`.
    pub fn combine(
        &self,
        layout: &Layout,
        inputs: &[Input<'_>],
        solution: &Solution,
        blocks: Range<usize>,
        out: &mut [f32],
    ) -> Result<Outcome, Error> {
        let inputs = ordered(inputs)?;
        let memory = (&self.memory, layout);
        let vectors = self.vectors(&memory, &inputs);
        let seen = combine(layout, &vectors, &solution.how, blocks, out)
            .map_err(|fault| fault.named(&inputs))?;
        match seen.overflow {
            Some(element) => Err(Error::Overflow { element }),
            None => Ok(solution.outcome(seen)),
        }
    }

    /// Remembers the whole aggregate `out` of `inputs` for the next round.
    pub fn remember(
        &mut self,
        inputs: &[Input<'_>],
        solution: &Solution,
        out: &[f32],
    ) -> Result<(), Error> {
        if matches!(self.config.rule, Rule::CenteredClipping | Rule::TrustWeighted) {
            self.memory.remember(out);
        }
        let inputs = ordered(inputs)?;
        let peers = inputs.iter().map(|input| input.peer);
        self.memory.rate(solution.round, peers.zip(solution.scores.iter().copied()));
        Ok(())
    }

    /// Whether the previous aggregate is a vector among the updates. That of another layout is not.
    fn looks_back(&self, layout: &Layout) -> bool {
        let looks = matches!(self.config.rule, Rule::CenteredClipping | Rule::TrustWeighted);
        looks && layout.elements() > 0 && self.memory.previous().len() == layout.elements()
    }

    fn vectors<'a>(
        &self,
        memory: &'a (&Memory, &Layout),
        inputs: &[Input<'a>],
    ) -> Vec<&'a dyn Contribution> {
        let mut vectors: Vec<_> = inputs.iter().map(|input| input.update).collect();
        if self.looks_back(memory.1) {
            vectors.push(memory);
        }
        vectors
    }
}

impl Solution {
    /// Takes the coefficients of `point` as weights.
    fn weigh(&mut self, space: &Space, point: &Point) {
        for (i, share) in self.shares.iter_mut().enumerate() {
            share.weight = Some(point[i]);
            share.distance = space.distance(&space.vector(i), point);
        }
        let vectors = point.len() - 1;
        self.how = How::Sum(point[..vectors].to_vec());
    }

    fn outcome(&self, seen: Seen) -> Outcome {
        let mut peers = self.shares.clone();
        for (share, squared) in peers.iter_mut().zip(&seen.squared) {
            share.distance = squared.sqrt();
        }
        let is_counted = matches!(self.how, How::Coordinates(_));
        Outcome { peers, faulty: self.faulty, votes: is_counted.then_some(seen.votes) }
    }
}

/// By identity; each once, and not too many.
fn ordered<'a>(inputs: &[Input<'a>]) -> Result<Vec<Input<'a>>, Error> {
    let mut inputs = inputs.to_vec();
    inputs.sort_by_key(|input| input.peer);
    match inputs.windows(2).find(|pair| pair[0].peer == pair[1].peer) {
        Some(pair) => Err(Error::Duplicate { peer: pair[0].peer }),
        None => Ok(inputs),
    }
}
