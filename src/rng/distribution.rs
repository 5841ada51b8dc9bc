//! Uniform, bounded and normal numbers from addressed bits, the same on every machine.

use rayon::prelude::*;

use super::Address;
use super::join;

impl Address {
    /// Uniform on `[0, 1)`: the top 24 bits of the first word.
    pub fn uniform_f32(self) -> f32 {
        (self.words()[0] >> 8) as f32 * 2f32.powi(-24)
    }

    /// Uniform on `[0, 1)`: the top 53 bits of [`Address::bits64`].
    pub fn uniform_f64(self) -> f64 {
        unit(self.bits64())
    }

    /// Uniform on `[0, n)` without bias (Lemire 2019, arXiv:1805.10941); 0 if `n` is 0.
    ///
    /// The candidates are the two halves (words 0 and 1, then 2 and 3) of the bits at attempts 0
    /// to 255. The first candidate `c` with `c * n mod 2^64 >= 2^64 mod n` gives
    /// `c * n >> 64`. That none of the 512 serves has a chance below 2^-512; the last would then.
    pub fn below(self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let threshold = n.wrapping_neg() % n;
        let mut high = 0;
        for attempt in 0..=u8::MAX {
            let [a, b, c, d] = self.attempt(attempt);
            for candidate in [join(a, b), join(c, d)] {
                let product = u128::from(candidate) * u128::from(n);
                high = (product >> 64) as u64;
                if product as u64 >= threshold {
                    return high;
                }
            }
        }
        high
    }

    /// Standard normal, computed in f64 and rounded once.
    ///
    /// Normals come in pairs (Box and Muller 1958): number `2p` and `2p + 1` of a stream are the
    /// cosine's and the sine's from the bits at index `p`.
    pub fn normal_f32(self) -> f32 {
        let pair = normal_pair(self.at(self.index / 2));
        pair[(self.index % 2) as usize] as f32
    }
}

/// Fills `out` with normals of mean 0 and deviation `std`: element `i` is normal `first.index + i`
/// of the stream, times `std` in f64, rounded once. Threads do not show in the result.
pub fn fill_normal(first: Address, std: f64, out: &mut [f32]) {
    out.par_chunks_mut(CHUNK).enumerate().for_each(|(chunk, out)| {
        let mut index = first.index.wrapping_add((chunk * CHUNK) as u64);
        let mut rest = out;
        while !rest.is_empty() {
            let pair = normal_pair(first.at(index / 2));
            let skip = (index % 2) as usize;
            let take = rest.len().min(2 - skip);
            let (now, later) = rest.split_at_mut(take);
            for (o, z) in now.iter_mut().zip(&pair[skip..]) {
                *o = (std * z) as f32;
            }
            index = index.wrapping_add(take as u64);
            rest = later;
        }
    });
}

/// Two independent standard normals. `libm` is software, hence equal on all machines.
fn normal_pair(address: Address) -> [f64; 2] {
    let [a, b, c, d] = address.words();
    // 1 - u lies in (0, 1], so the logarithm is finite.
    let radius = (-2.0 * libm::log(1.0 - unit(join(a, b)))).sqrt();
    let (sin, cos) = libm::sincos(std::f64::consts::TAU * unit(join(c, d)));
    [radius * cos, radius * sin]
}

/// The top 53 bits as a fraction.
fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * 2f64.powi(-53)
}

/// Elements a task of [`fill_normal`] fills.
const CHUNK: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    const STREAM: Address = Address { seed: 7, purpose: Purpose::Test, step: 0, index: 0 };

    #[test]
    fn normals_have_the_moments_of_the_normal_distribution() {
        let n = 1 << 18;
        let mut out = vec![0.0; n];
        fill_normal(STREAM, 1.0, &mut out);
        let moment = |p: i32| out.iter().map(|&z| f64::from(z).powi(p)).sum::<f64>() / n as f64;
        // Five deviations of each estimate: sqrt((E z^2p - (E z^p)^2) / n).
        let root = (n as f64).sqrt();
        assert!(moment(1).abs() < 5.0 / root);
        assert!((moment(2) - 1.0).abs() < 5.0 * 2f64.sqrt() / root);
        assert!(moment(3).abs() < 5.0 * 15f64.sqrt() / root);
        assert!((moment(4) - 3.0).abs() < 5.0 * 96f64.sqrt() / root);
    }

    #[test]
    fn filling_equals_numbers_one_by_one_at_any_offset() {
        for first in [0, 1, 4095, (1 << 40) + 1] {
            let mut out = vec![f32::NAN; 2 * CHUNK + 3];
            fill_normal(STREAM.at(first), 1.0, &mut out);
            for i in [0, 1, 2, CHUNK - 1, CHUNK, 2 * CHUNK + 2] {
                assert_eq!(out[i].to_bits(), STREAM.at(first + i as u64).normal_f32().to_bits());
            }
        }
    }

    /// Golden: initial weights depend on these bits.
    #[test]
    fn normals_are_fixed() {
        let bits: Vec<_> = (0..4).map(|i| STREAM.at(i).normal_f32().to_bits()).collect();
        assert_eq!(bits, GOLDEN_NORMALS);
    }

    #[test]
    fn below_is_in_range_and_even() {
        let n = 10;
        let mut counts = [0u32; 10];
        for i in 0..100_000 {
            counts[STREAM.at(i).below(n) as usize] += 1;
        }
        // Chi-square with 9 degrees of freedom passes 33.7 once in 10,000.
        let chi: f64 = counts.iter().map(|&c| (f64::from(c) - 1e4).powi(2) / 1e4).sum();
        assert!(chi < 33.7, "{counts:?}");
        assert_eq!(STREAM.below(0), 0);
        assert_eq!(STREAM.below(1), 0);
        // Just above 2^63 about half of all candidates are refused.
        let wide = (1 << 63) + 1;
        assert!((0..1000).all(|i| STREAM.at(i).below(wide) < wide));
    }

    #[test]
    fn uniforms_stay_below_one() {
        for i in 0..10_000 {
            let (single, double) = (STREAM.at(i).uniform_f32(), STREAM.at(i).uniform_f64());
            assert!((0.0..1.0).contains(&single) && (0.0..1.0).contains(&double));
        }
        assert!(unit(u64::MAX) < 1.0);
    }

    /// Also what an independent program in Python gives (see `normal_pair` for the formula).
    const GOLDEN_NORMALS: [u32; 4] = [0x3feb_fc67, 0xc002_eeef, 0x3f10_c6c7, 0x3f7d_da5c];
}
