//! Causal attention with grouped queries: forward, backward, decoding and the cache.

use neuroshard::ops::Precision;
use neuroshard::ops::attention::*;
use neuroshard::tensor::View;
use neuroshard::tensor::ViewMut;

use crate::chain::Chain;
use crate::chain::dot;
use crate::*;

const PRECISIONS: [Precision; 2] = [Precision::F32, Precision::Bf16];

pub const fn extents([sequences, seq_len, heads, kv_heads, head_dim]: [usize; 5]) -> Extents {
    Extents { sequences, seq_len, heads, kv_heads, head_dim }
}

const EXTENTS: &[Extents] = &[
    extents([0, 5, 2, 1, 4]),    // nothing
    extents([1, 1, 1, 1, 2]),    // one
    extents([2, 9, 6, 2, 4]),    // groups of three, heads below a vector
    extents([3, 17, 2, 2, 16]),  // no groups, a whole vector
    extents([1, 33, 3, 1, 6]),   // an odd number of tokens
    extents([1, 128, 3, 1, 32]), // one tile of keys
    extents([2, 130, 3, 1, 32]), // past it
    extents([1, 257, 2, 1, 10]), // past two, heads that are no whole vector
    extents([1, 129, 2, 1, 128]),
    extents([1, 71, 4, 2, 50]), // sharing no factor
];

pub struct Inputs {
    pub extents: Extents,
    pub qkv: Vec<f32>,
    pub dout: Vec<f32>,
}

/// What forward and backward write.
struct Results {
    out: Vec<f32>,
    lse: Vec<f32>,
    dqkv: Vec<f32>,
}

impl Inputs {
    /// Scores within some ±`spread`.
    pub fn new(extents: Extents, spread: f32) -> Self {
        let mut qkv = paint(extents.rows() * extents.qkv_width(), 251);
        let factor = 2.0 * (spread / (extents.head_dim as f32).sqrt()).sqrt();
        qkv.iter_mut().for_each(|x| *x *= factor);
        Self { extents, qkv, dout: paint(extents.rows() * extents.heads * extents.head_dim, 241) }
    }

    /// Head `head` of the packed row of token `t` of sequence `b`; key heads follow the query
    /// heads, then value heads.
    pub fn at(&self, b: usize, t: usize, head: usize) -> &[f32] {
        let e = self.extents;
        &self.qkv[(b * e.seq_len + t) * e.qkv_width() + head * e.head_dim..][..e.head_dim]
    }

    /// Key and value head of query head `h`.
    pub fn kv(&self, h: usize) -> (usize, usize) {
        let e = self.extents;
        let k = h / (e.heads / e.kv_heads);
        (e.heads + k, e.heads + e.kv_heads + k)
    }

    pub fn out_at(&self, b: usize, t: usize, h: usize) -> std::ops::Range<usize> {
        let e = self.extents;
        let start = ((b * e.seq_len + t) * e.heads + h) * e.head_dim;
        start..start + e.head_dim
    }

    fn naive(&self, precision: Precision) -> Results {
        let e = self.extents;
        let mut results = Results {
            out: vec![0.0; self.dout.len()],
            lse: vec![0.0; e.sequences * e.heads * e.seq_len],
            dqkv: vec![0.0; self.qkv.len()],
        };
        for b in 0..e.sequences {
            for (h, t) in (0..e.heads).flat_map(|h| (0..e.seq_len).map(move |t| (h, t))) {
                let (out, lse) = self.naive_query(precision, b, h, t);
                results.out[self.out_at(b, t, h)].copy_from_slice(&out);
                results.lse[(b * e.heads + h) * e.seq_len + t] = lse;
            }
            (0..e.kv_heads).for_each(|k| self.naive_group(precision, b, k, &mut results));
        }
        results
    }

