//! The roofline picture (Williams, Waterman and Patterson 2009, doi:10.1145/1498765.1498785) as SVG:
//! FLOP/s over FLOPs per byte, both logarithmic, under the measured ceilings.

use std::fmt::Write;

use super::Roof;
use super::Row;
use crate::plot;
use crate::plot::escaped;
use crate::plot::si;
use crate::plot::text;

/// The measured cases under the measured ceilings. Cases without FLOPs have no place in it.
pub fn svg(rows: &[Row], ceilings: &[(Roof, f64)], title: &str) -> String {
    let points: Vec<_> = rows.iter().filter(|row| row.flops > 0 && row.bytes > 0).collect();
    let axes = Axes::around(&points, ceilings);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" \
         height=\"{HEIGHT}\" font-family=\"Helvetica, Arial, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    text(&mut out, (LEFT, 24.0), "start", "font-size=\"15\" fill=\"#222222\"", title);
    axes.grid(&mut out);
    axes.roofs(&mut out, ceilings);
    for row in &points {
        axes.point(&mut out, row);
    }
    legend(&mut out, &points);
    out.push_str("</svg>\n");
    out
}

/// Decades of the picture: powers of ten at its edges.
struct Axes {
    /// FLOP per byte.
    x: (f64, f64),
    /// FLOP/s.
    y: (f64, f64),
}

impl Axes {
    fn around(points: &[&Row], ceilings: &[(Roof, f64)]) -> Self {
        let rates = points.iter().map(|row| 1e12 * row.tflop_per_s);
        let products = ceilings.iter().filter(|(roof, _)| *roof != Roof::Copy).map(|(_, r)| *r);
        let y = decades(rates.chain(products), (1e9, 1e12));
        let copy = ceilings.iter().find(|(roof, _)| *roof == Roof::Copy).map(|(_, rate)| *rate);
        // Some of the level roofs shall be seen.
        let products = ceilings.iter().filter(|(roof, _)| *roof != Roof::Copy);
        let ridges = products.filter_map(|(_, rate)| copy.map(|copy| 4.0 * rate / copy));
        let x = decades(points.iter().map(|row| intensity(row)).chain(ridges), (0.1, 100.0));
        Self { x, y }
    }

    fn px(&self, x: f64) -> f64 {
        LEFT + (x / self.x.0).log10() / (self.x.1 / self.x.0).log10() * PLOT_WIDTH
    }

    fn py(&self, y: f64) -> f64 {
        TOP + PLOT_HEIGHT - (y / self.y.0).log10() / (self.y.1 / self.y.0).log10() * PLOT_HEIGHT
    }

    fn grid(&self, out: &mut String) {
        let (bottom, right) = (TOP + PLOT_HEIGHT, LEFT + PLOT_WIDTH);
        let mut x = self.x.0;
        while x <= self.x.1 * 1.01 {
            let at = self.px(x);
            line(out, (at, TOP), (at, bottom), "#e4e4e4", "");
            text(out, (at, bottom + 18.0), "middle", GREY, &si(x, ""));
            x *= 10.0;
        }
        let mut y = self.y.0;
        while y <= self.y.1 * 1.01 {
            let at = self.py(y);
            line(out, (LEFT, at), (right, at), "#e4e4e4", "");
            text(out, (LEFT - 8.0, at + 4.0), "end", GREY, &si(y, "FLOP/s"));
            y *= 10.0;
        }
        let middle = LEFT + PLOT_WIDTH / 2.0;
        let what = "arithmetic intensity: FLOP per byte that must move";
        text(out, (middle, bottom + 40.0), "middle", "fill=\"#222222\"", what);
        let at =
            format!("fill=\"#222222\" transform=\"rotate(-90 18 {})\"", TOP + PLOT_HEIGHT / 2.0);
        text(out, (18.0, TOP + PLOT_HEIGHT / 2.0), "middle", &at, "attained FLOP/s");
    }

