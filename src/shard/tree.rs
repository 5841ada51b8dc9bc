//! Sums over shards in the order of the binary tree (docs/ARITHMETIC.md, section 15), one shard
//! after another, in little memory.

/// A binary counter of partial sums: after n leaves there is a sum of 2^k leaves for every bit k
/// of n that is set. So a tree over n leaves never needs more than log2(n) values beside the leaf
/// that is being made.
#[derive(Debug)]
pub struct Counter<T> {
    levels: Vec<Option<T>>,
}

impl<T> Default for Counter<T> {
    fn default() -> Self {
        Self { levels: Vec::new() }
    }
}

impl<T> Counter<T> {
    /// Takes the next leaf. `add(left, right)` makes `left` the sum of both; a `right` that has
    /// been added goes to `used`, so that its memory can serve again.
    pub fn push<E>(
        &mut self,
        leaf: T,
        used: &mut Vec<T>,
        mut add: impl FnMut(&mut T, &T) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut sum = leaf;
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(None);
            }
            let Some(mut left) = self.levels[level].take() else {
                self.levels[level] = Some(sum);
                break;
            };
            add(&mut left, &sum)?;
            used.push(std::mem::replace(&mut sum, left));
        }
        Ok(())
    }

    /// The sum, if the number of leaves is a power of two; leaves nothing behind.
    pub fn finish(&mut self) -> Option<T> {
        let sum = self.levels.pop()?;
        let whole = self.levels.drain(..).all(|level| level.is_none());
        sum.filter(|_| whole)
    }

    /// Gives back whatever a sum that was broken off has left.
    pub fn abandon(&mut self) -> impl Iterator<Item = T> {
        self.levels.drain(..).flatten()
    }
}

/// Values that a tree over `leaves` leaves needs at once, the leaf being made included.
pub fn tree_values(leaves: usize) -> usize {
    1 + leaves.max(1).ilog2() as usize
}

/// The sum of `leaves`, whose number is a power of two, in the order of the tree.
pub fn tree_sum(leaves: &[f64]) -> f64 {
    match leaves {
        [] => 0.0,
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
            tree_sum(left) + tree_sum(right)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers whose sum depends on its order.
    fn leaf(i: usize) -> f64 {
        (i as f64 * 0.7).sin() * 10f64.powi(i as i32 % 5 * 3)
    }

    /// By the definition: level by level.
    fn by_levels(mut values: Vec<f64>) -> f64 {
        while values.len() > 1 {
            values = values.chunks(2).map(|pair| pair[0] + pair[1]).collect();
        }
        values[0]
    }

    #[test]
    fn both_forms_are_the_tree() {
        for k in 0..7 {
            let leaves: Vec<f64> = (0..1 << k).map(leaf).collect();
            let want = by_levels(leaves.clone()).to_bits();
            assert_eq!(tree_sum(&leaves).to_bits(), want);
            let (mut counter, mut used) = (Counter::default(), Vec::new());
            let mut most = 0;
            for &leaf in &leaves {
                most = most.max(1 + counter.levels.iter().flatten().count());
                let add = |left: &mut f64, right: &f64| {
                    *left += right;
                    Ok::<_, ()>(())
                };
                counter.push(leaf, &mut used, add).unwrap();
            }
            assert_eq!(counter.finish().map(f64::to_bits), Some(want));
            assert_eq!((most, used.len()), (tree_values(leaves.len()), leaves.len() - 1));
            assert!(counter.finish().is_none());
        }
    }

    #[test]
    fn a_chain_is_another_sum() {
        let leaves = [1e16, 1.0, -1e16, 1.0];
        assert_eq!(leaves.iter().sum::<f64>(), 1.0);
        assert_eq!(tree_sum(&leaves), 0.0);
    }

    #[test]
    fn part_of_a_tree_is_no_sum() {
        let (mut counter, mut used) = (Counter::default(), Vec::new());
        let add = |left: &mut f64, right: &f64| {
            *left += right;
            Ok::<_, ()>(())
        };
        for i in 0..3 {
            counter.push(leaf(i), &mut used, add).unwrap();
        }
        assert!(counter.finish().is_none());
        counter.push(1.0, &mut used, add).unwrap();
        assert_eq!(counter.abandon().count(), 1);
    }
}
