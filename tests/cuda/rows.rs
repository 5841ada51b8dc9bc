//! Operations on rows: RMSNorm, RoPE, SwiGLU, embedding, cross-entropy.

use neuroshard::ops::cross_entropy;
use neuroshard::ops::embedding;
use neuroshard::ops::rmsnorm;
use neuroshard::ops::rope;
use neuroshard::ops::swiglu;
use neuroshard::tensor::DType;

use crate::case::{Device, SHAPES, paint, same};

const DTYPES: [DType; 2] = [DType::F32, DType::Bf16];
const EPS: f32 = 1e-5;

#[test]
fn rmsnorm_forward_is_the_same() {
    for (dtype, &(n, c)) in cases(SHAPES) {
        same(&format!("rmsnorm forward {dtype:?} {n} x {c}"), |device| {
            let inp = device.put(dtype, &[n, c], &paint(n * c, 1009));
            let residual = device.put(dtype, &[n, c], &paint(n * c, 997));
            let weight = device.put(DType::F32, &[c], &paint(c, 31));
            let (mut out, mut rstd) = (device.nans(dtype, &[n, c]), device.nans(DType::F32, &[n]));
            let args = rmsnorm::Forward {
                out: out.view_mut(),
                rstd: rstd.view_mut(),
                inp: inp.view(),
                weight: weight.view(),
                eps: EPS,
            };
            rmsnorm::forward(device.0, args).unwrap();
            let mut both = (device.nans(dtype, &[n, c]), device.nans(DType::F32, &[n]));
            let mut sum = device.nans(dtype, &[n, c]);
            let args = rmsnorm::ForwardResidual {
                out: both.0.view_mut(),
                rstd: both.1.view_mut(),
                sum: sum.view_mut(),
                residual: residual.view(),
                inp: inp.view(),
                weight: weight.view(),
                eps: EPS,
            };
            rmsnorm::forward_residual(device.0, args).unwrap();
            vec![
                ("out", device.bits(&out)),
                ("rstd", device.bits(&rstd)),
                ("out with residual", device.bits(&both.0)),
                ("rstd with residual", device.bits(&both.1)),
                ("sum", device.bits(&sum)),
            ]
        });
    }
}

#[test]
fn rmsnorm_backward_is_the_same() {
    // The last one is too wide for sums in shared memory.
    let wide: Vec<_> = SHAPES.iter().copied().chain([(130, 3328)]).collect();
    for (dtype, &(n, c)) in cases(&wide) {
        same(&format!("rmsnorm backward {dtype:?} {n} x {c}"), |device| {
            let inp = device.put(dtype, &[n, c], &paint(n * c, 1009));
            let dout = device.put(dtype, &[n, c], &paint(n * c, 613));
            let weight = device.put(DType::F32, &[c], &paint(c, 31));
            let rstd = device.put(DType::F32, &[n], &paint(n, 13));
            let mut dinp = device.put(dtype, &[n, c], &paint(n * c, 997));
            let mut dweight = device.put(DType::F32, &[c], &paint(c, 101));
            let args = rmsnorm::Backward {
                dinp: dinp.view_mut(),
                dweight: dweight.view_mut(),
                dout: dout.view(),
                inp: inp.view(),
                weight: weight.view(),
                rstd: rstd.view(),
            };
            rmsnorm::backward(device.0, args).unwrap();
            vec![("dinp", device.bits(&dinp)), ("dweight", device.bits(&dweight))]
        });
    }
}

#[test]
fn rope_is_the_same() {
    for dtype in DTYPES {
        // Sequences, tokens, heads to rotate, heads in a row, head width.
        for (b, t, heads, all, d) in [(1, 1, 1, 1, 2), (2, 5, 4, 6, 6), (3, 7, 2, 3, 32)] {
            same(&format!("rope {dtype:?} {b} x {t} x {heads} of {all} x {d}"), |device| {
                let (n, width, positions) = (b * t, all * d, t + 3);
                let cos =
                    device.put(DType::F32, &[positions, d / 2], &paint(positions * d / 2, 53));
                let sin =
                    device.put(DType::F32, &[positions, d / 2], &paint(positions * d / 2, 59));
                let rotate = |direction| {
                    let mut x = device.put(dtype, &[n, width], &paint(n * width, 1009));
                    let args = rope::Rotate {
                        x: x.view_mut(),
                        cos: cos.view(),
                        sin: sin.view(),
                        heads,
                        seq_len: t,
                        first_position: 3,
                        direction,
                    };
                    rope::rotate(device.0, args).unwrap();
                    device.bits(&x)
                };
                vec![
                    ("forward", rotate(rope::Direction::Forward)),
                    ("inverse", rotate(rope::Direction::Inverse)),
                ]
            });
        }
    }
}

