//! Losses, and gradients in place of the logits.

use neuroshard::ops::cross_entropy::*;
use neuroshard::tensor::View;

use crate::*;

pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = Vec::new();
    for (dtype, vocab) in ACTIVATIONS.into_iter().flat_map(|t| [(t, 8192), (t, 32_000)]) {
        let n = size.rows(vocab, 1);
        let mut case = |pass: &str, passes: usize, prepare: fn(DType, [usize; 2]) -> Body| {
            let work = Work::Bytes(passes * n * vocab * dtype.size_bytes());
            let name = format!("{pass}/{}/{n}x{vocab}", name_of(dtype));
            let prepare = Box::new(move || prepare(dtype, [n, vocab]));
            cases.push(Case { op: "cross_entropy", name, work, prepare });
        };
        case("forward", 1, prepare_forward);
        case("forward_backward", 2, prepare_forward_backward);
    }
    cases
}

fn targets([n, vocab]: [usize; 2]) -> Vec<u32> {
    (0..n).map(|i| (i * 7919 % vocab) as u32).collect()
}

fn prepare_forward(dtype: DType, shape: [usize; 2]) -> Body {
    let (mut losses, logits) = (painted(&shape[..1]), painted_in(dtype, &shape));
    let targets = targets(shape);
    Box::new(move |cpu| {
        let (losses, logits) = (losses.view_mut(), logits.view());
        let targets = View::of(&targets, &shape[..1]);
        forward(cpu, Forward { losses, logits, targets }).unwrap();
    })
}

fn prepare_forward_backward(dtype: DType, shape: [usize; 2]) -> Body {
    let (mut losses, mut logits) = (painted(&shape[..1]), painted_in(dtype, &shape));
    let targets = targets(shape);
    Box::new(move |cpu| {
        let (losses, logits) = (losses.view_mut(), logits.view_mut());
        let targets = View::of(&targets, &shape[..1]);
        let args = ForwardBackward { losses, logits, targets, scale: 1e-3 };
        forward_backward(cpu, args).unwrap();
    })
}
