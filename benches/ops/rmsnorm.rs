//! RMSNorm.

use neuroshard::ops::rmsnorm::*;

use crate::*;

const COLUMNS: usize = 768;

pub fn cases(size: Size) -> Vec<Case> {
    let shape = |arrays| [size.rows(COLUMNS, arrays), COLUMNS];
    let case = |pass: &str, arrays: usize, prepare: fn([usize; 2]) -> Body| {
        let [n, c] = shape(arrays);
        let work = Work::Bytes(arrays * n * c * size_of::<f32>());
        let prepare = Box::new(move || prepare([n, c]));
        Case { op: "rmsnorm", name: format!("{pass}/f32/{n}x{c}"), work, prepare }
    };
    vec![
        case("forward", 2, prepare_forward),
        case("forward_residual", 4, prepare_forward_residual),
        // Four arrays, one of which is read and written.
        backward_case(shape(4)),
    ]
}

fn prepare_forward([n, c]: [usize; 2]) -> Body {
    let (mut out, inp) = (painted(&[n, c]), painted(&[n, c]));
    let (mut rstd, weight) = (painted(&[n]), painted(&[c]));
    Box::new(move |cpu| {
        let (out, rstd) = (out.view_mut(), rstd.view_mut());
        let (inp, weight) = (inp.view(), weight.view());
        forward(cpu, Forward { out, rstd, inp, weight, eps: 1e-5 }).unwrap();
    })
}

fn prepare_forward_residual([n, c]: [usize; 2]) -> Body {
    let [mut out, mut sum, residual, inp] = [(); 4].map(|()| painted(&[n, c]));
    let (mut rstd, weight) = (painted(&[n]), painted(&[c]));
    Box::new(move |cpu| {
        let args = ForwardResidual {
            out: out.view_mut(),
            rstd: rstd.view_mut(),
            sum: sum.view_mut(),
            residual: residual.view(),
            inp: inp.view(),
            weight: weight.view(),
            eps: 1e-5,
        };
        forward_residual(cpu, args).unwrap();
    })
}

fn backward_case([n, c]: [usize; 2]) -> Case {
    let prepare = move || -> Body {
        let [mut dinp, dout, inp] = [(); 3].map(|()| painted(&[n, c]));
        let (mut dweight, weight, rstd) = (painted(&[c]), painted(&[c]), painted(&[n]));
        Box::new(move |cpu| {
            let args = Backward {
                dinp: dinp.view_mut(),
                dweight: dweight.view_mut(),
                dout: dout.view(),
                inp: inp.view(),
                weight: weight.view(),
                rstd: rstd.view(),
            };
            backward(cpu, args).unwrap();
        })
    };
    let work = Work::Bytes(4 * n * c * size_of::<f32>());
    Case { op: "rmsnorm", name: format!("backward/f32/{n}x{c}"), work, prepare: Box::new(prepare) }
}
