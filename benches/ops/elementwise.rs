//! Fill, copy, add, and the search for a value that is no number.

use neuroshard::ops::elementwise::*;

use crate::*;

pub fn cases(size: Size) -> Vec<Case> {
    let case = |pass: &str, arrays: usize, moves: usize, prepare: fn(usize) -> Body| {
        let n = size.rows(1024, arrays) * 1024;
        let work = Work::Bytes(moves * n * size_of::<f32>());
        let prepare = Box::new(move || prepare(n));
        Case { op: "elementwise", name: format!("{pass}/f32/{n}"), work, prepare }
    };
    vec![
        case("fill", 1, 1, |n| {
            let mut out = painted(&[n]);
            Box::new(move |cpu| fill(cpu, out.view_mut(), 0.5).unwrap())
        }),
        case("copy", 2, 2, |n| {
            let (mut out, inp) = (painted(&[n]), painted(&[n]));
            Box::new(move |cpu| copy(cpu, out.view_mut(), inp.view()).unwrap())
        }),
        case("add", 2, 3, |n| {
            let (mut out, inp) = (painted(&[n]), painted(&[n]));
            Box::new(move |cpu| add(cpu, out.view_mut(), inp.view()).unwrap())
        }),
        case("first_non_finite", 1, 1, |n| {
            let inp = painted(&[n]);
            Box::new(move |cpu| assert_eq!(first_non_finite(cpu, inp.view()).unwrap(), None))
        }),
    ]
}
