//! Matrix products in every profile and layout.

use neuroshard::ops::matmul;
use neuroshard::ops::matmul::Start;
use neuroshard::tensor::DType;

use crate::case::{Profile, paint, same};

/// Rows, inputs, outputs.
const SHAPES: &[(usize, usize, usize)] = &[
    (1, 1, 1),      // one
    (3, 5, 7),      // odd everywhere: last single elements, rows of no whole 16 bytes
    (2, 17, 9),     // a step of the tensor core and one
    (8, 48, 16),    // whole steps; a half tile of k
    (17, 64, 24),   // two tiles of k
    (130, 40, 136), // above a tile of outputs both ways
    (33, 200, 66),  // more tiles of k than stages
];

const PROFILES: [Profile; 3] = [Profile::F32, Profile::Bf16, Profile::Tc];

#[test]
fn products_are_the_same() {
    for profile in PROFILES {
        for &(n, i, o) in SHAPES {
            same(&format!("matmul {profile:?} {n} x {i} x {o}"), |device| {
                let precision = device.precision(profile);
                let t = precision.activations();
                let inp = device.put(t, &[n, i], &wide(n * i, 1009));
                let weight = device.put(t, &[o, i], &wide(o * i, 997));
                let dout = device.put(t, &[n, o], &wide(n * o, 613));
                let mut out = device.nans(t, &[n, o]);
                let args = matmul::Forward {
                    out: out.view_mut(),
                    inp: inp.view(),
                    weight: weight.view(),
                    precision,
                };
                matmul::forward(device.0, args).unwrap();
                let mut dinp = device.nans(t, &[n, i]);
                let args = matmul::BackwardInput {
                    dinp: dinp.view_mut(),
                    dout: dout.view(),
                    weight: weight.view(),
                    precision,
                };
                matmul::backward_input(device.0, args).unwrap();
                let weight_gradient = |start| {
                    let mut dweight = match start {
                        Start::Zero => device.nans(DType::F32, &[o, i]),
                        Start::Existing => device.put(DType::F32, &[o, i], &paint(o * i, 101)),
                    };
                    let args = matmul::BackwardWeight {
                        dweight: dweight.view_mut(),
                        dout: dout.view(),
                        inp: inp.view(),
                        precision,
                        start,
                    };
                    matmul::backward_weight(device.0, args).unwrap();
                    device.bits(&dweight)
                };
                vec![
                    ("out", device.bits(&out)),
                    ("dinp", device.bits(&dinp)),
                    ("dweight", weight_gradient(Start::Zero)),
                    ("dweight added to", weight_gradient(Start::Existing)),
                ]
            });
        }
    }
}

/// Numbers of many sizes, some so small that products are flushed or cut.
fn wide(n: usize, period: usize) -> Vec<f32> {
    let mut x = paint(n, period);
    for (i, x) in x.iter_mut().enumerate() {
        *x *= match i * 13 % period % 17 {
            1 => 1e5,
            2 => 1e-6,
            3 => 1e-19,
            4 => -3e18,
            _ => 1.0,
        };
    }
    x
}
