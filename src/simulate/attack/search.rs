//! The strength that does most harm, by a search on the real rule.

/// Where `score` is highest, of 0, `hint` and the strengths tried, and its score there.
///
/// Powers of two first, because a rule that throws suspicious updates out makes a score with more
/// than one peak; then the gaps beside the best are halved. [`EVALUATIONS`] calls at most. (byzfl
/// searches the same with 20 calls, but only downhill from 10.) Of equal scores the first counts;
/// what is no number never does.
pub(super) fn maximize(hint: Option<f64>, mut score: impl FnMut(f64) -> f64) -> (f64, f64) {
    let mut tried: Vec<(f64, f64)> = Vec::with_capacity(EVALUATIONS);
    let grid = (LOWEST..=HIGHEST).map(|power| 2f64.powi(power));
    for x in [0.0].into_iter().chain(hint).chain(grid) {
        if x.is_finite() && !tried.iter().any(|&(seen, _)| seen == x) {
            tried.push((x, score(x)));
        }
    }
    while tried.len() + 2 <= EVALUATIONS {
        let ((x, _), before) = (best(&tried), tried.len());
        let below = tried.iter().map(|t| t.0).filter(|&t| t < x).fold(f64::NAN, f64::max);
        let above = tried.iter().map(|t| t.0).filter(|&t| t > x).fold(f64::NAN, f64::min);
        let above = if above.is_nan() { 2.0 * x } else { above };
        for neighbour in [below, above] {
            let middle = (x + neighbour) / 2.0;
            if middle.is_finite() && middle != x {
                tried.push((middle, score(middle)));
            }
        }
        if tried.len() == before {
            break;
        }
    }
    best(&tried)
}

fn best(tried: &[(f64, f64)]) -> (f64, f64) {
    let numbers = tried.iter().copied().filter(|(_, score)| !score.is_nan());
    numbers.reduce(|a, b| if b.1 > a.1 { b } else { a }).unwrap_or((0.0, f64::NAN))
}

/// Calls of the score at most.
const EVALUATIONS: usize = 24;

/// Powers of two that are tried.
const LOWEST: i32 = -4;
const HIGHEST: i32 = 7;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_is_found_wherever_it_stands() {
        for peak in [0.0, 0.07, 0.3, 1.0, 1.37, 9.5, 100.0] {
            let mut calls = 0;
            let (x, _) = maximize(None, |x| {
                calls += 1;
                -(x - peak) * (x - peak)
            });
            assert!((x - peak).abs() <= 0.02 * peak + 0.005, "{peak}: {x}");
            assert!(calls <= EVALUATIONS, "{calls}");
        }
    }

    #[test]
    fn the_edge_of_rejection_is_approached_from_below() {
        // The rule takes what is below 3.3, and a far, lower peak follows.
        let (x, _) = maximize(None, |x| if x < 3.3 { x } else { 0.001 * x });
        assert!((3.1..3.3).contains(&x), "{x}");
    }

    #[test]
    fn scores_that_are_no_numbers_never_win() {
        assert_eq!(maximize(None, |_| f64::NAN).0, 0.0);
        let (x, score) = maximize(Some(5.0), |x| if x == 5.0 { 1.0 } else { f64::NAN });
        assert_eq!((x, score), (5.0, 1.0));
    }
}