    /// Output and log of the sum of one query.
    fn naive_query(&self, precision: Precision, b: usize, h: usize, t: usize) -> (Vec<f32>, f32) {
        let (e, (kh, vh)) = (self.extents, self.kv(h));
        let (mut m, mut l, mut o) = (f32::NEG_INFINITY, 0.0f32, vec![0.0f32; e.head_dim]);
        for tile in (0..=t).step_by(KEY_TILE) {
            let keys: Vec<usize> = (tile..=t.min(tile + KEY_TILE - 1)).collect();
            let score = |&j: &usize| dot(precision, self.at(b, t, h), self.at(b, j, kh));
            let s: Vec<f32> = keys.iter().map(|j| score(j) * e.scale()).collect();
            let largest = s.iter().fold(m, |m, &x| if m > x { m } else { x });
            let p: Vec<f32> = s.iter().map(|x| math::exp_scalar(x - largest)).collect();
            let sum = p.iter().fold(0.0f32, |sum, p| sum + p);
            let alpha = math::exp_scalar(m - largest);
            l = if tile == 0 { sum } else { l.mul_add(alpha, sum) };
            for (d, o) in o.iter_mut().enumerate() {
                let mut chain = Chain::new(precision, if tile == 0 { 0.0 } else { *o * alpha });
                keys.iter().zip(&p).for_each(|(&j, &p)| chain.add(p, self.at(b, j, vh)[d]));
                *o = chain.end();
            }
            m = largest;
        }
        let inverse = 1.0 / l;
        (o.iter().map(|o| o * inverse + 0.0).collect(), m + math::log(l))
    }

    /// Gradients of one key/value head and of its queries.
    fn naive_group(&self, precision: Precision, b: usize, k: usize, r: &mut Results) {
        let e = self.extents;
        let (group, d, len) = (e.heads / e.kv_heads, e.head_dim, e.seq_len);
        let (kh, vh) = self.kv(k * group);
        let (mut dk, mut dv) = (vec![0.0f32; len * d], vec![0.0f32; len * d]);
        for h in k * group..(k + 1) * group {
            let dout = |t: usize| &self.dout[self.out_at(b, t, h)];
            let (mut p, mut ds) = (vec![0.0f32; len * len], vec![0.0f32; len * len]);
            for t in 0..len {
                let out = &r.out[self.out_at(b, t, h)];
                let delta = (0..d).fold(0.0f32, |sum, i| dout(t)[i].mul_add(out[i], sum));
                let lse = r.lse[(b * e.heads + h) * len + t];
                for j in 0..=t {
                    let s = dot(precision, self.at(b, t, h), self.at(b, j, kh)) * e.scale();
                    let dp = dot(precision, dout(t), self.at(b, j, vh));
                    let at = t * len + j;
                    p[at] = math::exp_scalar(s - lse);
                    ds[at] = (p[at] * (dp - delta)) * e.scale();
                }
                for i in 0..d {
                    let mut chain = Chain::new(precision, 0.0);
                    (0..=t).for_each(|j| chain.add(ds[t * len + j], self.at(b, j, kh)[i]));
                    r.dqkv[self.packed(b, t, h) + i] = chain.end() + 0.0;
                }
            }
            for (j, i) in (0..len).flat_map(|j| (0..d).map(move |i| (j, i))) {
                let (to_k, to_v) = (&mut dk[j * d + i], &mut dv[j * d + i]);
                let (mut k, mut v) = (Chain::new(precision, *to_k), Chain::new(precision, *to_v));
                // Pairs are counted from the first query; the masked ones are zeros.
                for t in 0..len {
                    v.add(p[t * len + j], dout(t)[i]);
                    k.add(ds[t * len + j], self.at(b, t, h)[i]);
                }
                (*to_k, *to_v) = (k.end(), v.end());
            }
        }
        for (j, i) in (0..len).flat_map(|j| (0..d).map(move |i| (j, i))) {
            r.dqkv[self.packed(b, j, kh) + i] = dk[j * d + i] + 0.0;
            r.dqkv[self.packed(b, j, vh) + i] = dv[j * d + i] + 0.0;
        }
    }

    /// Where a head of a token starts in the packed rows.
    pub fn packed(&self, b: usize, t: usize, head: usize) -> usize {
        (b * self.extents.seq_len + t) * self.extents.qkv_width() + head * self.extents.head_dim
    }

