//! Lines over two axes, with bands, gaps and a legend.

use std::fmt::Write;

use super::axis::Scale;
use super::axis::Span;
use super::bucket::Bucket;
use super::bucket::buckets;
use super::number::number;
use super::svg::escaped;
use super::svg::line;
use super::svg::text;

/// What an axis shows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Axis {
    /// What, with its unit.
    pub label: String,
    /// How it is divided.
    pub scale: Scale,
}

impl Axis {
    /// An axis with a label.
    pub fn of(label: &str, scale: Scale) -> Self {
        Self { label: label.to_owned(), scale }
    }
}

/// A line of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// As the legend calls it.
    pub name: String,
    /// x and y. What is infinite or no number in y is a gap, and is marked.
    pub points: Vec<[f64; 2]>,
    /// x, and from where to where a band around the line goes.
    pub band: Vec<[f64; 3]>,
}

/// A chart of lines.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Chart {
    /// Its heading.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Up.
    pub y: Axis,
    /// Its lines.
    pub series: Vec<Series>,
    /// Level lines with a name.
    pub levels: Vec<(String, f64)>,
    /// Points that a line has at most; more are shown as means with a band from least to greatest.
    /// 0: 400.
    pub resolution: usize,
}

impl Chart {
    /// As a figure of HTML with the classes of [`super::STYLE`].
    pub fn figure(&self) -> String {
        let mut out =
            format!("<figure class=\"chart\"><figcaption>{}</figcaption>\n", escaped(&self.title));
        if !self.series.iter().any(|s| s.points.iter().any(|p| p[1].is_finite())) {
            out.push_str("<p class=\"empty\">There is nothing to show.</p></figure>\n");
            return out;
        }
        let lines = self.lines();
        let spans = self.spans(&lines);
        let _ = writeln!(
            out,
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}: {} over {}\">",
            escaped(&self.title),
            escaped(&self.y.label),
            escaped(&self.x.label)
        );
        self.axes(&mut out, &spans);
        for (i, lined) in lines.iter().enumerate() {
            draw(&mut out, i, &self.series[i], lined, &spans);
        }
        out.push_str("</svg>\n");
        self.legend(&mut out);
        out.push_str("</figure>\n");
        out
    }

    /// The buckets of each line, left to right.
    fn lines(&self) -> Vec<Vec<Bucket>> {
        let count = if self.resolution == 0 { 400 } else { self.resolution };
        let all = self.series.iter().flat_map(|s| s.points.iter().map(|p| p[0]));
        let x = Span::around(self.x.scale, all);
        let of = |series: &Series| match series.points.is_sorted_by(|a, b| a[0] <= b[0]) {
            true => buckets(&series.points, &x, count),
            false => {
                let mut points = series.points.clone();
                points.retain(|p| !p[0].is_nan());
                points.sort_by(|a, b| a[0].total_cmp(&b[0]));
                buckets(&points, &x, count)
            }
        };
        self.series.iter().map(of).collect()
    }

    fn spans(&self, lines: &[Vec<Bucket>]) -> [Span; 2] {
        let all = self.series.iter().flat_map(|s| s.points.iter().map(|p| p[0]));
        let x = Span::around(self.x.scale, all);
        let drawn = lines.iter().flatten().filter_map(|b| b.y).flatten();
        let bands = self.series.iter().flat_map(|s| s.band.iter().flat_map(|b| [b[1], b[2]]));
        let levels = self.levels.iter().map(|l| l.1);
        [x, Span::around(self.y.scale, drawn.chain(bands).chain(levels))]
    }

    fn axes(&self, out: &mut String, spans: &[Span; 2]) {
        let (bottom, right) = (TOP + PLOT_HEIGHT, LEFT + PLOT_WIDTH);
        for (x, label) in spans[0].marks(6) {
            let Some(at) = spans[0].place(x).map(|p| LEFT + p * PLOT_WIDTH) else { continue };
            line(out, (at, TOP), (at, bottom), "class=\"grid\"");
            text(out, (at, bottom + 14.0), "middle", "", &label);
        }
        for (y, label) in spans[1].marks(5) {
            let Some(at) = spans[1].place(y).map(|p| bottom - p * PLOT_HEIGHT) else { continue };
            line(out, (LEFT, at), (right, at), "class=\"grid\"");
            text(out, (LEFT - 5.0, at + 4.0), "end", "", &label);
        }
        line(out, (LEFT, bottom), (right, bottom), "class=\"frame\"");
        line(out, (LEFT, TOP), (LEFT, bottom), "class=\"frame\"");
        text(out, (LEFT + PLOT_WIDTH / 2.0, bottom + 30.0), "middle", "", &self.x.label);
        let middle = TOP + PLOT_HEIGHT / 2.0;
        let turned = format!("transform=\"rotate(-90 11 {middle})\"");
        text(out, (11.0, middle), "middle", &turned, &self.y.label);
        for (name, value) in &self.levels {
            let Some(at) = spans[1].place(*value).map(|p| bottom - p * PLOT_HEIGHT) else {
                continue;
            };
            line(out, (LEFT, at), (right, at), "class=\"ref\"");
            text(out, (right - 3.0, at - 4.0), "end", "", name);
        }
    }

    fn legend(&self, out: &mut String) {
        out.push_str("<ul class=\"legend\">");
        for (i, series) in self.series.iter().enumerate() {
            let last = series.points.iter().rev().find(|p| p[1].is_finite()).map(|p| p[1]);
            let last = last.map(|y| format!(" <b>{}</b>", number(y, 4))).unwrap_or_default();
            let _ = write!(
                out,
                "<li><svg width=\"26\" height=\"10\" aria-hidden=\"true\"><line x1=\"1\" y1=\"5\" x2=\"25\" \
                 y2=\"5\" stroke-width=\"2.5\" class=\"{}\"/></svg>{}{last}</li>",
                class(i),
                escaped(&series.name)
            );
        }
        out.push_str("</ul>\n");
    }
}