#[test]
fn swiglu_is_the_same() {
    for (dtype, &(n, f)) in cases(SHAPES) {
        same(&format!("swiglu {dtype:?} {n} x {f}"), |device| {
            let large: Vec<_> = paint(n * 2 * f, 1009).iter().map(|x| x * 90.0).collect();
            let inp = device.put(dtype, &[n, 2 * f], &large);
            let dout = device.put(dtype, &[n, f], &paint(n * f, 613));
            let mut out = device.nans(dtype, &[n, f]);
            let args = swiglu::Forward { out: out.view_mut(), inp: inp.view() };
            swiglu::forward(device.0, args).unwrap();
            let mut dinp = device.nans(dtype, &[n, 2 * f]);
            let args =
                swiglu::Backward { dinp: dinp.view_mut(), dout: dout.view(), inp: inp.view() };
            swiglu::backward(device.0, args).unwrap();
            vec![("out", device.bits(&out)), ("dinp", device.bits(&dinp))]
        });
    }
}

#[test]
fn embedding_is_the_same() {
    // Tokens, vocabulary, columns: some tokens often, more than a block collects at once.
    for (n, v, c) in [(1, 1, 1), (40, 7, 5), (300, 400, 3), (1500, 3, 4), (64, 11, 300)] {
        for dtype in DTYPES {
            same(&format!("embedding {dtype:?} {n} of {v} x {c}"), |device| {
                let tokens: Vec<u32> = (0..n).map(|i| (i * i % 1009 % v) as u32).collect();
                let tokens = device.tokens(&tokens);
                let table = device.put(dtype, &[v, c], &paint(v * c, 1009));
                let dout = device.put(dtype, &[n, c], &paint(n * c, 613));
                let mut out = device.nans(dtype, &[n, c]);
                let args = embedding::Forward {
                    out: out.view_mut(),
                    tokens: tokens.view(),
                    table: table.view(),
                };
                embedding::forward(device.0, args).unwrap();
                let mut dtable = device.put(DType::F32, &[v, c], &paint(v * c, 101));
                let args = embedding::Backward {
                    dtable: dtable.view_mut(),
                    tokens: tokens.view(),
                    dout: dout.view(),
                };
                embedding::backward(device.0, args).unwrap();
                vec![("out", device.bits(&out)), ("dtable", device.bits(&dtable))]
            });
        }
    }
}

#[test]
fn cross_entropy_is_the_same() {
    // The last but one does not fit into shared memory in bf16.
    let shapes = [(1, 1), (3, 7), (2, 128), (3, 129), (2, 2048), (2, 2056), (1, 51_208), (2, 4097)];
    for (dtype, &(n, v)) in cases(&shapes) {
        same(&format!("cross-entropy {dtype:?} {n} x {v}"), |device| {
            let mut logits: Vec<_> = paint(n * v, 1009).iter().map(|x| x * 30.0).collect();
            // The largest by far, by another warp than the first.
            logits.chunks_mut(v).for_each(|row| row[v * 7 / 9] = 45.0);
            let targets: Vec<u32> = (0..n).map(|i| ((i * 7 + v - 1) % v) as u32).collect();
            let targets = device.tokens(&targets);
            let mut x = device.put(dtype, &[n, v], &logits);
            let mut losses = device.nans(DType::F32, &[n]);
            let args = cross_entropy::Forward {
                losses: losses.view_mut(),
                logits: x.view(),
                targets: targets.view(),
            };
            cross_entropy::forward(device.0, args).unwrap();
            let mut both = device.nans(DType::F32, &[n]);
            let args = cross_entropy::ForwardBackward {
                losses: both.view_mut(),
                logits: x.view_mut(),
                targets: targets.view(),
                scale: 1.0 / 37.0,
            };
            cross_entropy::forward_backward(device.0, args).unwrap();
            vec![
                ("losses of forward", device.bits(&losses)),
                ("losses", device.bits(&both)),
                ("dlogits", device.bits(&x)),
            ]
        });
    }
}

fn cases<S>(shapes: &[S]) -> impl Iterator<Item = (DType, &S)> {
    DTYPES.into_iter().flat_map(move |dtype| shapes.iter().map(move |shape| (dtype, shape)))
}

/// A token that is not there ends the step by NaN, and reads or writes nothing beyond the table.
#[test]
fn tokens_outside_the_vocabulary_give_nan() {
    crate::each_door(|kernels, door| {
        let device = Device(kernels, crate::core_of(kernels));
        let tokens = device.tokens(&[1, 9]);
        let table = device.put(DType::F32, &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let mut out = device.nans(DType::F32, &[2, 2]);
        let args =
            embedding::Forward { out: out.view_mut(), tokens: tokens.view(), table: table.view() };
        embedding::forward(kernels, args).unwrap();
        let got: Vec<f32> = device.bits(&out).into_iter().map(f32::from_bits).collect();
        assert!(got[..2] == [3.0, 4.0] && got[2..].iter().all(|x| x.is_nan()), "{door}: {got:?}");
        let mut dtable = device.put(DType::F32, &[3, 2], &[0.0; 6]);
        let args = embedding::Backward {
            dtable: dtable.view_mut(),
            tokens: tokens.view(),
            dout: table.view().rows(0..2),
        };
        embedding::backward(kernels, args).unwrap();
        let got: Vec<f32> = device.bits(&dtable).into_iter().map(f32::from_bits).collect();
        assert_eq!(got, [0.0, 0.0, 1.0, 2.0, 0.0, 0.0], "{door}");
    });
}