    fn run(&self, cpu: &Cpu, precision: Precision) -> Results {
        let e = self.extents;
        let mut r = Results {
            out: nans(self.dout.len()),
            lse: nans(e.sequences * e.heads * e.seq_len),
            dqkv: nans(self.qkv.len()),
        };
        let rows = [e.rows(), e.heads * e.head_dim];
        let packed = [e.rows(), e.qkv_width()];
        let per_query = [e.sequences, e.heads, e.seq_len];
        let (extents, qkv) = (e, View::of(&self.qkv, &packed));
        let (out, lse) = (ViewMut::of(&mut r.out, &rows), ViewMut::of(&mut r.lse, &per_query));
        forward(cpu, Forward { out, lse, qkv, extents, precision }).unwrap();
        let (out, lse) = (View::of(&r.out, &rows), View::of(&r.lse, &per_query));
        let (dqkv, dout) = (ViewMut::of(&mut r.dqkv, &packed), View::of(&self.dout, &rows));
        backward(cpu, Backward { dqkv, dout, out, lse, qkv, extents, precision }).unwrap();
        r
    }

    /// The formulas in f64: softmax of all scores at once.
    pub fn naive_f64(&self) -> [Vec<f64>; 3] {
        let (e, scale) = (self.extents, 1.0 / (self.extents.head_dim as f64).sqrt());
        let mut out = vec![0.0; self.dout.len()];
        let mut lse = Vec::new();
        let mut dqkv = vec![0.0; self.qkv.len()];
        let product = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
        };
        for (b, h) in (0..e.sequences).flat_map(|b| (0..e.heads).map(move |h| (b, h))) {
            let (kh, vh) = self.kv(h);
            for t in 0..e.seq_len {
                let q = self.at(b, t, h);
                let s: Vec<_> = (0..=t).map(|j| product(q, self.at(b, j, kh)) * scale).collect();
                let m = s.iter().fold(f64::NEG_INFINITY, |m, &s| m.max(s));
                let log_sum = m + s.iter().map(|s| (s - m).exp()).sum::<f64>().ln();
                lse.push(log_sum);
                let p: Vec<_> = s.iter().map(|s| (s - log_sum).exp()).collect();
                let dout = &self.dout[self.out_at(b, t, h)];
                let dp: Vec<_> = (0..=t).map(|j| product(dout, self.at(b, j, vh))).collect();
                let delta: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
                for j in 0..=t {
                    let ds = p[j] * (dp[j] - delta) * scale;
                    for i in 0..e.head_dim {
                        out[self.out_at(b, t, h).start + i] +=
                            p[j] * f64::from(self.at(b, j, vh)[i]);
                        dqkv[self.packed(b, t, h) + i] += ds * f64::from(self.at(b, j, kh)[i]);
                        dqkv[self.packed(b, j, kh) + i] += ds * f64::from(q[i]);
                        dqkv[self.packed(b, j, vh) + i] += p[j] * f64::from(dout[i]);
                    }
                }
            }
        }
        [out, lse, dqkv]
    }
}

fn assert_results(what: &str, got: &Results, want: &Results) {
    assert_bits(&format!("out, {what}"), &got.out, &want.out);
    assert_bits(&format!("lse, {what}"), &got.lse, &want.lse);
    assert_bits(&format!("dqkv, {what}"), &got.dqkv, &want.dqkv);
}

/// Relative to the largest number of the kind. f32: chains of some hundred roundings of 2^-24, and
/// scores up to 8, whose errors enter the probabilities in full. bf16: factors rounded by 2^-8,
/// so that scores are off by up to 8 * 2^-7, but mostly in both directions.
fn assert_formulas(what: &str, got: &Results, exact: &[Vec<f64>; 3], precision: Precision) {
    let tolerance = match precision {
        Precision::F32 => 2e-5,
        Precision::Bf16 | Precision::Tc(_) => 3e-2,
    };
    for (got, exact) in [&got.out, &got.lse, &got.dqkv].into_iter().zip(exact) {
        let largest = exact.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        assert_close(what, got, exact, tolerance, largest);
    }
}

#[test]
fn attention_keeps_the_contract() {
    for &extents in EXTENTS {
        let inputs = Inputs::new(extents, 8.0);
        let exact = inputs.naive_f64();
        for precision in PRECISIONS {
            let want = inputs.naive(precision);
            let what = format!("{extents:?}, {precision:?}");
            each_cpu(|cpu, name| {
                assert_results(&format!("{what}, {name}"), &inputs.run(cpu, precision), &want);
            });
            assert_formulas(&what, &want, &exact, precision);
        }
    }
}