/// The line, its bands and the marks of what has no value.
fn draw(out: &mut String, index: usize, series: &Series, lined: &[Bucket], spans: &[Span; 2]) {
    let place = |x: f64, y: f64| -> Option<(f64, f64)> {
        let (x, y) = (spans[0].place(x)?, spans[1].place(y)?);
        Some((LEFT + x * PLOT_WIDTH, TOP + PLOT_HEIGHT - y * PLOT_HEIGHT))
    };
    let own: Vec<_> = lined.iter().map(|b| b.y.map(|[_, low, high]| (b.x, low, high))).collect();
    let given: Vec<_> = series.band.iter().map(|&[x, low, high]| Some((x, low, high))).collect();
    for band in [own, given] {
        for part in band.split(Option::is_none) {
            let edges = part.iter().flatten();
            let low = edges.clone().filter_map(|&(x, low, _)| place(x, low));
            let high: Vec<_> = edges.filter_map(|&(x, _, high)| place(x, high)).collect();
            let outline: Vec<_> = low.chain(high.into_iter().rev()).collect();
            let is_flat = part.iter().flatten().all(|(_, low, high)| low == high);
            if outline.len() > 3 && !is_flat {
                path(out, &outline, &format!("class=\"b {}\"", class(index)), "Z");
            }
        }
    }
    let name = escaped(&series.name);
    let _ = writeln!(out, "<g><title>{name}</title>");
    let points: Vec<_> = lined.iter().map(|b| b.y.and_then(|y| place(b.x, y[0]))).collect();
    for part in points.split(Option::is_none) {
        let part: Vec<_> = part.iter().flatten().copied().collect();
        // Few points are seen one by one.
        if part.len() == 1 || points.len() <= 12 {
            for (x, y) in &part {
                let _ = writeln!(
                    out,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\" class=\"{}\"/>",
                    class(index)
                );
            }
        }
        if part.len() > 1 {
            path(out, &part, &format!("class=\"l {}\"", class(index)), "");
        }
    }
    for bucket in lined.iter().filter(|b| b.bad > 0).take(MAX_MARKS) {
        let Some(x) = spans[0].place(bucket.x).map(|p| LEFT + p * PLOT_WIDTH) else { continue };
        let foot = TOP + PLOT_HEIGHT - 1.0;
        let _ = writeln!(
            out,
            "<path class=\"{}\" d=\"M{x:.1} {foot:.1}l-4 -8h8z\"><title>{name}: {} without a value at {}\
             </title></path>",
            class(index),
            bucket.bad,
            number(bucket.x, 4)
        );
    }
    out.push_str("</g>\n");
}

