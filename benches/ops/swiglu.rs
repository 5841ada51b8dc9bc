//! SwiGLU.

use neuroshard::ops::swiglu::*;

use crate::*;

const COLUMNS: usize = 2048;

pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in ACTIVATIONS {
        // `(N, F)` arrays: one out and a double one in; backward has a double one more.
        let mut case = |pass: &str, arrays: usize, prepare: fn(DType, usize) -> Body| {
            let n = size.rows(COLUMNS, arrays);
            let work = Work::Bytes(arrays * n * COLUMNS * dtype.size_bytes());
            let name = format!("{pass}/{}/{n}x{COLUMNS}", name_of(dtype));
            let prepare = Box::new(move || prepare(dtype, n));
            cases.push(Case { op: "swiglu", name, work, prepare });
        };
        case("forward", 3, prepare_forward);
        case("backward", 5, prepare_backward);
    }
    cases
}

fn prepare_forward(dtype: DType, n: usize) -> Body {
    let mut out = painted_in(dtype, &[n, COLUMNS]);
    let inp = painted_in(dtype, &[n, 2 * COLUMNS]);
    Box::new(move |cpu| {
        forward(cpu, Forward { out: out.view_mut(), inp: inp.view() }).unwrap();
    })
}

fn prepare_backward(dtype: DType, n: usize) -> Body {
    let dout = painted_in(dtype, &[n, COLUMNS]);
    let [mut dinp, inp] = [(); 2].map(|()| painted_in(dtype, &[n, 2 * COLUMNS]));
    Box::new(move |cpu| {
        let (dinp, dout, inp) = (dinp.view_mut(), dout.view(), inp.view());
        backward(cpu, Backward { dinp, dout, inp }).unwrap();
    })
}
