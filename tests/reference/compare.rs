//! How far numbers may be from what they should be.

use neuroshard::model::Dims;
use neuroshard::ops::Precision;

/// Error, relative to a tensor's root mean square, that a profile may have in a logit, a loss or a
/// gradient of the mean loss of `rows` tokens.
///
/// A gradient has come through some `8·(L + 1)` operations up and as many down. Each adds errors
/// that are independent of the others', so their squares add. In f32 an operation sums up to K
/// terms in a chain, each addition rounding by 2^-24 of a sum that grows as it goes: about
/// `sqrt(K / 2) · 2^-24`. In bf16 the inputs of a product are rounded by at most 2^-9 each, 2^-9 /
/// sqrt(3) in the mean, independently: `sqrt(2 / 3) · 2^-9` of the result, however long the sum.
/// In tc every operation rounds its result, the weight or gradient that it meets, and what of forward
/// its backward reads: three roundings, `sqrt(3 / 3) · 2^-9`. Twice that is allowed, for the
/// amplification on the way (norms, softmax, cancellation), and three times in tc, where the residual
/// stream and its gradient are rounded too, of which norms and softmax use small differences. In
/// tests/model_reference.rs errors reach 0.3 of it in f32, 0.82 in bf16 and 0.87 in tc.
pub fn tolerance(precision: Precision, dims: &Dims, rows: usize) -> f64 {
    let longest = dims.width.max(2 * dims.ffn).max(dims.vocab).max(rows) as f64;
    let (allowed, each) = match precision {
        Precision::F32 => (2.0, (longest / 2.0).sqrt() * 2f64.powi(-24)),
        Precision::Bf16 => (2.0, (2.0f64 / 3.0).sqrt() * 2f64.powi(-9)),
        Precision::Tc(_) => (3.0, 2f64.powi(-9)),
    };
    allowed * each * (2.0 * 8.0 * (dims.layers + 1) as f64).sqrt()
}

/// Asserts that `got` is `want` but for an error whose root mean square is at most `tolerance` of
/// `want`'s, and nowhere more than [`PEAK`] times that.
///
/// Relative to the whole tensor, because an element that is small by cancellation carries the
/// rounding errors of the large terms that cancelled in it. With `SHOW_ERRORS` in the environment
/// (and `--nocapture`), every comparison prints how much of its tolerance it used.
pub fn assert_close(what: &str, got: &[f32], want: &[f64], tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{what}: number of elements");
    let size = root_mean_square(want.iter().copied());
    let errors = || got.iter().zip(want).map(|(&got, &want)| f64::from(got) - want);
    let error = root_mean_square(errors());
    let worst = errors().map(f64::abs).enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
    let Some((index, peak)) = worst else { return };
    if std::env::var_os("SHOW_ERRORS").is_some() {
        println!("{what}: {:.2} of the tolerance", error / (tolerance * size));
    }
    // Written so that a NaN fails.
    let close = error <= tolerance * size && peak <= PEAK * tolerance * size;
    assert!(
        close,
        "{what}: error {error:e} in a size of {size:e}, tolerance {tolerance:e}; the worst of {} \
         is [{index}]: {} is not {}, {:.1} ulp",
        got.len(),
        got[index],
        want[index],
        peak / ulp(want[index]),
    );
}

fn root_mean_square(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len().max(1) as f64;
    (values.map(|x| x * x).sum::<f64>() / count).sqrt()
}

/// Distance of two neighbouring f32 at `x`.
fn ulp(x: f64) -> f64 {
    let x = (x as f32).abs();
    f64::from(x.next_up()) - f64::from(x)
}

/// Errors are not all equal: among some ten thousand normal ones the largest is four deviations,
/// and rows with large activations have larger ones.
const PEAK: f64 = 16.0;