fn path(out: &mut String, points: &[(f64, f64)], more: &str, end: &str) {
    let _ = write!(out, "<path {more} d=\"");
    for (i, (x, y)) in points.iter().enumerate() {
        let _ = write!(out, "{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" });
    }
    let _ = writeln!(out, "{end}\"/>");
}

/// Colour and dashes of line `index`.
fn class(index: usize) -> String {
    match (index % 8, index / 8 % 4) {
        (colour, 0) => format!("c{colour}"),
        (colour, dashes) => format!("c{colour} d{dashes}"),
    }
}

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 290.0;
const LEFT: f64 = 68.0;
const TOP: f64 = 8.0;
const PLOT_WIDTH: f64 = 392.0;
const PLOT_HEIGHT: f64 = 240.0;
/// Marks of missing values that a line has at most.
const MAX_MARKS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(series: Vec<Series>) -> Chart {
        Chart {
            title: "loss <of> all".into(),
            x: Axis::of("tokens", Scale::Linear),
            y: Axis::of("loss (nats)", Scale::Auto),
            series,
            ..Chart::default()
        }
    }

    fn series(name: &str, points: Vec<[f64; 2]>) -> Series {
        Series { name: name.into(), points, band: Vec::new() }
    }

    #[test]
    fn a_line_is_drawn_where_its_points_are() {
        let svg = chart(vec![series("a", vec![[0.0, 0.0], [1.0, 1.0]])]).figure();
        // With a little room at all sides: 2% of 0 to 1 is the 52nd part of the span.
        let (left, right) = (LEFT + PLOT_WIDTH / 52.0, LEFT + PLOT_WIDTH * 51.0 / 52.0);
        let (low, high) = (TOP + PLOT_HEIGHT * 51.0 / 52.0, TOP + PLOT_HEIGHT / 52.0);
        let path = format!("d=\"M{left:.1} {low:.1}L{right:.1} {high:.1}\"");
        assert!(svg.contains(&path), "{path} not in {svg}");
        assert!(svg.contains("loss &lt;of&gt; all") && !svg.contains("<of>"));
        assert_eq!(svg.matches("<circle").count(), 2);
    }

    #[test]
    fn gaps_break_lines_and_are_marked() {
        let mut points: Vec<[f64; 2]> =
            (0..30).map(|i| [f64::from(i), 1.0 + f64::from(i)]).collect();
        points[10][1] = f64::NAN;
        points[20][1] = f64::INFINITY;
        let svg = chart(vec![series("a", points)]).figure();
        assert_eq!(svg.matches("class=\"l c0\"").count(), 3);
        assert_eq!(svg.matches("without a value").count(), 2);
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    #[test]
    fn what_is_empty_or_alone_is_told() {
        for series_list in
            [vec![], vec![series("a", vec![])], vec![series("a", vec![[1.0, f64::NAN]])]]
        {
            assert!(chart(series_list).figure().contains("nothing to show"));
        }
        let one = chart(vec![series("a", vec![[5.0, 3.0]])]).figure();
        assert_eq!(one.matches("<circle").count(), 1);
        assert!(!one.contains("NaN"));
        let log = Chart {
            x: Axis::of("x", Scale::Log),
            ..chart(vec![series("a", vec![[0.0, 1.0], [10.0, 2.0]])])
        };
        assert_eq!(log.figure().matches("<circle").count(), 1);
    }

    #[test]
    fn a_million_points_are_few_in_the_picture() {
        let points: Vec<[f64; 2]> =
            (0..1_000_000).map(|i| [f64::from(i), f64::from(i % 997)]).collect();
        let svg = chart(vec![series("a", points.clone()), series("b", points)]).figure();
        assert!(svg.len() < 60_000, "{}", svg.len());
        assert!(svg.contains("class=\"b c0\""));
    }

    #[test]
    fn lines_past_the_eighth_are_dashed() {
        let classes: Vec<_> = (0..32).map(class).collect();
        let mut apart = classes.clone();
        apart.sort();
        apart.dedup();
        assert_eq!(apart.len(), 32);
        assert_eq!((classes[0].as_str(), classes[9].as_str()), ("c0", "c1 d1"));
    }
}
