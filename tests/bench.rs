//! The cases of `neuroshard bench`: that all run, count what they should, and find what is wrong.

use std::cell::Cell;
use std::sync::Arc;

use neuroshard::backend::cpu::Cpu;
use neuroshard::backend::cpu::Level;
use neuroshard::bench::Case;
use neuroshard::bench::Ceilings;
use neuroshard::bench::Effort;
use neuroshard::bench::Fill;
use neuroshard::bench::Measured;
use neuroshard::bench::OPERATIONS;
use neuroshard::bench::Origin;
use neuroshard::bench::Roof;
use neuroshard::bench::Row;
use neuroshard::bench::Selection;
use neuroshard::bench::Spec;
use neuroshard::bench::Traffic;
use neuroshard::bench::equal::Verdict;
use neuroshard::bench::equal::check;
use neuroshard::bench::measure;
use neuroshard::bench::svg;
use neuroshard::bench::sweep::SweepError;
use neuroshard::bench::sweep::sweep;
use neuroshard::bench::tensor_core::CLASSES;
use neuroshard::bench::tensor_core::compare;
use neuroshard::model::Config;
use neuroshard::ops::Kernels;
use neuroshard::ops::Precision;
use neuroshard::ops::TensorCore;
use neuroshard::ops::elementwise;
use neuroshard::tensor::DType;

const PLAIN: [Precision; 2] = [Precision::F32, Precision::Bf16];

fn nano(tokens: usize) -> Selection {
    let dims = Config::default().dims().unwrap();
    Selection {
        precisions: PLAIN.into(),
        models: vec![("nano".into(), dims)],
        tokens,
        seq_len: tokens / 2,
        ..Selection::default()
    }
}

fn cpu(level: Level) -> Cpu {
    Cpu::new(level, 2).unwrap()
}

/// The case of `op` and `pass` at one shape, in f32.
fn one(op: &str, pass: &str, shape: &[usize]) -> Case {
    let mut selection = nano(2);
    selection.precisions.truncate(1);
    selection.shapes = vec![shape.to_vec()];
    let found = selection.cases().unwrap().into_iter().find(|c| (c.op, c.pass) == (op, pass));
    found.unwrap()
}

#[test]
fn every_operation_is_measured_at_a_models_shapes() {
    let (cpu, effort) = (cpu(Level::best()), Effort::QUICK);
    let mut ceilings = Ceilings::new(&cpu, &effort).unwrap();
    let cases = nano(6).cases().unwrap();
    for (op, ..) in OPERATIONS {
        assert!(cases.iter().any(|case| case.op == op), "{op} has no case");
    }
    for case in &cases {
        let measured = measure(&cpu, case, &mut ceilings, &effort).unwrap();
        let row = Row::new(case, &measured, &Origin::of("test".into()));
        assert!(row.bytes > 0 && row.ceiling > 0.0 && row.pct > 0.0, "{row:?}");
        assert!(row.ms_p20 <= row.ms_p50 && row.ms_p50 <= row.ms_p80, "{row:?}");
        assert!(row.place.starts_with("nano"), "{row:?}");
    }
}

#[test]
fn bytes_and_flops_follow_the_conventions() {
    // 4 B H T T D, of which the causal half; backward 2.5 times that.
    let shape = [2, 64, 6, 2, 32];
    let forward = 4 * 2 * 6 * 64 * 64 * 32 / 2;
    assert_eq!(one("attention", "forward", &shape).flops, forward);
    assert_eq!(one("attention", "backward", &shape).flops, forward * 5 / 2);
    let product = one("matmul", "backward_weight", &[10, 20, 30]);
    assert_eq!((product.flops, product.bytes()), (12_000, 4 * (200 + 300 + 600)));
    // Input and output, one weight a column, one root a row.
    assert_eq!(one("rmsnorm", "forward", &[10, 20]).bytes(), 4 * (2 * 200 + 20 + 10));
    // Parameter and both moments are read and written, the gradient is read.
    assert_eq!(one("adamw", "update", &[100]).bytes(), 4 * 7 * 100);
}

#[test]
fn unknown_operations_and_shapes_are_refused() {
    let named = Selection { ops: vec!["matmull".into()], ..nano(2) };
    assert!(named.cases().unwrap_err().contains("matmul (NxIxO)"));
    let shaped = Selection { shapes: vec![vec![1; 4]], ..nano(2) };
    assert!(shaped.cases().unwrap_err().contains("no operation has such a shape"));
}

#[test]
fn ragged_shapes_give_equal_bits_on_two_levels() {
    let (best, portable) = (cpu(Level::best()), cpu(Level::PORTABLE));
    for case in Selection::ragged(PLAIN.into()).cases().unwrap() {
        let verdict = check(&best, Some(&portable), &case, 2).unwrap();
        assert!(matches!(verdict, Verdict::Equal(_)), "{case:?}: {verdict:?}");
    }
}

