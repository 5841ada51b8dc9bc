//! quick
#![allow(clippy::needless_range_loop, reason = "index notation, as in the contract")]
use half::bf16;
use neuroshard::backend::cpu::{Cpu, Level};
use neuroshard::ops::{Precision, matmul};
use neuroshard::tensor::{View, ViewMut};
fn paint(n: usize, p: usize) -> Vec<f32> {
    (0..n)
        .map(|i| {
            ((i * 7919 % p) as f32 - p as f32 / 2.0) / p as f32
                * if i % 97 == 3 { 1e-20 } else { 1.0 }
        })
        .collect()
}
fn chain(p: Precision, start: f32, a: &[f32], b: &[f32]) -> f32 {
    let mut acc = start;
    match p {
        Precision::F32 => {
            for (x, y) in a.iter().zip(b) {
                acc = x.mul_add(*y, acc)
            }
        }
        Precision::Bf16 => {
            let r = |x: Option<&f32>| {
                let v = bf16::from_f32(*x.unwrap_or(&0.0)).to_f32();
                if v.abs() < f32::MIN_POSITIVE { 0.0 } else { v }
            };
            let f = |x: f32| if x.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(x) } else { x };
            for q in 0..a.len().div_ceil(2) {
                for k in [2 * q + 1, 2 * q] {
                    acc = f(r(a.get(k)).mul_add(r(b.get(k)), f(acc)));
                }
            }
        }
    }
    acc
}
#[test]
fn quick() {
    for level in Level::available() {
        for threads in [1, 3] {
            let cpu = Cpu::new(level, threads).unwrap();
            for (n, i, o) in
                [(1, 1, 1), (5, 7, 3), (13, 33, 34), (30, 256, 100), (17, 515, 65), (130, 64, 33)]
            {
                for p in [Precision::F32, Precision::Bf16] {
                    let x = paint(n * i, 251);
                    let w = paint(o * i, 241);
                    let dy = paint(n * o, 239);
                    let mut out = vec![f32::NAN; n * o];
                    matmul::forward(
                        &cpu,
                        matmul::Forward {
                            out: ViewMut::of(&mut out, &[n, o]),
                            inp: View::of(&x, &[n, i]),
                            weight: View::of(&w, &[o, i]),
                            precision: p,
                        },
                    )
                    .unwrap();
                    for r in 0..n {
                        for c in 0..o {
                            let want = chain(p, 0.0, &x[r * i..][..i], &w[c * i..][..i]);
                            assert_eq!(
                                out[r * o + c].to_bits(),
                                want.to_bits(),
                                "{level} {p:?} {n} {i} {o} at {r},{c}: {} {}",
                                out[r * o + c],
                                want
                            );
                        }
                    }
                    let mut dx = vec![f32::NAN; n * i];
                    matmul::backward_input(
                        &cpu,
                        matmul::BackwardInput {
                            dinp: ViewMut::of(&mut dx, &[n, i]),
                            dout: View::of(&dy, &[n, o]),
                            weight: View::of(&w, &[o, i]),
                            precision: p,
                        },
                    )
                    .unwrap();
                    for r in 0..n {
                        for c in 0..i {
                            let b: Vec<f32> = (0..o).map(|k| w[k * i + c]).collect();
                            let want = chain(p, 0.0, &dy[r * o..][..o], &b);
                            assert_eq!(dx[r * i + c].to_bits(), want.to_bits());
                        }
                    }
                    let mut dw = paint(o * i, 233);
                    let before = dw.clone();
                    matmul::backward_weight(
                        &cpu,
                        matmul::BackwardWeight {
                            dweight: ViewMut::of(&mut dw, &[o, i]),
                            dout: View::of(&dy, &[n, o]),
                            inp: View::of(&x, &[n, i]),
                            precision: p,
                        },
                    )
                    .unwrap();
                    for r in 0..o {
                        for c in 0..i {
                            let a: Vec<f32> = (0..n).map(|k| dy[k * o + r]).collect();
                            let b: Vec<f32> = (0..n).map(|k| x[k * i + c]).collect();
                            let want = chain(p, before[r * i + c], &a, &b);
                            assert_eq!(dw[r * i + c].to_bits(), want.to_bits());
                        }
                    }
                }
            }
        }
    }
}
#[test]
#[ignore]
fn speed() {
    for threads in [1, 2] {
        for level in Level::available().into_iter().skip(1) {
            let cpu = Cpu::new(level, threads).unwrap();
            for (n, i, o) in [
                (512, 512, 512),
                (1024, 1024, 1024),
                (2048, 2048, 2048),
                (1024, 192, 512),
                (1024, 192, 4096),
                (1024, 384, 1024),
                (1024, 768, 2048),
                (1024, 768, 768),
            ] {
                for p in [Precision::F32, Precision::Bf16] {
                    let x = paint(n * i, 251);
                    let w = paint(o * i, 241);
                    let dy = paint(n * o, 239);
                    let mut out = vec![0.0; n * o];
                    let mut dx = vec![0.0; n * i];
                    let mut dw = vec![0.0; o * i];
                    let mut best = [0.0f64; 3];
                    for _ in 0..12 {
                        let g = |t: std::time::Instant| {
                            2.0 * (n * i * o) as f64 / t.elapsed().as_secs_f64() / 1e9
                        };
                        let t = std::time::Instant::now();
                        matmul::forward(
                            &cpu,
                            matmul::Forward {
                                out: ViewMut::of(&mut out, &[n, o]),
                                inp: View::of(&x, &[n, i]),
                                weight: View::of(&w, &[o, i]),
                                precision: p,
                            },
                        )
                        .unwrap();
                        best[0] = best[0].max(g(t));
                        let t = std::time::Instant::now();
                        matmul::backward_input(
                            &cpu,
                            matmul::BackwardInput {
                                dinp: ViewMut::of(&mut dx, &[n, i]),
                                dout: View::of(&dy, &[n, o]),
                                weight: View::of(&w, &[o, i]),
                                precision: p,
                            },
                        )
                        .unwrap();
                        best[1] = best[1].max(g(t));
                        let t = std::time::Instant::now();
                        matmul::backward_weight(
                            &cpu,
                            matmul::BackwardWeight {
                                dweight: ViewMut::of(&mut dw, &[o, i]),
                                dout: View::of(&dy, &[n, o]),
                                inp: View::of(&x, &[n, i]),
                                precision: p,
                            },
                        )
                        .unwrap();
                        best[2] = best[2].max(g(t));
                    }
                    println!(
                        "{threads} {level} {p:?} {n}x{i}x{o}: fwd {:.0} dx {:.0} dw {:.0} GF",
                        best[0], best[1], best[2]
                    );
                }
            }
        }
    }
}
