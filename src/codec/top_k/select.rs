//! The largest magnitudes of a chunk.
//!
//! The `k`-th largest of the maxima of `2k` groups is a lower bound of the `k`-th largest element.
//! Maxima are quick to find; only groups whose maximum reaches the bound are looked into, and
//! few elements besides the `k` are left to sort.

use super::super::CHUNK;

/// Finds the largest magnitudes of one chunk after the other.
#[derive(Debug, Default)]
pub(super) struct Selector {
    maxima: Vec<u32>,
    /// Magnitudes (as bits) and places that may be among the largest, by place.
    candidates: Vec<u32>,
    places: Vec<u16>,
    /// The magnitudes selected, ascending.
    pub(super) sorted: Vec<u32>,
}

/// Elements of the largest group.
const GROUP: usize = 64;

/// Bits of a finite f32 without its sign: ordered as magnitudes are.
const MAGNITUDE: u32 = 0x7fff_ffff;

impl Selector {
    /// Appends to `places`, ascending, where the `k` largest magnitudes of `chunk` stand, and to
    /// `values` what stands there; of equal magnitudes the first count. A magnitude counts if its
    /// bits are not below `least`, nor below those of the largest by more than `range`. Their
    /// bits, ascending, are in `sorted`.
    pub(super) fn select(
        &mut self,
        chunk: &[f32],
        (k, least, range): (usize, u32, u32),
        places: &mut Vec<u16>,
        values: &mut Vec<f32>,
    ) {
        self.find_candidates(chunk, (k, least, range));
        self.sorted.clear();
        self.sorted.extend_from_slice(&self.candidates);
        let beyond = self.sorted.len().saturating_sub(k);
        if beyond > GROUP {
            self.sorted.select_nth_unstable(beyond);
            self.sorted.drain(..beyond);
            self.sorted.sort_unstable();
        } else {
            self.sorted.sort_unstable();
            self.sorted.drain(..beyond);
        }
        let Some(&smallest) = self.sorted.first() else { return };
        let mut ties = self.sorted.iter().take_while(|&&m| m == smallest).count();
        for (&magnitude, &place) in self.candidates.iter().zip(&self.places) {
            if magnitude > smallest || (magnitude == smallest && ties > 0) {
                ties -= usize::from(magnitude == smallest);
                places.push(place);
                values.push(chunk[usize::from(place)]);
            }
        }
    }

    fn find_candidates(&mut self, chunk: &[f32], (k, least, range): (usize, u32, u32)) {
        let size = (CHUNK / (2 * k)).clamp(1, GROUP);
        self.maxima.clear();
        self.maxima.extend(chunk.chunks(size).map(largest));
        let largest = self.maxima.iter().copied().fold(0, u32::max);
        let mut bound = least.max(largest.saturating_sub(range));
        // One group to an element tells nothing that sorting does not.
        if size > 1 && self.maxima.len() > k {
            self.sorted.clear();
            self.sorted.extend_from_slice(&self.maxima);
            let nth = self.sorted.len() - k;
            bound = bound.max(*self.sorted.select_nth_unstable(nth).1);
        }
        self.candidates.resize(chunk.len() + 1, 0);
        self.places.resize(chunk.len() + 1, 0);
        let mut count = 0;
        for (i, group) in chunk.chunks(size).enumerate() {
            if self.maxima[i] < bound {
                continue;
            }
            for (j, x) in group.iter().enumerate() {
                let magnitude = x.to_bits() & MAGNITUDE;
                self.candidates[count] = magnitude;
                self.places[count] = (i * size + j) as u16;
                count += usize::from(magnitude >= bound);
            }
        }
        self.candidates.truncate(count);
        self.places.truncate(count);
    }
}

/// Bits of the largest magnitude of a group of finite numbers.
fn largest(group: &[f32]) -> u32 {
    let (lanes, rest) = group.as_chunks::<8>();
    let mut maxima = [0.0f32; 8];
    for lane in lanes {
        for (max, x) in maxima.iter_mut().zip(lane) {
            // Not `f32::max`, whose care for NaN costs instructions.
            *max = if x.abs() > *max { x.abs() } else { *max };
        }
    }
    let max = |a: f32, b: &f32| if b.abs() > a { b.abs() } else { a };
    rest.iter().fold(maxima.iter().fold(0.0, max), max).to_bits()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(chunk: &[f32], k: usize, least: u32, range: u32) -> Vec<(u16, f32)> {
        let bits = |i: usize| chunk[i].to_bits() & MAGNITUDE;
        let largest = (0..chunk.len()).map(bits).max().unwrap_or(0);
        let floor = least.max(largest.saturating_sub(range));
        let mut order: Vec<usize> = (0..chunk.len()).filter(|&i| bits(i) >= floor).collect();
        order.sort_by_key(|&i| (std::cmp::Reverse(bits(i)), i));
        order.truncate(k);
        order.sort_unstable();
        order.into_iter().map(|i| (i as u16, chunk[i])).collect()
    }

    #[test]
    fn the_largest_are_found_and_ties_go_to_the_first() {
        let mut selector = Selector::default();
        let mut noise = 1u32;
        let mut next = move || {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise
        };
        for n in [1, 2, 31, 32, 33, 63, 64, 65, 127, 1000, 4095, 4096] {
            // Many ties, few, a ramp, one peak, all in one group, zeros, binades apart.
            for kind in 0..7 {
                let chunk: Vec<f32> = (0..n)
                    .map(|i| match kind {
                        0 => (next() >> 29) as f32 - 3.5,
                        1 => (next() as i32) as f32,
                        2 => i as f32 - 7.0,
                        3 => f32::from(i == n / 2),
                        4 => (next() as i32) as f32 * if i / 32 == n / 64 { 1e3 } else { 1e-3 },
                        5 => -0.0,
                        _ => f32::from_bits((next() >> 25) << 23 | next() >> 9 | next() & 1 << 31),
                    })
                    .collect();
                for k in [1, 2, 3, 31, 64, 65, 511, 512, 2047, 2048, 4096] {
                    for (least, range) in [(1, MAGNITUDE), (1, 16 << 23), (0x3f00_0000, 1 << 23)] {
                        let (mut places, mut values) = (vec![], vec![]);
                        selector.select(&chunk, (k, least, range), &mut places, &mut values);
                        let found: Vec<_> = places.into_iter().zip(values.clone()).collect();
                        let expected = plain(&chunk, k, least, range);
                        assert_eq!(found, expected, "n {n} kind {kind} k {k} least {least:x}");
                        let bits = |x: &f32| x.to_bits() & MAGNITUDE;
                        let mut sorted: Vec<u32> = values.iter().map(bits).collect();
                        sorted.sort_unstable();
                        assert_eq!(selector.sorted, sorted);
                    }
                }
            }
        }
    }
}
