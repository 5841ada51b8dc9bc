//! Losses, and gradients in place of the logits.

use neuroshard::ops::cross_entropy::*;
use neuroshard::tensor::View;

use crate::*;

pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = Vec::new();
    for vocab in [8192, 32_000] {
        let n = size.rows(vocab, 1);
        let targets = move || (0..n).map(|i| (i * 7919 % vocab) as u32).collect::<Vec<_>>();
        let once = n * vocab * size_of::<f32>();
        let prepare = move || -> Body {
            let (mut losses, logits, targets) = (painted(&[n]), painted(&[n, vocab]), targets());
            Box::new(move |cpu| {
                let (losses, logits) = (losses.view_mut(), logits.view());
                let targets = View::of(&targets, &[n]);
                forward(cpu, Forward { losses, logits, targets }).unwrap();
            })
        };
        let (name, work) = (format!("forward/f32/{n}x{vocab}"), Work::Bytes(once));
        cases.push(Case { op: "cross_entropy", name, work, prepare: Box::new(prepare) });
        let prepare = move || -> Body {
            let (mut losses, mut logits) = (painted(&[n]), painted(&[n, vocab]));
            let targets = targets();
            Box::new(move |cpu| {
                let (losses, logits) = (losses.view_mut(), logits.view_mut());
                let targets = View::of(&targets, &[n]);
                let args = ForwardBackward { losses, logits, targets, scale: 1e-3 };
                forward_backward(cpu, args).unwrap();
            })
        };
        let (name, work) = (format!("forward_backward/f32/{n}x{vocab}"), Work::Bytes(2 * once));
        cases.push(Case { op: "cross_entropy", name, work, prepare: Box::new(prepare) });
    }
    cases
}
