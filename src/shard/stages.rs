//! Which layers each stage computes.

use std::ops::Range;

/// `layers` layers in `stages` contiguous ranges, as even as possible; the later ones are the
/// longer ones, since the first stage keeps the most micro-batches under way.
///
/// # Panics
/// If `stages` is 0 (a bug of the caller).
pub fn even_stages(layers: usize, stages: usize) -> Vec<Range<usize>> {
    assert!(stages > 0, "layers in no stage");
    let start = |stage: usize| layers * stage / stages;
    (0..stages).map(|stage| start(stage)..start(stage + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_cover_all_layers_evenly() {
        for layers in 1..20 {
            for stages in 1..=layers {
                let all = even_stages(layers, stages);
                assert_eq!((all[0].start, all[stages - 1].end), (0, layers));
                assert!(
                    all.windows(2).all(|w| w[0].end == w[1].start && w[0].len() <= w[1].len() + 1)
                );
                assert!(
                    all.iter()
                        .all(|s| (layers / stages..=layers.div_ceil(stages)).contains(&s.len()))
                );
            }
        }
    }
}
