//! RMSNorm.

use neuroshard::ops::rmsnorm::*;

use crate::*;

#[test]
fn forward_is_the_cpus() {
    for &(n, c) in SHAPES {
        let (inp, weight) = (paint(n * c, 251), paint(c, 241));
        let (mut out, mut rstd) = (vec![f32::NAN; n * c], vec![f32::NAN; n]);
        let args = Forward {
            out: ViewMut::of(&mut out, &[n, c]),
            rstd: ViewMut::of(&mut rstd, &[n]),
            inp: View::of(&inp, &[n, c]),
            weight: View::of(&weight, &[c]),
            eps: 1e-5,
        };
        forward(&cpu(), args).unwrap();
        each_door(|cuda, name| {
            let (inp, weight) = (upload(cuda, &inp, &[n, c]), upload(cuda, &weight, &[c]));
            let mut got = upload(cuda, &vec![f32::NAN; n * c], &[n, c]);
            let mut got_rstd = upload(cuda, &vec![f32::NAN; n], &[n]);
            let args = Forward {
                out: got.view_mut(),
                rstd: got_rstd.view_mut(),
                inp: inp.view(),
                weight: weight.view(),
                eps: 1e-5,
            };
            forward(cuda, args).unwrap();
            let what = format!("rmsnorm {n} x {c}, {name}");
            assert_bits(&what, &download::<f32>(cuda, &got), &out);
            assert_bits(&format!("rstd, {what}"), &download::<f32>(cuda, &got_rstd), &rstd);
        });
    }
}
