//! Fill, copy, add, and the search for a value that is no number.

use half::bf16;
use neuroshard::ops::OpError;
use neuroshard::ops::elementwise::*;
use neuroshard::tensor::DType;
use neuroshard::tensor::Element;
use neuroshard::tensor::Tensor;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::*;

fn lens() -> impl Iterator<Item = usize> {
    SHAPES.iter().map(|(rows, columns)| rows * columns).chain([1023, 1024, 1025, 100_003])
}

#[test]
fn fill_and_add() {
    for n in lens() {
        let (out, inp) = (paint_wild(n, 251, 1e30), paint_wild(n, 241, 1e30));
        let want: Vec<f32> = out.iter().zip(&inp).map(|(x, y)| x + y).collect();
        let sum = |(&x, &y): (&f32, &f32)| f64::from(x) + f64::from(y);
        let exact: Vec<f64> = out.iter().zip(&inp).map(sum).collect();
        assert_close("sum", &want, &exact, 6e-8, 1e-45);
        each_cpu(|cpu, name| {
            let mut got = out.clone();
            add(cpu, ViewMut::of(&mut got, &[n]), View::of(&inp, &[n])).unwrap();
            assert_bits(&format!("add {n}, {name}"), &got, &want);
            fill(cpu, ViewMut::of(&mut got, &[n]), -1e-41).unwrap();
            assert_bits(&format!("fill {n}, {name}"), &got, &vec![-1e-41; n]);
        });
    }
}

#[test]
fn sums_of_special_values() {
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 1e-45, -1e-39, 0.0, -0.0];
    let n = specials.len();
    let out: Vec<f32> = (0..n * n).map(|i| specials[i / n]).collect();
    let inp: Vec<f32> = (0..n * n).map(|i| specials[i % n]).collect();
    let want: Vec<f32> = out.iter().zip(&inp).map(|(x, y)| x + y).collect();
    each_cpu(|cpu, name| {
        let mut got = out.clone();
        add(cpu, ViewMut::of(&mut got, &[n, n]), View::of(&inp, &[n, n])).unwrap();
        assert_bits(name, &got, &want);
        for special in specials {
            fill(cpu, ViewMut::of(&mut got, &[n * n]), special).unwrap();
            assert_bits(name, &got, &vec![special; n * n]);
        }
    });
}

#[test]
fn a_fill_larger_than_the_caches() {
    let n = (9 << 20) + 77;
    let mut x = Tensor::zeros(DType::F32, &[n]);
    for level in Level::available() {
        let cpu = Cpu::new(level, 3).unwrap();
        fill(&cpu, x.view_mut(), 7.0).unwrap();
        assert!(x.host::<f32>().iter().all(|&x| x == 7.0), "{level}");
        fill(&cpu, x.view_mut(), 0.0).unwrap();
        assert!(x.host::<f32>().iter().all(|&x| x == 0.0), "{level}");
    }
}

fn copies<E: Element + PartialEq + std::fmt::Debug>(make: impl Fn(usize) -> E) {
    for n in lens() {
        let inp: Vec<E> = (0..n).map(&make).collect();
        each_cpu(|cpu, name| {
            let mut out = vec![make(1_000_003); n];
            copy(cpu, ViewMut::of(&mut out, &[n]), View::of(&inp, &[n])).unwrap();
            assert!(out == inp, "{n}, {name}");
        });
    }
}

#[test]
fn copies_of_every_type() {
    copies(|i| i as f32 * 1e-3);
    copies(|i| bf16::from_f32(i as f32));
    copies(|i| i as u32);
}

#[test]
fn fill_and_add_of_bf16() {
    for n in lens() {
        let (out, inp) = (narrow(&paint_wild(n, 251, 1e30)), narrow(&paint_wild(n, 241, 1e30)));
        let want = rounded(out.iter().zip(&inp).map(|(x, y)| x.to_f32() + y.to_f32()).collect());
        let exact: Vec<f64> = out.iter().zip(&inp).map(|(x, y)| x.to_f64() + y.to_f64()).collect();
        assert_close("sum", &want, &exact, 1.0 / 256.0, 1e-38);
        each_cpu(|cpu, name| {
            let mut got = out.clone();
            add(cpu, ViewMut::of(&mut got, &[n]), View::of(&inp, &[n])).unwrap();
            assert_bits(&format!("add {n}, {name}"), &widened(&got), &want);
            for value in [-1e-39, 1.0 + 1.0 / 256.0, -3.0 / 256.0 - 1.0, f32::NAN] {
                fill(cpu, ViewMut::of(&mut got, &[n]), value).unwrap();
                let want = rounded(vec![value; n]);
                assert_bits(&format!("fill {n} with {value}, {name}"), &widened(&got), &want);
            }
        });
    }
}

#[test]
fn sums_of_special_values_of_bf16() {
    let specials = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 3.38e38, 1e-40, -1e-39, 0.0, -0.0];
    let specials = narrow(&specials);
    let n = specials.len();
    let out: Vec<bf16> = (0..n * n).map(|i| specials[i / n]).collect();
    let inp: Vec<bf16> = (0..n * n).map(|i| specials[i % n]).collect();
    let want = rounded(out.iter().zip(&inp).map(|(x, y)| x.to_f32() + y.to_f32()).collect());
    each_cpu(|cpu, name| {
        let mut got = out.clone();
        add(cpu, ViewMut::of(&mut got, &[n * n]), View::of(&inp, &[n * n])).unwrap();
        assert_bits(name, &widened(&got), &want);
    });
}

