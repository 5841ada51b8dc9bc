//! AdamW: four arrays read, three of them written.

use neuroshard::ops::adamw::*;

use crate::*;

const SCALARS: Scalars = Scalars {
    grad_scale: 0.7,
    beta1: 0.9,
    one_minus_beta1: 0.1,
    beta2: 0.95,
    one_minus_beta2: 0.05,
    step_size: 1e-3,
    inv_sqrt_bias2: 1.1,
    eps: 1e-8,
};

pub fn cases(size: Size) -> Vec<Case> {
    let n = size.rows(1024, 4) * 1024;
    let prepare = move || -> Body {
        let [mut param, mut m, mut v, grad] = [(); 4].map(|()| painted(&[n]));
        v.host_mut::<f32>().iter_mut().for_each(|v| *v = v.abs());
        Box::new(move |cpu| {
            let (param, m, v) = (param.view_mut(), m.view_mut(), v.view_mut());
            let grad = grad.view();
            let tensors = Tensors { param, m, v, grad, copy: None, decay: 0.9999 };
            update(cpu, &mut [tensors], SCALARS).unwrap();
        })
    };
    let work = Work::Bytes(7 * n * size_of::<f32>());
    vec![Case { op: "adamw", name: format!("update/f32/{n}"), work, prepare: Box::new(prepare) }]
}
