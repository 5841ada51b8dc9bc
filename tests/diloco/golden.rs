//! Bits of outer steps, computed once by another program that rounds every operation by itself
//! (docs/ARITHMETIC.md, section 17).

use neuroshard::diloco::{Config, Optimizer, Outer, Settings};

use crate::federation::dense;

const WEIGHTS: [f32; 6] = [1.0, -0.7, 0.33, 1e-3, 123.456, -5e3];
const AGGREGATES: [[f32; 6]; 3] = [
    [0.1, -0.2, 0.3, 1e-8, 7.0, -1e4],
    [0.3, 0.1, -0.7, 2e-6, -3.3, 450.0],
    [-0.9, 0.6, 0.01, -5e-7, 0.77, 8e3],
];

/// Rule, bound; then the weights after three steps, and norm and scale of each step.
type Row = (Optimizer, f64, [u32; 6], [u64; 3], [u32; 3]);

const ROWS: [Row; 6] = [
    (
        Optimizer::Nesterov,
        0.0,
        [0x3fb18ec9, 0xbf9a6613, 0x3f6c230e, 0x3a82a8a2, 0x42dfae8b, 0x45ecdacd],
        [0x40c9fa006b145ee0, 0x40b3cf8006398e14, 0x40b6a02692e7af3b],
        [0x3f800000, 0x3f800000, 0x3f800000],
    ),
    (
        Optimizer::Nesterov,
        1000.0,
        [0x3f88c8c0, 0xbf50559a, 0x3efacb30, 0x3a82fe04, 0x42f4bc97, 0xc57a0000],
        [0x40c9fa006b145ee0, 0x40b3cf8006398e14, 0x40b6a02692e7af3b],
        [0x3d99fc24, 0x3e49e9a3, 0x3e30ca7e],
    ),
    (
        Optimizer::HeavyBall,
        0.0,
        [0x3f854951, 0xbf5fa440, 0x3f2f559a, 0x3a82c449, 0x42e40dd3, 0x45f2dc00],
        [0x40bb580070b721a2, 0x40b761001910ebdb, 0x406ab077fa7c1a97],
        [0x3f800000, 0x3f800000, 0x3f800000],
    ),
    (
        Optimizer::HeavyBall,
        1000.0,
        [0x3faa1262, 0xbf8526b1, 0x3f1d3bb6, 0x3a82ebca, 0x42eff3c7, 0xc548d801],
        [0x40bb580070b721a2, 0x40b761001910ebdb, 0x406ab077fa7c1a97],
        [0x3e124922, 0x3e2b182a, 0x3f800000],
    ),
    (
        Optimizer::Sgd,
        0.0,
        [0x3faccccd, 0xbf866666, 0x3f1a5e35, 0x3a82eef7, 0x42f0a76c, 0xc574b000],
        [0x40bb580070b721a2, 0x4073b024927c459e, 0x40b5e000050e0c30],
        [0x3f800000, 0x3f800000, 0x3f800000],
    ),
    (
        Optimizer::Sgd,
        1000.0,
        [0x3f647ae1, 0xbf533333, 0x3f49eb84, 0x3a82e585, 0x42f9f083, 0xc5a61800],
        [0x40bb580070b721a2, 0x4073b024927c459e, 0x40b5e000050e0c30],
        [0x3e124922, 0x3f800000, 0x3e36db6e],
    ),
];

#[test]
fn outer_steps_have_their_golden_bits() {
    for (optimizer, bound, weights, norms, scales) in ROWS {
        let momentum = if optimizer == Optimizer::Sgd { 0.0 } else { 0.9 };
        let config = Config {
            optimizer: Some(optimizer),
            lr: Some(0.7),
            momentum: Some(momentum),
            max_step_norm: bound,
            ..Config::default()
        };
        let settings = Settings::new(&config, 4, dense().as_ref(), 3).unwrap();
        let mut outer = Outer::new(WEIGHTS.to_vec());
        for (i, aggregate) in AGGREGATES.iter().enumerate() {
            let moved = outer.step(&settings, aggregate).unwrap();
            assert_eq!(moved.step_norm.to_bits(), norms[i], "{optimizer:?} {bound} {i}");
            assert_eq!(moved.step_scale.to_bits(), scales[i], "{optimizer:?} {bound} {i}");
        }
        let got: Vec<u32> = outer.weights().iter().map(|w| w.to_bits()).collect();
        assert_eq!(got, weights, "{optimizer:?} {bound}");
    }
}
