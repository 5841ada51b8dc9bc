//! SwiGLU.

use neuroshard::ops::swiglu::*;

use crate::*;

const COLUMNS: usize = 2048;

pub fn cases(size: Size) -> Vec<Case> {
    // `(N, F)` arrays: one out and a double one in; backward has a double one more.
    let case = |pass: &str, arrays: usize, prepare: fn(usize) -> Body| {
        let n = size.rows(COLUMNS, arrays);
        let work = Work::Bytes(arrays * n * COLUMNS * size_of::<f32>());
        let prepare = Box::new(move || prepare(n));
        Case { op: "swiglu", name: format!("{pass}/f32/{n}x{COLUMNS}"), work, prepare }
    };
    vec![case("forward", 3, prepare_forward), case("backward", 5, prepare_backward)]
}

fn prepare_forward(n: usize) -> Body {
    let (mut out, inp) = (painted(&[n, COLUMNS]), painted(&[n, 2 * COLUMNS]));
    Box::new(move |cpu| {
        forward(cpu, Forward { out: out.view_mut(), inp: inp.view() }).unwrap();
    })
}

fn prepare_backward(n: usize) -> Body {
    let (dout, inp) = (painted(&[n, COLUMNS]), painted(&[n, 2 * COLUMNS]));
    let mut dinp = painted(&[n, 2 * COLUMNS]);
    Box::new(move |cpu| {
        let (dinp, dout, inp) = (dinp.view_mut(), dout.view(), inp.view());
        backward(cpu, Backward { dinp, dout, inp }).unwrap();
    })
}
