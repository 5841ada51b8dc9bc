//! quick
#![allow(clippy::needless_range_loop, reason = "index notation, as in the contract")]
use half::bf16;
use neuroshard::backend::cpu::{Cpu, Level, math};
use neuroshard::ops::Precision;
use neuroshard::ops::attention::{self, Extents, KEY_TILE};
use neuroshard::tensor::{View, ViewMut};

fn paint(n: usize, p: usize, scale: f32) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 % p) as f32 / p as f32 - 0.5) * scale).collect()
}
fn exp(x: f32) -> f32 {
    math::exp_scalar(x)
}
struct Chain {
    p: Precision,
    acc: f32,
    pending: Option<(f32, f32)>,
}
impl Chain {
    fn new(p: Precision, acc: f32) -> Self {
        Self { p, acc, pending: None }
    }
    fn r(x: f32) -> f32 {
        let v = bf16::from_f32(x).to_f32();
        Self::f(v)
    }
    fn f(x: f32) -> f32 {
        if x.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(x) } else { x }
    }
    fn add(&mut self, a: f32, b: f32) {
        match self.p {
            Precision::F32 => self.acc = a.mul_add(b, self.acc),
            Precision::Bf16 => {
                let (a, b) = (Self::r(a), Self::r(b));
                match self.pending.take() {
                    None => self.pending = Some((a, b)),
                    Some((c, d)) => {
                        self.acc = Self::f(a.mul_add(b, Self::f(self.acc)));
                        self.acc = Self::f(c.mul_add(d, self.acc));
                    }
                }
            }
        }
    }
    fn end(mut self) -> f32 {
        if self.pending.is_some() {
            self.add(0.0, 0.0);
        }
        self.acc
    }
}
fn dot(p: Precision, a: &[f32], b: &[f32]) -> f32 {
    let mut c = Chain::new(p, 0.0);
    for (x, y) in a.iter().zip(b) {
        c.add(*x, *y)
    }
    c.end()
}
struct Naive {
    out: Vec<f32>,
    lse: Vec<f32>,
    dqkv: Vec<f32>,
}
fn naive(e: Extents, p: Precision, qkv: &[f32], dout: &[f32]) -> Naive {
    let (w, d, hd) = (e.qkv_width(), e.head_dim, e.heads * e.head_dim);
    let mut r = Naive {
        out: vec![0.0; e.rows() * hd],
        lse: vec![0.0; e.sequences * e.heads * e.seq_len],
        dqkv: vec![0.0; e.rows() * w],
    };
    let g = e.heads / e.kv_heads;
    let scale = e.scale();
    for b in 0..e.sequences {
        let at = |t: usize, head: usize| &qkv[(b * e.seq_len + t) * w + head * d..][..d];
        for h in 0..e.heads {
            for t in 0..e.seq_len {
                let (kh, vh) = (e.heads + h / g, e.heads + e.kv_heads + h / g);
                let (mut m, mut l, mut o) = (f32::NEG_INFINITY, 0.0f32, vec![0.0f32; d]);
                for tile in (0..=t).step_by(KEY_TILE) {
                    let js: Vec<usize> = (tile..=(t.min(tile + KEY_TILE - 1))).collect();
                    let s: Vec<f32> =
                        js.iter().map(|&j| dot(p, at(t, h), at(j, kh)) * scale).collect();
                    let m2 = s.iter().fold(m, |m, &x| if m > x { m } else { x });
                    let pr: Vec<f32> = s.iter().map(|x| exp(x - m2)).collect();
                    let ts = pr.iter().fold(0.0f32, |a, x| a + x);
                    let alpha = exp(m - m2);
                    l = if tile == 0 { ts } else { l.mul_add(alpha, ts) };
                    for i in 0..d {
                        let start = if tile == 0 { 0.0 } else { o[i] * alpha };
                        let mut c = Chain::new(p, start);
                        for (k, &j) in js.iter().enumerate() {
                            c.add(pr[k], at(j, vh)[i]);
                        }
                        o[i] = c.end();
                    }
                    m = m2;
                }
                let inv = 1.0 / l;
                for i in 0..d {
                    r.out[(b * e.seq_len + t) * hd + h * d + i] = o[i] * inv + 0.0;
                }
                r.lse[(b * e.heads + h) * e.seq_len + t] = m + math::log(l);
            }
        }
        // backward
        for k in 0..e.kv_heads {
            let (kh, vh) = (e.heads + k, e.heads + e.kv_heads + k);
            let mut dk = vec![0.0f32; e.seq_len * d];
            let mut dv = dk.clone();
            for h in k * g..(k + 1) * g {
                let doh = |t: usize| &dout[(b * e.seq_len + t) * hd + h * d..][..d];
                let mut pm = vec![0.0f32; e.seq_len * e.seq_len];
                let mut ds = pm.clone();
                for t in 0..e.seq_len {
                    let delta = (0..d).fold(0.0f32, |a, i| {
                        doh(t)[i].mul_add(r.out[(b * e.seq_len + t) * hd + h * d + i], a)
                    });
                    for j in 0..=t {
                        let s = dot(p, at(t, h), at(j, kh)) * scale;
                        let pv = exp(s - r.lse[(b * e.heads + h) * e.seq_len + t]);
                        pm[t * e.seq_len + j] = pv;
                        ds[t * e.seq_len + j] = (pv * (dot(p, doh(t), at(j, vh)) - delta)) * scale;
                    }
                    for i in 0..d {
                        let mut c = Chain::new(p, 0.0);
                        for j in 0..=t {
                            c.add(ds[t * e.seq_len + j], at(j, kh)[i]);
                        }
                        r.dqkv[(b * e.seq_len + t) * w + h * d + i] = c.end() + 0.0;
                    }
                }
                for j in 0..e.seq_len {
                    for i in 0..d {
                        let mut c = Chain::new(p, dv[j * d + i]);
                        let mut c2 = Chain::new(p, dk[j * d + i]);
                        for t in 0..e.seq_len {
                            c.add(pm[t * e.seq_len + j], doh(t)[i]);
                            c2.add(ds[t * e.seq_len + j], at(t, h)[i]);
                        }
                        dv[j * d + i] = c.end();
                        dk[j * d + i] = c2.end();
                    }
                }
            }
            for j in 0..e.seq_len {
                for i in 0..d {
                    let row = (b * e.seq_len + j) * w;
                    r.dqkv[row + kh * d + i] = dk[j * d + i] + 0.0;
                    r.dqkv[row + vh * d + i] = dv[j * d + i] + 0.0;
                }
            }
        }
    }
    r
}
fn same(what: &str, got: &[f32], want: &[f32]) {
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert_eq!(g.to_bits(), w.to_bits(), "{what} at {i}: {g} {w}");
    }
}
#[test]
fn quick() {
    for (b, t, h, k, d) in [
        (1, 1, 1, 1, 2),
        (2, 9, 6, 2, 4),
        (1, 33, 3, 1, 6),
        (1, 130, 3, 1, 32),
        (1, 257, 2, 1, 10),
        (1, 129, 2, 1, 128),
    ] {
        let e = Extents { sequences: b, seq_len: t, heads: h, kv_heads: k, head_dim: d };
        let qkv = paint(e.rows() * e.qkv_width(), 251, 4.0);
        let dout = paint(e.rows() * h * d, 241, 2.0);
        for p in [Precision::F32, Precision::Bf16] {
            let want = naive(e, p, &qkv, &dout);
            for level in Level::available() {
                for threads in [1, 3] {
                    let cpu = Cpu::new(level, threads).unwrap();
                    let mut out = vec![f32::NAN; want.out.len()];
                    let mut lse = vec![f32::NAN; want.lse.len()];
                    let mut dqkv = vec![f32::NAN; qkv.len()];
                    let (ns, ws, ls) = ([e.rows(), h * d], [e.rows(), e.qkv_width()], [b, h, t]);
                    attention::forward(
                        &cpu,
                        attention::Forward {
                            out: ViewMut::of(&mut out, &ns),
                            lse: ViewMut::of(&mut lse, &ls),
                            qkv: View::of(&qkv, &ws),
                            extents: e,
                            precision: p,
                        },
                    )
                    .unwrap();
                    let tag = format!("{level} {p:?} {e:?}");
                    same(&format!("out {tag}"), &out, &want.out);
                    same(&format!("lse {tag}"), &lse, &want.lse);
                    attention::backward(
                        &cpu,
                        attention::Backward {
                            dqkv: ViewMut::of(&mut dqkv, &ws),
                            dout: View::of(&dout, &ns),
                            out: View::of(&out, &ns),
                            lse: View::of(&lse, &ls),
                            qkv: View::of(&qkv, &ws),
                            extents: e,
                            precision: p,
                        },
                    )
                    .unwrap();
                    same(&format!("dqkv {tag}"), &dqkv, &want.dqkv);
                    if b == 1 {
                        let kd = 2 * k * d;
                        let mut cache = vec![f32::NAN; (t + 3) * kd];
                        for i in 0..t {
                            cache[i * kd..][..kd]
                                .copy_from_slice(&qkv[i * e.qkv_width() + h * d..][..kd]);
                        }
                        for (first, n) in [(t - 1, 1), (t / 2, t - t / 2), (0, t)] {
                            let mut out = vec![f32::NAN; n * h * d];
                            attention::decode(
                                &cpu,
                                attention::Decode {
                                    out: ViewMut::of(&mut out, &[n, h * d]),
                                    qkv: View::of(
                                        &qkv[first * e.qkv_width()..][..n * e.qkv_width()],
                                        &[n, e.qkv_width()],
                                    ),
                                    cache: View::of(&cache, &[t + 3, kd]),
                                    first_position: first,
                                    extents: Extents { seq_len: n, ..e },
                                    precision: p,
                                },
                            )
                            .unwrap();
                            same(
                                &format!("decode {first} {n} {tag}"),
                                &out,
                                &want.out[first * h * d..][..n * h * d],
                            );
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
        for (b, t, h, k, d) in [
            (4, 256, 6, 2, 32),
            (4, 256, 6, 2, 64),
            (2, 512, 12, 4, 64),
            (1, 1024, 12, 4, 64),
            (1, 2048, 6, 2, 128),
        ] {
            let e = Extents { sequences: b, seq_len: t, heads: h, kv_heads: k, head_dim: d };
            let qkv = paint(e.rows() * e.qkv_width(), 251, 4.0);
            let dout = paint(e.rows() * h * d, 241, 2.0);
            for p in [Precision::F32, Precision::Bf16] {
                let cpu = Cpu::new(Level::best(), threads).unwrap();
                let mut out = vec![f32::NAN; e.rows() * h * d];
                let mut lse = vec![f32::NAN; b * h * t];
                let mut dqkv = vec![f32::NAN; qkv.len()];
                let (ns, ws, ls) = ([e.rows(), h * d], [e.rows(), e.qkv_width()], [b, h, t]);
                let mut best = [0.0f64; 2];
                let flops = 2.0 * (b * h * t * t * d) as f64;
                for _ in 0..15 {
                    let s = std::time::Instant::now();
                    attention::forward(
                        &cpu,
                        attention::Forward {
                            out: ViewMut::of(&mut out, &ns),
                            lse: ViewMut::of(&mut lse, &ls),
                            qkv: View::of(&qkv, &ws),
                            extents: e,
                            precision: p,
                        },
                    )
                    .unwrap();
                    best[0] = best[0].max(flops / s.elapsed().as_secs_f64() / 1e9);
                    let s = std::time::Instant::now();
                    attention::backward(
                        &cpu,
                        attention::Backward {
                            dqkv: ViewMut::of(&mut dqkv, &ws),
                            dout: View::of(&dout, &ns),
                            out: View::of(&out, &ns),
                            lse: View::of(&lse, &ls),
                            qkv: View::of(&qkv, &ws),
                            extents: e,
                            precision: p,
                        },
                    )
                    .unwrap();
                    best[1] = best[1].max(2.5 * flops / s.elapsed().as_secs_f64() / 1e9);
                }
                println!("{threads} {p:?} {e:?}: fwd {:.0} bwd {:.0} GF", best[0], best[1]);
            }
        }
    }
}
