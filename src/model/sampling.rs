//! From logits to a token: greedy, temperature, top-k, top-p; pure functions of their arguments.

use serde::Deserialize;
use serde::Serialize;

/// How to choose the next token.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f64,
    /// Only the `top_k` likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability; 1 for all.
    pub top_p: f64,
}

/// The token that `sampling` chooses where `uniform` (in `[0, 1)`) is the random number.
///
/// Equal logits rank by token. Sums are in f64, in order of rank.
pub fn choose(logits: &[f32], sampling: Sampling, uniform: f64) -> u32 {
    let mut ranked: Vec<u32> = (0..logits.len() as u32).collect();
    let logit = |token: &u32| logits[*token as usize];
    let by_rank = |a: &u32, b: &u32| logit(b).total_cmp(&logit(a)).then_with(|| a.cmp(b));
    if sampling.temperature <= 0.0 {
        return ranked.into_iter().min_by(by_rank).unwrap_or(0);
    }
    ranked.sort_unstable_by(by_rank);
    if sampling.top_k > 0 {
        ranked.truncate(sampling.top_k);
    }
    let Some(best) = ranked.first().map(logit) else { return 0 };
    let weight =
        |token: &u32| libm::exp((f64::from(logit(token)) - f64::from(best)) / sampling.temperature);
    let weights: Vec<f64> = ranked.iter().map(weight).collect();
    let total: f64 = weights.iter().sum();
    let mut kept = 0.0;
    let mut count = 0;
    for weight in &weights {
        kept += weight;
        count += 1;
        if kept >= sampling.top_p * total {
            break;
        }
    }
    let mut left = uniform * kept;
    for (token, weight) in ranked.iter().zip(&weights).take(count) {
        left -= weight;
        if left < 0.0 {
            return *token;
        }
    }
    ranked[count - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [0.0, 2.0, 1.0, 2.0];

    fn with(temperature: f64, top_k: usize, top_p: f64, uniform: f64) -> u32 {
        choose(&LOGITS, Sampling { temperature, top_k, top_p }, uniform)
    }

    #[test]
    fn greedy_takes_the_first_of_the_best() {
        assert_eq!(with(0.0, 0, 1.0, 0.9), 1);
    }

    #[test]
    fn uniform_walks_the_ranks() {
        assert_eq!(with(1.0, 0, 1.0, 0.0), 1);
        assert_eq!(with(1.0, 0, 1.0, 0.5), 3);
        assert_eq!(with(1.0, 0, 1.0, 0.999_999), 0);
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        assert_eq!(with(1.0, 2, 1.0, 0.999_999), 3);
        assert_eq!(with(1.0, 0, 0.5, 0.999_999), 3);
        assert_eq!(with(1.0, 0, 0.01, 0.999_999), 1);
    }
}
