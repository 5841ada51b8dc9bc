//! Copies between host and device, and what is refused.

use neuroshard::ops::OpError;
use neuroshard::ops::elementwise::*;
use neuroshard::tensor::DType;

use half::bf16;
use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::backend::cuda::Cuda;
use neuroshard::ops;
use neuroshard::ops::Kernels;
use neuroshard::tensor::Element;
use neuroshard::tensor::Tensor;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::case::{SHAPES, paint};
use crate::each_door;

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
        assert_eq!(download::<f32>(cuda, &table), want, "{name}");
    });
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
        let outcome = fill(&Cpu::new(Level::PORTABLE, 1).unwrap(), numbers.view_mut(), 1.0);
        assert!(matches!(outcome, Err(OpError::Place { .. })), "{name}");
        let outcome = fill(cuda, ViewMut::of(&mut on_host, &[4]), 1.0);
        assert!(matches!(outcome, Err(OpError::Place { .. })), "{name}");
    });
}

/// A tensor on the device with the elements `data`.
fn upload<E: Element>(cuda: &Cuda, data: &[E], shape: &[usize]) -> Tensor {
    let mut tensor = cuda.zeros(E::DTYPE, shape).unwrap();
    ops::elementwise::copy(cuda, tensor.view_mut(), View::of(data, shape)).unwrap();
    tensor
}

/// The elements of a tensor on the device.
fn download<E: Element>(cuda: &Cuda, tensor: &Tensor) -> Vec<E> {
    let shape = tensor.shape();
    let mut data = vec![E::zeroed(); shape.len()];
    ops::elementwise::copy(cuda, ViewMut::of(&mut data, &shape), tensor.view()).unwrap();
    data
}