/// Scores so far apart that the exponential is zero, or that a later tile scales all before away.
#[test]
fn far_scores_keep_it() {
    let inputs = Inputs::new(extents([1, 300, 2, 1, 8]), 3000.0);
    for precision in PRECISIONS {
        let want = inputs.naive(precision);
        assert!(want.out.iter().chain(&want.dqkv).all(|x| x.is_finite()));
        each_cpu(|cpu, name| {
            assert_results(&format!("{precision:?}, {name}"), &inputs.run(cpu, precision), &want);
        });
    }
}

/// The f64 gradients that the others are compared with, against central differences.
#[test]
fn the_reference_gradient_is_one() {
    let mut inputs = Inputs::new(extents([2, 5, 4, 2, 4]), 2.0);
    let [_, _, dqkv] = inputs.naive_f64();
    let step = 2f32.powi(-10);
    let loss = |inputs: &Inputs| -> f64 {
        let [out, ..] = inputs.naive_f64();
        out.iter().zip(&inputs.dout).map(|(out, &dout)| out * f64::from(dout)).sum()
    };
    for (at, gradient) in dqkv.iter().enumerate() {
        let x = inputs.qkv[at];
        let (above, below) = (x + step, x - step);
        inputs.qkv[at] = above;
        let mut difference = loss(&inputs);
        inputs.qkv[at] = below;
        difference -= loss(&inputs);
        inputs.qkv[at] = x;
        let slope = difference / f64::from(above - below);
        assert!((slope - gradient).abs() < 1e-5, "[{at}]: {gradient}, but a slope of {slope}");
    }
}

#[test]
fn decoding_gives_the_bits_of_forward() {
    for &extents in EXTENTS.iter().filter(|e| e.sequences == 1) {
        let inputs = Inputs::new(extents, 8.0);
        let Extents { seq_len, heads, kv_heads, head_dim, .. } = extents;
        let (width, kv_width) = (extents.qkv_width(), 2 * kv_heads * head_dim);
        // Positions that are not there yet must not be read.
        let positions = seq_len + 3;
        for precision in PRECISIONS {
            let want = inputs.run(&Cpu::new(Level::PORTABLE, 1).unwrap(), precision);
            each_cpu(|cpu, name| {
                let mut cache = nans(positions * kv_width);
                let halves = [(0, seq_len / 2), (seq_len / 2, seq_len - seq_len / 2)];
                for (first, n) in halves.into_iter().chain([(seq_len - 1, 1), (0, seq_len)]) {
                    let qkv = View::of(&inputs.qkv, &[seq_len, width]).rows(first..first + n);
                    let new =
                        ViewMut::of(&mut cache, &[positions, kv_width]).rows(first..first + n);
                    append(cpu, Append { cache: new, qkv }).unwrap();
                    let mut out = nans(n * heads * head_dim);
                    let args = Decode {
                        out: ViewMut::of(&mut out, &[n, heads * head_dim]),
                        qkv,
                        cache: View::of(&cache, &[positions, kv_width]),
                        first_position: first,
                        extents: Extents { seq_len: n, ..extents },
                        precision,
                    };
                    decode(cpu, args).unwrap();
                    let want = &want.out[first * heads * head_dim..][..n * heads * head_dim];
                    let what = format!("{n} from {first}, {extents:?}, {precision:?}, {name}");
                    assert_bits(&what, &out, want);
                }
                let rows = cache.chunks(kv_width).zip(inputs.qkv.chunks(width));
                for (got, row) in rows {
                    assert_bits("cache", got, &row[width - kv_width..]);
                }
                assert!(cache[seq_len * kv_width..].iter().all(|x| x.is_nan()), "{name}");
            });
        }
    }
}

#[test]
fn later_tokens_change_nothing() {
    let extents = extents([1, 200, 3, 1, 16]);
    let (inputs, mut changed) = (Inputs::new(extents, 8.0), Inputs::new(extents, 8.0));
    let from = 131;
    changed.qkv[from * extents.qkv_width()..].iter_mut().for_each(|x| *x = 3.0 - *x);
    for precision in PRECISIONS {
        each_cpu(|cpu, name| {
            let (a, b) = (inputs.run(cpu, precision).out, changed.run(cpu, precision).out);
            let same = from * extents.heads * extents.head_dim;
            assert_bits(&format!("{precision:?}, {name}"), &a[..same], &b[..same]);
            assert_ne!(a[same..], b[same..]);
        });
    }
}

