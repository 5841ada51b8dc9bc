//! Means, deviations and inner products of updates: f64, in one order on every machine.

use rayon::prelude::*;

/// Mean of each element over `updates`, summed in their order. All are of one length.
pub(super) fn mean(updates: &[&[f32]]) -> Vec<f64> {
    let elements = updates.first().map_or(0, |u| u.len());
    let n = updates.len() as f64;
    let mut out = vec![0.0f64; elements];
    out.par_chunks_mut(BLOCK).enumerate().for_each(|(block, out)| {
        let first = block * BLOCK;
        for update in updates {
            let update = &update[first..first + out.len()];
            out.iter_mut().zip(update).for_each(|(sum, &u)| *sum += f64::from(u));
        }
        out.iter_mut().for_each(|sum| *sum /= n);
    });
    out
}

/// Deviation of each element over `updates` around `mean`; the sum of squares is divided by their
/// number, as the code of ALIE's authors does.
pub(super) fn deviation(updates: &[&[f32]], mean: &[f64]) -> Vec<f64> {
    let n = updates.len() as f64;
    let mut out = vec![0.0f64; mean.len()];
    out.par_chunks_mut(BLOCK).enumerate().for_each(|(block, out)| {
        let first = block * BLOCK;
        let mean = &mean[first..first + out.len()];
        for update in updates {
            let update = &update[first..first + out.len()];
            for ((sum, &u), m) in out.iter_mut().zip(update).zip(mean) {
                let away = f64::from(u) - m;
                *sum += away * away;
            }
        }
        out.iter_mut().for_each(|sum| *sum = (*sum / n).sqrt());
    });
    out
}

/// Sum over the elements of `term(i)`: chains over blocks of [`BLOCK`] elements, then a chain over
/// the blocks.
pub(super) fn sum(elements: usize, term: impl Fn(usize) -> f64 + Sync) -> f64 {
    let block = |b: usize| {
        let end = elements.min((b + 1) * BLOCK);
        (b * BLOCK..end).fold(0.0, |sum, i| sum + term(i))
    };
    let blocks: Vec<f64> = (0..elements.div_ceil(BLOCK)).into_par_iter().map(block).collect();
    blocks.into_iter().fold(0.0, |sum, b| sum + b)
}

/// Euclidean norm.
pub(super) fn norm(update: &[f32]) -> f64 {
    sum(update.len(), |i| f64::from(update[i]) * f64::from(update[i])).sqrt()
}

/// Median of the norms of `updates`: the mean of the two in the middle where their number is even;
/// 0 of none.
pub(super) fn median_norm(updates: &[&[f32]]) -> f64 {
    let mut norms: Vec<f64> = updates.iter().map(|u| norm(u)).collect();
    norms.sort_by(f64::total_cmp);
    match norms.len() {
        0 => 0.0,
        n if n % 2 == 1 => norms[n / 2],
        n => (norms[n / 2 - 1] + norms[n / 2]) / 2.0,
    }
}

/// The nearest f32 that is finite: what overflows becomes the largest, what is no number zero.
pub(super) fn narrow(x: f64) -> f32 {
    match x.is_nan() {
        true => 0.0,
        false => x.clamp(f64::from(f32::MIN), f64::from(f32::MAX)) as f32,
    }
}

/// Elements of a block.
const BLOCK: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_plain_loops() {
        for elements in [0, 1, 5, BLOCK - 1, BLOCK, 2 * BLOCK + 3] {
            let of = |k: usize| (0..elements).map(|i| ((i * k) % 17) as f32 - 7.5).collect();
            let updates: Vec<Vec<f32>> = [1, 3, 5].map(of).to_vec();
            let updates: Vec<&[f32]> = updates.iter().map(Vec::as_slice).collect();
            let (mean, mut squares) = (mean(&updates), 0.0);
            let deviation = deviation(&updates, &mean);
            for i in 0..elements {
                let column = updates.iter().map(|u| f64::from(u[i]));
                let m = column.clone().sum::<f64>() / 3.0;
                let v = column.map(|x| (x - m).powi(2)).sum::<f64>() / 3.0;
                assert!((mean[i] - m).abs() < 1e-12 && (deviation[i] - v.sqrt()).abs() < 1e-12);
                squares += f64::from(updates[1][i]).powi(2);
            }
            assert!((norm(updates[1]) - squares.sqrt()).abs() < 1e-9);
        }
        assert!(mean(&[]).is_empty());
    }

    #[test]
    fn the_median_norm_lies_in_the_middle() {
        let updates = [[3.0, 4.0], [0.0, 1.0], [0.0, -100.0], [6.0, 8.0]];
        let updates: Vec<&[f32]> = updates.iter().map(|u| u.as_slice()).collect();
        assert_eq!(median_norm(&updates), 7.5);
        assert_eq!(median_norm(&updates[..3]), 5.0);
        assert_eq!(median_norm(&[]), 0.0);
    }

    #[test]
    fn what_no_f32_can_hold_is_made_finite() {
        assert_eq!(narrow(1e300), f32::MAX);
        assert_eq!(narrow(f64::NEG_INFINITY), f32::MIN);
        assert_eq!(narrow(f64::NAN), 0.0);
        assert_eq!(narrow(0.1), 0.1f32);
    }
}
