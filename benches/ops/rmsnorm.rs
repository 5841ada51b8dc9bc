//! RMSNorm.

use neuroshard::ops::rmsnorm::*;

use crate::*;

const COLUMNS: usize = 768;

pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in ACTIVATIONS {
        let mut case = |pass: &str, arrays: usize, prepare: fn(DType, [usize; 2]) -> Body| {
            let (n, c) = (size.rows(COLUMNS, arrays), COLUMNS);
            let work = Work::Bytes(arrays * n * c * dtype.size_bytes());
            let name = format!("{pass}/{}/{n}x{c}", name_of(dtype));
            let prepare = Box::new(move || prepare(dtype, [n, c]));
            cases.push(Case { op: "rmsnorm", name, work, prepare });
        };
        case("forward", 2, prepare_forward);
        case("forward_residual", 4, prepare_forward_residual);
        // Four arrays, one of which is read and written.
        case("backward", 4, prepare_backward);
    }
    cases
}

fn prepare_forward(dtype: DType, [n, c]: [usize; 2]) -> Body {
    let [mut out, inp] = [(); 2].map(|()| painted_in(dtype, &[n, c]));
    let (mut rstd, weight) = (painted(&[n]), painted(&[c]));
    Box::new(move |cpu| {
        let (out, rstd) = (out.view_mut(), rstd.view_mut());
        let (inp, weight) = (inp.view(), weight.view());
        forward(cpu, Forward { out, rstd, inp, weight, eps: 1e-5 }).unwrap();
    })
}

fn prepare_forward_residual(dtype: DType, [n, c]: [usize; 2]) -> Body {
    let [mut out, mut sum, residual, inp] = [(); 4].map(|()| painted_in(dtype, &[n, c]));
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

fn prepare_backward(dtype: DType, [n, c]: [usize; 2]) -> Body {
    let [mut dinp, dout, inp] = [(); 3].map(|()| painted_in(dtype, &[n, c]));
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
}
