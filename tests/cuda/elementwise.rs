//! Fill, copy and add.

use neuroshard::ops::OpError;
use neuroshard::ops::elementwise::*;
use neuroshard::tensor::DType;

use crate::*;

fn lens() -> impl Iterator<Item = usize> {
    SHAPES.iter().map(|(rows, columns)| rows * columns).chain([1023, 1024, 1025, 20_003])
}

fn copies<E: Element + PartialEq>(make: impl Fn(usize) -> E) {
    for n in lens() {
        let data: Vec<E> = (0..n).map(&make).collect();
        each_door(|cuda, name| {
            let first = upload(cuda, &data, &[n]);
            let mut second = cuda.zeros(E::DTYPE, &[n]).unwrap();
            assert!(download::<E>(cuda, &second).iter().all(|x| *x == E::zeroed()), "{name}");
            copy(cuda, second.view_mut(), first.view()).unwrap();
            assert!(download::<E>(cuda, &second) == data, "{n}, {name}");
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
fn ranges_of_rows_are_copied_alone() {
    each_door(|cuda, name| {
        let data = paint(5 * 7, 31);
        let mut table = upload(cuda, &[9.0f32; 35], &[5, 7]);
        let rows = View::of(&data[..14], &[2, 7]);
        copy(cuda, table.view_mut().rows(2..4), rows).unwrap();
        let mut want = [9.0f32; 35];
        want[14..28].copy_from_slice(&data[..14]);
        assert_bits(name, &download::<f32>(cuda, &table), &want);
    });
}

#[test]
fn fill_and_add() {
    for n in lens() {
        let (out, inp) = (paint(n, 251), paint(n, 241));
        let mut want = out.clone();
        add(&cpu(), ViewMut::of(&mut want, &[n]), View::of(&inp, &[n])).unwrap();
        each_door(|cuda, name| {
            let (mut got, inp) = (upload(cuda, &out, &[n]), upload(cuda, &inp, &[n]));
            add(cuda, got.view_mut(), inp.view()).unwrap();
            assert_bits(&format!("add {n}, {name}"), &download::<f32>(cuda, &got), &want);
            fill(cuda, got.view_mut(), -1e-41).unwrap();
            let filled = download::<f32>(cuda, &got);
            assert_bits(&format!("fill {n}, {name}"), &filled, &vec![-1e-41; n]);
        });
    }
}

#[test]
fn other_memory_and_other_types_are_refused() {
    each_door(|cuda, name| {
        let (want, got) = (DType::F32, DType::U32);
        let mut tokens = cuda.zeros(DType::U32, &[4]).unwrap();
        let refused = Err(OpError::Place { what: "elementwise::fill out", want, got });
        assert_eq!(fill(cuda, tokens.view_mut(), 1.0), refused, "{name}");
        let mut numbers = cuda.zeros(DType::F32, &[4]).unwrap();
        let host = [1.0f32; 4];
        let outcome = add(cuda, numbers.view_mut(), View::of(&host, &[4]));
        let what = "elementwise::add inp";
        assert_eq!(outcome, Err(OpError::Place { what, want, got: DType::F32 }), "{name}");
        let mut on_host = [0.0f32; 4];
        let outcome = fill(&cpu(), numbers.view_mut(), 1.0);
        assert!(matches!(outcome, Err(OpError::Place { .. })), "{name}");
        let outcome = fill(cuda, ViewMut::of(&mut on_host, &[4]), 1.0);
        assert!(matches!(outcome, Err(OpError::Place { .. })), "{name}");
    });
}