    /// The slope of the copy up to the highest roof, and a level line for each precision.
    fn roofs(&self, out: &mut String, ceilings: &[(Roof, f64)]) {
        let copy = ceilings.iter().find(|(roof, _)| *roof == Roof::Copy).map(|(_, rate)| *rate);
        let products = ceilings.iter().filter(|(roof, _)| *roof != Roof::Copy);
        let highest = products.clone().map(|(_, rate)| *rate).fold(f64::NAN, f64::max);
        if let Some(copy) = copy {
            let top = if highest.is_nan() { self.y.1 } else { highest };
            // From where the slope enters the picture to where it meets the roof or leaves.
            let from = self.x.0.max(self.y.0 / copy);
            let to = self.x.1.min(top / copy);
            if from < to {
                let (a, b) = ((from, copy * from), (to, copy * to));
                let ends = ((self.px(a.0), self.py(a.1)), (self.px(b.0), self.py(b.1)));
                line(out, ends.0, ends.1, "#444444", "stroke-width=\"1.6\"");
                let name = format!("copy {}", si(copy, "B/s"));
                let at = (ends.0.0 + 30.0, ends.0.1 - 8.0);
                text(out, at, "start", "fill=\"#444444\"", &name);
            }
        }
        for (roof, rate) in products {
            let Roof::Products(name) = roof else { continue };
            let from = copy.map_or(self.x.0, |copy| (rate / copy).clamp(self.x.0, self.x.1));
            let (a, b) = ((self.px(from), self.py(*rate)), (LEFT + PLOT_WIDTH, self.py(*rate)));
            line(out, a, b, "#444444", "stroke-width=\"1.6\"");
            let name = format!("{name} {}", si(*rate, "FLOP/s"));
            text(out, (b.0 - 4.0, b.1 - 6.0), "end", "fill=\"#444444\"", &name);
        }
    }

    fn point(&self, out: &mut String, row: &Row) {
        let (x, y) = (self.px(intensity(row)), self.py(1e12 * row.tflop_per_s));
        let colour = colour(row.op);
        let fill = if row.dtype == "tc" { colour } else { "none" };
        let dash = if row.dtype == "bf16" { " stroke-dasharray=\"2 1.5\"" } else { "" };
        let says = format!(
            "{}/{}/{} {} {}: {:.4} ms, {:.0}% of {}",
            row.op, row.pass, row.dtype, row.shape, row.place, row.ms_p50, row.pct, row.bound
        );
        let _ = writeln!(
            out,
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{fill}\" fill-opacity=\"0.75\" \
             stroke=\"{colour}\" stroke-width=\"1.4\"{dash}><title>{}</title></circle>",
            escaped(&says)
        );
    }
}

/// The operations that occur, and how profiles are told apart.
fn legend(out: &mut String, points: &[&Row]) {
    let mut names: Vec<&str> = Vec::new();
    for row in points {
        if !names.contains(&row.op) {
            names.push(row.op);
        }
    }
    let x = LEFT + PLOT_WIDTH + 24.0;
    let mut y = TOP + 10.0;
    for name in names {
        let _ =
            writeln!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"4.5\" fill=\"{}\"/>", colour(name));
        text(out, (x + 12.0, y + 4.0), "start", "fill=\"#222222\"", name);
        y += 20.0;
    }
    for what in ["filled: tc", "open: f32", "dashed: bf16"] {
        y += 18.0;
        text(out, (x - 4.0, y), "start", GREY, what);
    }
}

/// Powers of ten around all positive finite `values`, one decade at least.
fn decades(values: impl Iterator<Item = f64>, none: (f64, f64)) -> (f64, f64) {
    let values = values.filter(|x| x.is_finite() && *x > 0.0);
    let around = values.fold(None, |all: Option<(f64, f64)>, x| {
        Some(all.map_or((x, x), |(low, high)| (low.min(x), high.max(x))))
    });
    let (low, high) = around.unwrap_or(none);
    let (low, high) = (low.log10().floor(), (1.3 * high).log10().ceil());
    (10f64.powf(low), 10f64.powf(high.max(low + 1.0)))
}

fn intensity(row: &Row) -> f64 {
    row.flops as f64 / row.bytes as f64
}

/// A line of a colour.
fn line(out: &mut String, a: (f64, f64), b: (f64, f64), colour: &str, more: &str) {
    plot::line(out, a, b, &format!("stroke=\"{colour}\" {more}"));
}

/// Apart for the colour-blind too (Okabe and Ito's palette, and two greys).
fn colour(op: &str) -> &'static str {
    match op {
        "matmul" => "#0072b2",
        "attention" => "#d55e00",
        "rmsnorm" => "#009e73",
        "swiglu" => "#cc79a7",
        "cross_entropy" => "#e69f00",
        "adamw" => "#56b4e9",
        "rope" => "#b8a800",
        "embedding" => "#000000",
        "norm" => "#666666",
        _ => "#999999",
    }
}

const GREY: &str = "fill=\"#666666\"";
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 100.0;
const TOP: f64 = 44.0;
const PLOT_WIDTH: f64 = 640.0;
const PLOT_HEIGHT: f64 = 450.0;
