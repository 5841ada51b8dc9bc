//! A keyed permutation of `[0, n)`, any position in O(1), both ways, with no table.
//!
//! A Feistel network in radix `a = ceil(sqrt(n))` with cycle walking (Black and Rogaway 2002,
//! "Ciphers with arbitrary finite domains", methods 2 and 3). It acts on `x = l * a + r` below
//! `a * a`. Round `k = 0..8`, with `w` the 64 bits at (seed, `Purpose::Permutation`, step = epoch,
//! index = `k << 32 | r`):
//!
//! ```text
//! (l, r) <- (r, (l + (w * a >> 64)) mod a)
//! ```
//!
//! A result of `n` or more goes through the network again, until it is below `n`. Less than
//! `2 sqrt(n) + 1` of the `a * a` values are, so one pass in `1 + 2 / sqrt(n)` is the mean.

use crate::rng::Address;
use crate::rng::Purpose;

/// One order of `[0, n)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutation {
    n: u64,
    radix: u64,
    seed: u64,
    epoch: u64,
}

impl Permutation {
    /// The most elements a permutation can have.
    pub const MAX_LEN: u64 = 1 << 62;

    /// The order of `[0, n)` in `epoch` under `seed`. `n` above [`Self::MAX_LEN`] counts as that;
    /// of `epoch` the low 48 bits count.
    pub fn new(n: u64, seed: u64, epoch: u64) -> Self {
        let n = n.min(Self::MAX_LEN);
        // The integer root rounds down, and n is no more than 2^62: no overflow.
        let root = n.isqrt();
        let radix = if root * root < n { root + 1 } else { root };
        Self { n, radix, seed, epoch }
    }

    /// The number of elements.
    pub fn len(&self) -> u64 {
        self.n
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// Which element stands at `position`; none if `position >= n`.
    pub fn at(&self, position: u64) -> Option<u64> {
        self.walk(position, Self::forward)
    }

    /// At which position `element` stands: the inverse of [`Self::at`].
    pub fn position_of(&self, element: u64) -> Option<u64> {
        self.walk(element, Self::backward)
    }

    /// Applies `pass` until the value is in range. The network permutes `[0, a * a)`, so the walk
    /// is along a cycle that holds the start, and ends.
    fn walk(&self, start: u64, pass: fn(&Self, u64) -> u64) -> Option<u64> {
        if start >= self.n {
            return None;
        }
        let mut x = pass(self, start);
        while x >= self.n {
            x = pass(self, x);
        }
        Some(x)
    }

    fn forward(&self, x: u64) -> u64 {
        let (mut l, mut r) = (x / self.radix, x % self.radix);
        for round in 0..ROUNDS {
            (l, r) = (r, (l + self.round(round, r)) % self.radix);
        }
        l * self.radix + r
    }

    fn backward(&self, x: u64) -> u64 {
        let (mut l, mut r) = (x / self.radix, x % self.radix);
        for round in (0..ROUNDS).rev() {
            (l, r) = ((r + self.radix - self.round(round, l)) % self.radix, l);
        }
        l * self.radix + r
    }

    /// The round function: a number below the radix.
    fn round(&self, round: u64, half: u64) -> u64 {
        let index = round << 32 | half;
        let address =
            Address { seed: self.seed, purpose: Purpose::Permutation, step: self.epoch, index };
        ((u128::from(address.bits64()) * u128::from(self.radix)) >> 64) as u64
    }
}

/// Four make a pseudorandom permutation of large domains; eight also mix small ones.
const ROUNDS: u64 = 8;
