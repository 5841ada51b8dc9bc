//! The schedule, its bits and its failures, on devices in host memory.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::fake::{FakeLink, FakeRank, FakeStream, on_devices};
use super::{Share, device_group};
use crate::backend::cuda::Cuda;
use crate::collective::{Error, Parts, threads};
use crate::ops::elementwise;
use crate::tensor::{DType, Tensor, View, ViewMut};

/// Values whose sums differ in every order.
fn term(rank: usize, i: usize) -> f32 {
    let x = (rank * 2_654_435_761 + i * 40_503 + 12_345) % 65_521;
    (x as f32 / 65_521.0 - 0.5) * [1.0e8, 1.0, 1.0e-3, -1.0e8, 3.0e4][(rank * 3 + i) % 5]
}

impl FakeRank {
    fn terms(&self, len: usize) -> Vec<f32> {
        (0..len).map(|i| term(self.comm.rank(), i)).collect()
    }

    fn upload<E: crate::tensor::Element>(&self, data: &[E]) -> Tensor {
        let k = self.kernels.as_ref();
        let mut tensor = k.zeros(E::DTYPE, &[data.len()]).unwrap();
        elementwise::copy(k, tensor.view_mut(), View::of(data, &[data.len()])).unwrap();
        tensor
    }

    fn download<E: crate::tensor::Element + Default>(&self, tensor: &Tensor) -> Vec<E> {
        let mut data = vec![E::default(); tensor.shape().len()];
        let view = ViewMut::of(&mut data, &tensor.shape());
        elementwise::copy(self.kernels.as_ref(), view, tensor.view()).unwrap();
        data
    }
}

/// Tensors of a call: ragged, empty, of one element, with parts of one element and of blocks.
fn divisions(ranks: usize) -> Vec<Parts> {
    [(10_007, 1), (0, 1), (1, 1), (5, 4), (4_097, 16), (40_000, 4_096)]
        .map(|(len, block)| Parts::even(len, ranks, block))
        .to_vec()
}

fn shares<'a>(tensors: &'a mut [Tensor], parts: &[Parts]) -> Vec<Share<'a>> {
    let share = |(tensor, parts): (&'a mut Tensor, &Parts)| Share {
        data: tensor.view_mut(),
        parts: parts.clone(),
    };
    tensors.iter_mut().zip(parts).map(share).collect()
}

