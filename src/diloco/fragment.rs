//! The parts of a model that are exchanged at different times
//! (Streaming DiLoCo: Douillard et al. 2025, arXiv:2501.18512).

use crate::codec::Layout;
use crate::model::Bucket;
use crate::model::Dims;
use crate::model::TiedHead;

/// Whole tensors of a model, in canonical order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// Its number, from 0.
    pub index: usize,
    /// Numbers of its tensors in the model's canonical order, ascending.
    pub tensors: Vec<usize>,
    /// Its flat vector.
    pub layout: Layout,
}

/// The `count` fragments of a model, strided: fragment p has the blocks l with l mod P = p. The
/// embedding goes with fragment 0, final norm and head with the last one. One fragment is the
/// whole model in its canonical order.
///
/// # Panics
/// If `count` is 0 or more than the blocks (settings with that are not valid).
pub fn fragments(dims: &Dims, count: usize) -> Vec<Fragment> {
    assert!((1..=dims.layers.max(1)).contains(&count), "{count} fragments");
    let mut members = vec![Vec::new(); count];
    let mut next = 0;
    for bucket in Bucket::shapes(dims, 0..dims.layers, TiedHead::Shared) {
        let owner = match &bucket {
            Bucket::Embedding(_) => 0,
            Bucket::Block { layer, .. } => layer % count,
            Bucket::Head { .. } => count - 1,
        };
        for (name, shape) in bucket.into_named() {
            members[owner].push((next, name, shape.iter().product::<usize>()));
            next += 1;
        }
    }
    let fragment = |(index, tensors): (usize, Vec<(usize, String, usize)>)| Fragment {
        index,
        tensors: tensors.iter().map(|tensor| tensor.0).collect(),
        layout: Layout::new(tensors.into_iter().map(|(_, name, elements)| (name, elements))),
    };
    members.into_iter().enumerate().map(fragment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::weights_layout;

    fn dims(layers: usize, tied: bool) -> Dims {
        let config = crate::model::Config::default();
        Dims { layers, tied, ..config.dims().expect("the default model") }
    }

    #[test]
    fn one_fragment_is_the_model() {
        for tied in [true, false] {
            let dims = dims(3, tied);
            let all = fragments(&dims, 1);
            assert_eq!(all.len(), 1);
            assert_eq!(all[0].layout, weights_layout(&dims));
            assert!(all[0].tensors.iter().copied().eq(0..all[0].tensors.len()));
        }
    }

    #[test]
    fn every_tensor_is_in_one_fragment() {
        for (layers, count, tied) in [(3, 2, true), (5, 5, false), (7, 3, false), (4, 2, true)] {
            let dims = dims(layers, tied);
            let (whole, parts) = (weights_layout(&dims), fragments(&dims, count));
            let mut seen = vec![false; whole.sections().len()];
            for part in &parts {
                assert!(part.tensors.is_sorted());
                for (&i, section) in part.tensors.iter().zip(part.layout.sections()) {
                    assert!(!std::mem::replace(&mut seen[i], true));
                    assert_eq!(section.name, whole.sections()[i].name);
                    assert_eq!(section.range.len(), whole.sections()[i].range.len());
                    let layer = section.name.strip_prefix("blocks.");
                    let layer = layer.and_then(|rest| rest.split('.').next()?.parse().ok());
                    let owner = match layer {
                        Some(layer) => usize::rem_euclid(layer, count),
                        None if section.name == "embedding" => 0,
                        None => count - 1,
                    };
                    assert_eq!(part.index, owner, "{}", section.name);
                }
            }
            assert!(seen.into_iter().all(|s| s));
        }
    }
}
