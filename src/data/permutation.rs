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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_element_stands_once() {
        for n in (1..70).chain([255, 256, 257, 1000, 4096, 10_007]) {
            for epoch in 0..3 {
                let permutation = Permutation::new(n, 9, epoch);
                let mut seen = vec![false; n as usize];
                for position in 0..n {
                    let element = permutation.at(position).unwrap();
                    assert!(!std::mem::replace(&mut seen[element as usize], true));
                    assert_eq!(permutation.position_of(element), Some(position));
                }
                assert_eq!(permutation.at(n), None);
                assert_eq!(permutation.position_of(u64::MAX), None);
            }
        }
        assert_eq!(Permutation::new(0, 1, 1).at(0), None);
    }

    /// Where element 0 of few stands, over many epochs: each place about equally often.
    #[test]
    fn small_orders_are_even() {
        for n in 2..9 {
            let epochs = 8000;
            let mut counts = vec![0; n as usize];
            for epoch in 0..epochs {
                counts[Permutation::new(n, 4, epoch).position_of(0).unwrap() as usize] += 1;
            }
            let mean = epochs as f64 / n as f64;
            let chi: f64 = counts.iter().map(|&c| (f64::from(c) - mean).powi(2) / mean).sum();
            // Seven degrees of freedom pass 29.9 once in 10,000.
            assert!(chi < 29.9, "{n}: {counts:?}");
        }
    }

    /// Neighbours in the corpus do not stay neighbours.
    #[test]
    fn large_orders_look_random() {
        let n = 1 << 20;
        let permutation = Permutation::new(n, 1, 0);
        let near = (0..100_000u64)
            .filter(|&p| {
                permutation.at(p).unwrap().abs_diff(permutation.at(p + 1).unwrap()) < n / 1000
            })
            .count();
        // Expected: 100,000 times 2/1000, with a deviation of 14.
        assert!((120..280).contains(&near), "{near}");
    }

    /// Golden, and what a program in Python makes of the definition above: the order of the data
    /// is part of what a run is.
    #[test]
    fn orders_are_fixed() {
        let at = |n, seed, epoch| {
            let permutation = Permutation::new(n, seed, epoch);
            [0, 1, 2, n - 1].map(|p| permutation.at(p).unwrap())
        };
        assert_eq!(at(10, 1, 0), [3, 6, 2, 0]);
        assert_eq!(at(1_000_003, 1, 0), [476_076, 693_167, 733_694, 6_836]);
        assert_eq!(
            at(1 << 40, 7, 3),
            [47_680_437_430, 626_872_431_538, 716_967_406_056, 636_388_905_403]
        );
        assert_eq!(
            at(Permutation::MAX_LEN, u64::MAX, 1),
            [
                409_928_748_459_714_901,
                3_773_679_632_932_275_261,
                633_320_257_241_418_681,
                146_806_100_672_264_538
            ]
        );
    }
}