fn bits(data: &[f32]) -> Vec<u32> {
    data.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn sums_have_the_bits_of_sums_in_host_memory() {
    for ranks in [1, 2, 4, 8] {
        on_devices(ranks, |rank| {
            let parts = divisions(ranks);
            let mine: Vec<_> = parts.iter().map(|parts| rank.terms(parts.len())).collect();
            let mut wanted = mine.clone();
            wanted.iter_mut().for_each(|data| rank.comm.all_reduce(data).unwrap());
            // Twice, so that the second call finds what the first left behind.
            for _ in 0..2 {
                let mut scattered: Vec<_> = mine.iter().map(|data| rank.upload(data)).collect();
                let after = rank.devices.computed().unwrap();
                rank.devices.reduce_scatter(&after, shares(&mut scattered, &parts)).unwrap();
                let mut reduced: Vec<_> = mine.iter().map(|data| rank.upload(data)).collect();
                let after = rank.devices.computed().unwrap();
                rank.devices.all_reduce(&after, shares(&mut reduced, &parts)).unwrap();
                for (t, want) in wanted.iter().enumerate() {
                    let own = parts[t].of(rank.comm.rank());
                    let got = rank.download::<f32>(&scattered[t]);
                    assert_eq!(bits(&got[own.clone()]), bits(&want[own]), "{t} of {ranks}");
                    assert_eq!(bits(&rank.download::<f32>(&reduced[t])), bits(want));
                }
            }
        });
    }
}

#[test]
fn parts_of_any_type_are_gathered() {
    for ranks in [1, 2, 4, 8] {
        on_devices(ranks, |rank| {
            let parts = divisions(ranks);
            let own = rank.comm.rank();
            let mine = |parts: &Parts| -> Vec<half::bf16> {
                let x = |i| if parts.of(own).contains(&i) { own as f32 + 1.0 } else { -1.0 };
                (0..parts.len()).map(|i| half::bf16::from_f32(x(i))).collect()
            };
            let mut tensors: Vec<_> = parts.iter().map(|p| rank.upload(&mine(p))).collect();
            let after = rank.devices.computed().unwrap();
            rank.devices.all_gather(&after, shares(&mut tensors, &parts)).unwrap();
            for (tensor, parts) in tensors.iter().zip(&parts) {
                let got = rank.download::<half::bf16>(tensor);
                for owner in 0..ranks {
                    let theirs = &got[parts.of(owner)];
                    assert!(theirs.iter().all(|x| x.to_f32() == owner as f32 + 1.0));
                }
            }
        });
    }
}

#[test]
fn what_is_computed_after_the_moment_takes_no_part() {
    on_devices(2, |rank| {
        let mut first = rank.upload(&[1.0f32; 8]);
        let after = rank.devices.computed().unwrap();
        let second = rank.upload(&[5.0f32; 8]);
        let parts = Parts::even(8, 2, 1);
        let share = Share { data: first.view_mut(), parts };
        rank.devices.all_reduce(&after, vec![share]).unwrap();
        assert_eq!(rank.download::<f32>(&first), [2.0; 8]);
        assert_eq!(rank.download::<f32>(&second), [5.0; 8]);
    });
}

#[test]
fn another_call_is_out_of_step_and_named() {
    on_devices(4, |rank| {
        let len = if rank.comm.rank() == 2 { 65 } else { 64 };
        let mut data = rank.upload(&vec![1.0f32; len]);
        let after = rank.devices.computed().unwrap();
        let share = Share { data: data.view_mut(), parts: Parts::even(len, 4, 1) };
        let error = rank.devices.all_reduce(&after, vec![share]).unwrap_err();
        let Error::OutOfStep { rank: named, .. } = error else { panic!("{error}") };
        assert!(rank.comm.rank() == 2 || named == 12, "{named}");
        // A sum that follows cannot be wrong.
        let again = rank.devices.all_reduce(&after, Vec::new());
        assert!(matches!(again, Err(Error::OutOfStep { .. })));
        assert!(rank.link.given_up.load(Ordering::Relaxed));
    });
}

#[test]
fn a_rank_that_does_not_come_is_named_before_any_device_waits_for_it() {
    on_devices(4, |rank| {
        rank.comm.set_patience(Duration::from_millis(300));
        rank.comm.barrier().unwrap();
        if rank.comm.rank() == 3 {
            std::thread::sleep(Duration::from_millis(1500));
            return;
        }
        let mut data = rank.upload(&[1.0f32; 64]);
        let after = rank.devices.computed().unwrap();
        let share = Share { data: data.view_mut(), parts: Parts::even(64, 4, 1) };
        let error = rank.devices.all_reduce(&after, vec![share]).unwrap_err();
        assert!(matches!(&error, Error::Silent { ranks, .. } if ranks == &[3]), "{error}");
    });
}

#[test]
fn a_failure_of_the_link_ends_the_group() {
    on_devices(2, |rank| {
        rank.link.loses.store(true, Ordering::Relaxed);
        let mut data = rank.upload(&[1.0f32; 64]);
        let after = rank.devices.computed().unwrap();
        let share = Share { data: data.view_mut(), parts: Parts::even(64, 2, 1) };
        let error = rank.devices.all_reduce(&after, vec![share]).unwrap_err();
        assert!(error.to_string().contains("a cut wire"), "{error}");
        assert!(rank.link.given_up.load(Ordering::Relaxed));
        rank.link.loses.store(false, Ordering::Relaxed);
        assert!(rank.devices.all_gather(&after, Vec::new()).is_err());
    });
}

#[test]
fn own_mistakes_are_refused_and_the_group_lives_on() {
    on_devices(2, |rank| {
        let after = rank.devices.computed().unwrap();
        let mut data = rank.upload(&[1.0f32; 64]);
        let short = Share { data: data.view_mut(), parts: Parts::even(63, 2, 1) };
        let error = rank.devices.all_reduce(&after, vec![short]).unwrap_err();
        assert!(matches!(error, Error::Group { .. }), "{error}");
        let mut rounded = rank.upload(&[half::bf16::ONE; 64]);
        let sum = Share { data: rounded.view_mut(), parts: Parts::even(64, 2, 1) };
        let error = rank.devices.all_reduce(&after, vec![sum]).unwrap_err();
        assert!(error.to_string().contains("is of f32, not of Bf16"), "{error}");
        let mut elsewhere = Tensor::zeros(DType::F32, &[64]);
        let host = Share { data: elsewhere.view_mut(), parts: Parts::even(64, 2, 1) };
        assert!(rank.devices.all_reduce(&after, vec![host]).is_err());
        let well = Share { data: data.view_mut(), parts: Parts::even(64, 2, 1) };
        rank.devices.all_reduce(&after, vec![well]).unwrap();
    });
}

#[test]
fn numbers_of_ranks_that_make_no_tree_are_refused() {
    std::thread::scope(|scope| {
        for comm in threads(3) {
            scope.spawn(move || {
                let cuda = Cuda::new(std::sync::Arc::new(FakeStream::of_new_device()));
                let link = std::sync::Arc::new(FakeLink::over(comm.as_ref()));
                let error = device_group(comm.as_ref(), &cuda, link, 0).unwrap_err();
                assert!(error.to_string().contains("a power of two"), "{error}");
            });
        }
    });
}
