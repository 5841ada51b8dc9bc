//! The sum of squares: reads only.

use neuroshard::ops::norm::*;

use crate::*;

pub fn cases(size: Size) -> Vec<Case> {
    let n = size.rows(1024, 1) * 1024;
    let prepare = move || -> Body {
        let x = painted(&[n]);
        Box::new(move |cpu| {
            std::hint::black_box(sum_squares(cpu, 0.0, x.view()).unwrap());
        })
    };
    let work = Work::Bytes(n * size_of::<f32>());
    let name = format!("sum_squares/f32/{n}");
    vec![Case { op: "norm", name, work, prepare: Box::new(prepare) }]
}
