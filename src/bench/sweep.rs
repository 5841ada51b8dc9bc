//! Which launch parameter is fastest, among those that give the same bits.

use std::sync::Arc;

use super::Case;
use super::Ceilings;
use super::Effort;
use super::measure;
use crate::crypto::Hash;
use crate::ops::Kernels;
use crate::ops::OpError;

/// What a sweep found of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The value to take: the fastest, or `usual` if that is hardly slower.
    pub value: usize,
    /// Every value and its time relative to that of `usual`: the geometric mean over the cases.
    pub times: Vec<(usize, f64)>,
}

/// Why a sweep ended.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// A value changed results, which none may.
    #[error("{case}: {value} gives other bits than {usual}; this is a bug of the kernel")]
    Unequal {
        /// The case.
        case: String,
        /// The value.
        value: usize,
        /// The value it was compared with.
        usual: usize,
    },
    /// An operation failed.
    #[error(transparent)]
    Op(#[from] OpError),
}

/// Tries `values` of a parameter on `cases`; `kernels_of` makes the device's kernels with a value.
pub fn sweep(
    cases: &[&Case],
    (values, usual): (&[usize], usize),
    kernels_of: &dyn Fn(usize) -> Arc<dyn Kernels>,
    effort: &Effort,
) -> Result<Choice, SweepError> {
    let mut baseline = Vec::new();
    let kernels = kernels_of(usual);
    let mut ceilings = Ceilings::new(kernels.as_ref(), effort)?;
    for case in cases {
        baseline.push(once(kernels.as_ref(), case, &mut ceilings, effort)?);
    }
    let mut times = Vec::new();
    for &value in values {
        let kernels = kernels_of(value);
        let mut logs = 0.0;
        for (case, (bits, seconds)) in cases.iter().zip(&baseline) {
            let (here, took) = once(kernels.as_ref(), case, &mut ceilings, effort)?;
            if here != *bits {
                let case = format!("{case:?}");
                return Err(SweepError::Unequal { case, value, usual });
            }
            logs += (took / seconds).ln();
        }
        times.push((value, (logs / cases.len().max(1) as f64).exp()));
    }
    let own = times.iter().find(|(value, _)| *value == usual).map_or(1.0, |(_, time)| *time);
    let best = times.iter().copied().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or((usual, own));
    let value = if best.1 < own * WORTHWHILE { best.0 } else { usual };
    Ok(Choice { value, times })
}

/// The bits of one run, and the median time.
fn once(
    kernels: &dyn Kernels,
    case: &Case,
    ceilings: &mut Ceilings,
    effort: &Effort,
) -> Result<(Hash, f64), OpError> {
    let mut prepared = case.prepare(kernels)?;
    prepared.run(kernels)?;
    let bits = prepared.hash(kernels)?;
    drop(prepared);
    Ok((bits, measure(kernels, case, ceilings, effort)?.quantile(0.5)))
}

/// Less than one per cent is noise.
const WORTHWHILE: f64 = 0.99;