/// Inputs are finite by contract; if not, it must show in the rows that see them.
#[test]
fn numbers_that_are_none_show() {
    let extents = extents([1, 150, 1, 1, 16]);
    for (head, precision) in (0..3).flat_map(|head| PRECISIONS.map(|p| (head, p))) {
        let mut inputs = Inputs::new(extents, 8.0);
        let at = inputs.packed(0, 140, head) + 5;
        inputs.qkv[at] = f32::NAN;
        each_cpu(|cpu, name| {
            let results = inputs.run(cpu, precision);
            let what = format!("NaN in head {head}, {precision:?}, {name}");
            assert!(results.out[inputs.out_at(0, 140, 0)].iter().any(|x| x.is_nan()), "{what}");
            assert!(results.dqkv.iter().any(|x| x.is_nan()), "{what}");
        });
    }
}

#[test]
fn wrong_extents_and_shapes_are_refused() {
    let cpu = Cpu::new(Level::best(), 1).unwrap();
    let precision = Precision::F32;
    let run = |e: Extents, out: &[usize], lse: &[usize]| {
        let qkv = vec![0.0; e.rows() * e.qkv_width()];
        let (mut o, mut l) = (nans(out.iter().product()), nans(lse.iter().product()));
        let (out, lse) = (ViewMut::of(&mut o, out), ViewMut::of(&mut l, lse));
        let qkv = View::of(&qkv, &[e.rows(), e.qkv_width()]);
        forward(&cpu, Forward { out, lse, qkv, extents: e, precision })
    };
    let e = extents([2, 3, 4, 2, 6]);
    assert_eq!(run(e, &[6, 24], &[2, 4, 3]), Ok(()));
    let wrong = refused("attention::forward out", &[6, 24], &[24, 6]);
    assert_eq!(run(e, &[24, 6], &[2, 4, 3]), wrong);
    let wrong = refused("attention::forward lse", &[2, 4, 3], &[2, 3, 4]);
    assert_eq!(run(e, &[6, 24], &[2, 3, 4]), wrong);
    for bad in [
        extents([2, 3, 4, 3, 6]), // heads that no group divides
        extents([2, 3, 4, 0, 6]), // no key
        extents([2, 3, 4, 2, 5]), // an odd width
        extents([2, 3, 4, 2, 0]), // none
    ] {
        let result = run(bad, &[6, 4 * bad.head_dim], &[2, 4, 3]);
        let extent = |e: &OpError| matches!(e, OpError::Extent { .. });
        assert!(result.as_ref().is_err_and(extent), "{bad:?}: {result:?}");
    }
    let x = vec![0.0; 400];
    let view = |shape: &[usize]| View::of(&x[..shape.iter().product()], shape);
    let mut d = nans(288);
    let args = Backward {
        dqkv: ViewMut::of(&mut d, &[6, 48]),
        dout: view(&[6, 12]),
        out: view(&[6, 24]),
        lse: view(&[2, 4, 3]),
        qkv: view(&[6, 48]),
        extents: e,
        precision,
    };
    assert_eq!(backward(&cpu, args), refused("attention::backward dout", &[6, 24], &[6, 12]));
    let decoded = |extents: Extents, positions: usize| {
        let mut out = nans(extents.rows() * 24);
        let args = Decode {
            out: ViewMut::of(&mut out, &[extents.rows(), 24]),
            qkv: view(&[extents.rows(), 48]),
            cache: view(&[positions, 24]),
            first_position: 2,
            extents,
            precision,
        };
        decode(&cpu, args)
    };
    let one = Extents { sequences: 1, ..e };
    assert_eq!(decoded(one, 5), Ok(()));
    assert_eq!(decoded(one, 4), refused("attention::decode cache", &[5, 24], &[4, 24]));
    assert!(matches!(decoded(e, 5), Err(OpError::Extent { .. })));
    let (mut cache, wrong) = (nans(12), refused("attention::append qkv", &[3, 8], &[2, 8]));
    let args = Append { cache: ViewMut::of(&mut cache, &[3, 4]), qkv: view(&[2, 8]) };
    assert_eq!(append(&cpu, args), wrong);
}
