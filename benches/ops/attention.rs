//! Attention at presets' shapes; FLOPs of the keys that a query sees, not of the masked ones.

use neuroshard::model::Config;
use neuroshard::ops::attention::*;

use crate::*;

/// Preset, sequences, tokens in a sequence.
const SHAPES: [(&str, usize, usize); 4] =
    [("nano", 4, 256), ("tiny", 4, 256), ("125m", 2, 512), ("1b", 1, 1024)];

fn shapes(size: Size) -> Vec<(&'static str, Extents)> {
    let extents = |(preset, sequences, seq_len): (&'static str, usize, usize)| {
        let config = Config { preset: Some(preset.into()), ..Config::default() };
        let dims = config.dims().unwrap();
        let (heads, kv_heads, head_dim) = (dims.heads, dims.kv_heads, dims.head_dim);
        (preset, Extents { sequences, seq_len, heads, kv_heads, head_dim })
    };
    match size {
        Size::Tiny => vec![extents(("nano", 1, 4))],
        Size::Full => SHAPES.map(extents).into(),
    }
}

pub fn cases(size: Size) -> Vec<Case> {
    let mut cases = Vec::new();
    for (preset, e) in shapes(size) {
        let seen = e.seq_len * (e.seq_len + 1) / 2;
        // A multiplication and an addition per pair of numbers of one product.
        let product = 2 * e.sequences * e.heads * seen * e.head_dim;
        for precision in [Precision::F32, Precision::Bf16] {
            let shape = format!("{preset}_{}x{}", e.sequences, e.seq_len);
            let case = |pass: &str, products: usize, prepare: fn(Extents, Precision) -> Body| {
                let name = format!("{pass}/{}/{shape}", dtype(precision));
                let work = Work::Flops(products * product, precision);
                let prepare = Box::new(move || prepare(e, precision));
                Case { op: "attention", name, work, prepare }
            };
            // Scores and values; backward: scores, dp, dv, dk, dq.
            cases.push(case("forward", 2, prepare_forward));
            cases.push(case("backward", 5, prepare_backward));
        }
    }
    cases
}

fn prepare_forward(e: Extents, precision: Precision) -> Body {
    let qkv = painted(&[e.rows(), e.qkv_width()]);
    let mut out = painted(&[e.rows(), e.heads * e.head_dim]);
    let mut lse = painted(&[e.sequences, e.heads, e.seq_len]);
    Box::new(move |cpu| {
        let (out, lse, qkv) = (out.view_mut(), lse.view_mut(), qkv.view());
        forward(cpu, Forward { out, lse, qkv, extents: e, precision }).unwrap();
    })
}

fn prepare_backward(e: Extents, precision: Precision) -> Body {
    let (qkv, mut dqkv) =
        (painted(&[e.rows(), e.qkv_width()]), painted(&[e.rows(), e.qkv_width()]));
    let width = e.heads * e.head_dim;
    let (mut out, dout) = (painted(&[e.rows(), width]), painted(&[e.rows(), width]));
    let mut lse = painted(&[e.sequences, e.heads, e.seq_len]);
    let cpu = Cpu::new(level(), 0).unwrap();
    let args = Forward {
        out: out.view_mut(),
        lse: lse.view_mut(),
        qkv: qkv.view(),
        extents: e,
        precision,
    };
    forward(&cpu, args).unwrap();
    Box::new(move |cpu| {
        let (dqkv, dout, out) = (dqkv.view_mut(), dout.view(), out.view());
        let (lse, qkv) = (lse.view(), qkv.view());
        backward(cpu, Backward { dqkv, dout, out, lse, qkv, extents: e, precision }).unwrap();
    })
}
