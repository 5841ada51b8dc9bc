//! Matrix products: squares, and the layers of two presets.

use neuroshard::model::Config;
use neuroshard::ops::TensorCore;
use neuroshard::ops::matmul::*;

use crate::*;

pub const PRECISIONS: [Precision; 3] =
    [Precision::F32, Precision::Bf16, Precision::Tc(TensorCore::Hopper)];

/// Rows of a model's products: tokens of a micro-batch.
const ROWS: usize = 1024;

/// Name, and N, I, O.
fn shapes(size: Size) -> Vec<(String, [usize; 3])> {
    let squares = |n: &usize| (format!("{n}^3"), [*n; 3]);
    if size == Size::Tiny {
        return [8, 40].iter().map(squares).collect();
    }
    let mut shapes: Vec<_> = [512, 1024, 2048, 4096].iter().map(squares).collect();
    for preset in ["tiny", "125m"] {
        let config = Config { preset: Some(preset.into()), ..Config::default() };
        let dims = config.dims().unwrap();
        let layers = [
            ("qkv", dims.width, dims.qkv_width()),
            ("attn_out", dims.heads_width(), dims.width),
            ("ffn_in", dims.width, 2 * dims.ffn),
            ("ffn_out", dims.ffn, dims.width),
            ("lm_head", dims.width, dims.vocab),
        ];
        shapes.extend(
            layers.map(|(layer, i, o)| (format!("{preset}.{layer}_{ROWS}x{i}x{o}"), [ROWS, i, o])),
        );
    }
    shapes
}

pub fn cases(size: Size) -> Vec<Case> {
    type Prepare = fn([usize; 3], Precision) -> Body;
    let passes: [(&str, Prepare); 3] = [
        ("forward", prepare_forward),
        ("backward_input", prepare_backward_input),
        ("backward_weight", prepare_backward_weight),
    ];
    let mut cases = Vec::new();
    for (shape, extents) in shapes(size) {
        for precision in PRECISIONS {
            for (pass, prepare) in passes {
                let name = format!("{pass}/{}/{shape}", dtype(precision));
                let work = Work::Flops(2 * extents.iter().product::<usize>(), precision);
                let prepare = Box::new(move || prepare(extents, precision));
                cases.push(Case { op: "matmul", name, work, prepare });
            }
        }
    }
    cases
}

fn prepare_forward([n, i, o]: [usize; 3], precision: Precision) -> Body {
    let painted = |shape: &[usize]| painted_for(precision, shape);
    let (mut out, inp, weight) = (painted(&[n, o]), painted(&[n, i]), painted(&[o, i]));
    Box::new(move |cpu| {
        let (out, inp, weight) = (out.view_mut(), inp.view(), weight.view());
        forward(cpu, Forward { out, inp, weight, precision }).unwrap();
    })
}

fn prepare_backward_input([n, i, o]: [usize; 3], precision: Precision) -> Body {
    let painted = |shape: &[usize]| painted_for(precision, shape);
    let (mut dinp, dout, weight) = (painted(&[n, i]), painted(&[n, o]), painted(&[o, i]));
    Box::new(move |cpu| {
        let (dinp, dout, weight) = (dinp.view_mut(), dout.view(), weight.view());
        backward_input(cpu, BackwardInput { dinp, dout, weight, precision }).unwrap();
    })
}

fn prepare_backward_weight([n, i, o]: [usize; 3], precision: Precision) -> Body {
    let mut dweight = painted(&[o, i]);
    let (dout, inp) = (painted_for(precision, &[n, o]), painted_for(precision, &[n, i]));
    Box::new(move |cpu| {
        let (dweight, dout, inp) = (dweight.view_mut(), dout.view(), inp.view());
        backward_weight(
            cpu,
            BackwardWeight { dweight, dout, inp, precision, start: Start::Existing },
        )
        .unwrap();
    })
}