/// Every bf16, and the f32 numbers around the middle between each and the next.
#[test]
fn round_and_widen() {
    let all: Vec<bf16> = (0..=u16::MAX).map(bf16::from_bits).collect();
    let wide: Vec<f32> = all.iter().map(|x| x.to_f32()).collect();
    let around = |bits: u16| [0x7fff, 0x8000, 0x8001].map(|low| u32::from(bits) << 16 | low);
    let near: Vec<f32> = (0..=u16::MAX).flat_map(around).map(f32::from_bits).collect();
    let rounded: Vec<bf16> = near.iter().map(|&x| bf16::from_f32(x)).collect();
    each_cpu(|cpu, name| {
        for n in [0, 1, 7, 17, 1025, all.len()] {
            let mut got = nans(n);
            widen(cpu, ViewMut::of(&mut got, &[n]), View::of(&all[..n], &[n])).unwrap();
            assert_bits(&format!("widen {n}, {name}"), &got, &wide[..n]);
        }
        for (inp, want) in [(&wide, &all), (&near, &rounded)] {
            let mut got = vec![bf16::NAN; inp.len()];
            round(cpu, ViewMut::of(&mut got, &[inp.len()]), View::of(inp, &[inp.len()])).unwrap();
            for (i, (got, want)) in got.iter().zip(want).enumerate() {
                let same = got.to_bits() == want.to_bits() || (got.is_nan() && want.is_nan());
                assert!(same, "bf({:e}) is {got:e}, not {want:e}, {name}", inp[i]);
            }
        }
    });
}

#[test]
fn the_first_number_that_is_none_is_found() {
    for n in lens().filter(|&n| n > 0) {
        let mut x = paint_wild(n, 251, f32::MAX);
        each_cpu(|cpu, name| {
            let none = first_non_finite(cpu, View::of(&x, &[n])).unwrap();
            assert_eq!(none, None, "{n}, {name}");
        });
        for (at, bad) in [(n - 1, f32::NAN), (n / 2, f32::INFINITY), (n / 3, f32::NEG_INFINITY)] {
            x[at] = bad;
            each_cpu(|cpu, name| {
                let found = first_non_finite(cpu, View::of(&x, &[n])).unwrap();
                assert_eq!(found, Some(at), "{n}, {name}");
            });
        }
    }
}

#[test]
fn the_first_bf16_that_is_no_number_is_found() {
    for n in lens().filter(|&n| n > 0) {
        let mut x = narrow(&paint_wild(n, 251, 3e38));
        for (at, bad) in [(n - 1, bf16::NAN), (n / 2, bf16::INFINITY), (0, bf16::NEG_INFINITY)] {
            each_cpu(|cpu, name| {
                let expected = x.iter().position(|x| !x.is_finite());
                let found = first_non_finite(cpu, View::of(&x, &[n])).unwrap();
                assert_eq!(found, expected, "{n}, {name}");
            });
            x[at] = bad;
        }
    }
}

#[test]
fn wrong_shapes_and_types_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let (mut out, inp) = (nans(6), paint(6, 7));
    let result = add(&cpu, ViewMut::of(&mut out, &[6]), View::of(&inp, &[2, 3]));
    assert_eq!(result, refused("elementwise::add inp", &[6], &[2, 3]));
    let result = copy(&cpu, ViewMut::of(&mut out, &[6]), View::of(&inp[..5], &[5]));
    assert_eq!(result, refused("elementwise::copy inp", &[6], &[5]));
    let result = copy(&cpu, ViewMut::of(&mut out, &[6]), View::of(&[1u32; 6], &[6]));
    let (want, got) = (DType::F32, DType::U32);
    assert_eq!(result, Err(OpError::Place { what: "elementwise::copy inp", want, got }));
    let result = fill(&cpu, ViewMut::of(&mut [0u32; 2], &[2]), 1.0);
    assert_eq!(result, Err(OpError::Place { what: "elementwise::fill out", want, got }));
    let what = "elementwise::add inp";
    let narrow = narrow(&inp);
    let result = add(&cpu, ViewMut::of(&mut out, &[6]), View::of(&narrow, &[6]));
    let (want, got) = (DType::F32, DType::Bf16);
    assert_eq!(result, Err(OpError::Place { what, want, got }));
    let result = round(&cpu, ViewMut::of(&mut out, &[6]), View::of(&inp, &[6]));
    let (what, want, got) = ("elementwise::round out", DType::Bf16, DType::F32);
    assert_eq!(result, Err(OpError::Place { what, want, got }));
    let result = widen(&cpu, ViewMut::of(&mut out, &[6]), View::of(&inp, &[6]));
    assert_eq!(result, Err(OpError::Place { what: "elementwise::widen inp", want, got }));
    let result = widen(&cpu, ViewMut::of(&mut out, &[6]), View::of(&narrow[..5], &[5]));
    assert_eq!(result, refused("elementwise::widen inp", &[6], &[5]));
}