/// A case whose call writes what `value` says.
fn planted(value: impl Fn(&dyn Kernels) -> f32 + 'static) -> Case {
    let spec =
        Spec { dtype: DType::F32, shape: vec![5], fill: Fill::Numbers, traffic: Traffic::Written };
    Case::new(("planted", "fill"), Precision::F32, &[5], [spec], move |kernels, [out]| {
        elementwise::fill(kernels, out.view_mut(), value(kernels))
    })
}

#[test]
fn a_run_with_other_bits_is_found() {
    let (best, calls) = (cpu(Level::best()), Cell::new(0));
    let case = planted(move |_| {
        calls.set(calls.get() + 1);
        if calls.get() == 3 { 1.0000001 } else { 1.0 }
    });
    assert_eq!(check(&best, None, &case, 4).unwrap(), Verdict::Unsteady { run: 3 });
}

#[test]
fn a_device_with_other_bits_is_found() {
    let (one, two) = (Cpu::new(Level::PORTABLE, 1).unwrap(), Cpu::new(Level::PORTABLE, 2).unwrap());
    let case = planted(|kernels| if kernels.describe().contains("2 threads") { 0.0 } else { -0.0 });
    assert_eq!(check(&one, Some(&two), &case, 2).unwrap(), Verdict::Differs);
    assert!(matches!(check(&one, Some(&one), &case, 2).unwrap(), Verdict::Equal(_)));
}

#[test]
fn quantiles_are_nearest_ranks() {
    let measured = Measured { seconds: vec![1.0, 2.0, 3.0, 4.0, 5.0], ceiling: 1.0 };
    assert_eq!([0.2, 0.5, 0.8].map(|share| measured.quantile(share)), [1.0, 3.0, 4.0]);
    let measured = Measured { seconds: vec![7.0], ceiling: 1.0 };
    assert_eq!(measured.quantile(0.2), 7.0);
}

#[test]
fn the_roofline_has_axes_roofs_and_points() {
    let case = one("matmul", "forward", &[64, 64, 64]);
    let measured = Measured { seconds: vec![1e-5], ceiling: 1e12 };
    let row = Row::new(&case, &measured, &Origin::of("a <device> & \"more\"".into()));
    let ceilings = [(Roof::Copy, 50e9), (Roof::Products("f32"), 1e12)];
    let picture = svg(std::slice::from_ref(&row), &ceilings, &row.origin.device);
    for part in ["FLOP per byte", "attained FLOP/s", "copy 50 GB/s", "f32 1 TFLOP/s", "&lt;device"]
    {
        assert!(picture.contains(part), "no `{part}` in {picture}");
    }
    assert_eq!(picture.matches("<circle").count(), 2, "a point and its legend");
    for tag in ["svg", "text", "title"] {
        let (open, close) = (format!("<{tag}"), format!("</{tag}>"));
        assert_eq!(picture.matches(&open).count(), picture.matches(&close).count(), "{tag}");
    }
    // Nothing measured is a picture too.
    assert!(svg(&[], &[], "empty").ends_with("</svg>\n"));
}

/// Kernels of so many threads, as if that were a launch parameter.
fn of_threads(threads: usize) -> Arc<dyn Kernels> {
    Arc::new(Cpu::new(Level::PORTABLE, threads).unwrap())
}

#[test]
fn a_sweep_chooses_among_equals_and_finds_others() {
    let case = one("swiglu", "forward", &[7, 40]);
    let choice = sweep(&[&case], (&[1, 2], 1), &of_threads, &Effort::QUICK).unwrap();
    assert_eq!(choice.times.iter().map(|(value, _)| *value).collect::<Vec<_>>(), [1, 2]);
    assert!([1, 2].contains(&choice.value));
    let case = planted(|kernels| if kernels.describe().contains("2 threads") { 0.5 } else { 0.25 });
    let found = sweep(&[&case], (&[1, 2], 1), &of_threads, &Effort::QUICK);
    assert!(matches!(found, Err(SweepError::Unequal { value: 2, usual: 1, .. })), "{found:?}");
}

#[test]
fn random_products_follow_the_model_and_another_core_does_not() {
    let (best, portable) = (cpu(Level::best()), cpu(Level::PORTABLE));
    let (hopper, ampere) = (TensorCore::Hopper, TensorCore::Ampere);
    for core in [hopper, ampere] {
        let found = compare((&best, core), (&portable, core), 40_000, &mut |_| true).unwrap();
        assert_eq!(found.len(), CLASSES.len());
        for tally in found {
            assert!(tally.outputs > 0 && tally.different == 0, "{core:?}: {tally:?}");
        }
    }
    let found = compare((&best, ampere), (&portable, hopper), 40_000, &mut |_| true).unwrap();
    let blind: Vec<_> = found.iter().filter(|t| t.different == 0 || t.first.is_none()).collect();
    assert!(blind.is_empty(), "these classes cannot tell the cores apart: {blind:?}");
}
