//! The plots of a picture.

use ratatui::buffer::Buffer;
use ratatui::layout::Constraint;
use ratatui::layout::Layout;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::style::Style;
use ratatui::symbols::Marker;
use ratatui::widgets::Axis;
use ratatui::widgets::Block;
use ratatui::widgets::Chart;
use ratatui::widgets::Dataset;
use ratatui::widgets::GraphType;
use ratatui::widgets::LegendPosition;
use ratatui::widgets::Widget;

use super::history::History;
use crate::plot::number;
use crate::plot::si;

/// A line or dots of a plot.
struct Curve<'a> {
    name: &'a str,
    points: Vec<(f64, f64)>,
    colour: Color,
    kind: GraphType,
}

/// Losses above, speed and gradient below where there is room.
pub(super) fn draw(history: &History, area: Rect, buffer: &mut Buffer) {
    let loss = curve("training", history.loss.points(), Color::Cyan);
    let held_out = Curve {
        kind: GraphType::Scatter,
        ..curve("held out", history.held_out.points(), Color::Yellow)
    };
    let words = |x: f64| number(x, 3);
    if area.height < 16 {
        plot("loss (nats) over steps", &[loss, held_out], &words, area, buffer);
        return;
    }
    let [above, below] = Layout::vertical([Constraint::Fill(2), Constraint::Fill(1)]).areas(area);
    plot("loss (nats) over steps", &[loss, held_out], &words, above, buffer);
    let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(below);
    let speed = curve("", history.speed.points(), Color::Green);
    plot("tokens a second", &[speed], &|x| si(x, ""), left, buffer);
    let norm = curve("", history.grad_norm.points(), Color::Magenta);
    plot("norm of the gradient", &[norm], &words, right, buffer);
}

fn curve(name: &str, points: Vec<(f64, f64)>, colour: Color) -> Curve<'_> {
    Curve { name, points, colour, kind: GraphType::Line }
}

fn plot(
    title: &str,
    curves: &[Curve<'_>],
    words: &dyn Fn(f64) -> String,
    area: Rect,
    buffer: &mut Buffer,
) {
    let all = || curves.iter().flat_map(|curve| curve.points.iter());
    let block = Block::bordered().border_style(QUIET).title(format!(" {title} "));
    if all().next().is_none() {
        return block.render(area, buffer);
    }
    let (x, y) = (around(all().map(|p| p.0)), around(all().map(|p| p.1)));
    let many = curves.iter().filter(|curve| !curve.points.is_empty()).count() > 1;
    let dataset = |curve: &Curve<'_>| {
        let set = Dataset::default().marker(Marker::Braille).graph_type(curve.kind);
        let set = set.style(Style::new().fg(curve.colour));
        match curve.kind {
            GraphType::Scatter => set.marker(Marker::Dot),
            _ => set,
        }
    };
    let sets = curves.iter().filter(|curve| !curve.points.is_empty());
    let sets = sets.map(|curve| {
        let set = dataset(curve).data(&curve.points);
        if many { set.name(curve.name.to_owned()) } else { set }
    });
    let step = |x: f64| number(x.round(), 7);
    Chart::new(sets.collect())
        .block(block)
        .legend_position(Some(LegendPosition::TopRight))
        .x_axis(Axis::default().style(QUIET).bounds(x).labels([step(x[0]), step(x[1])]))
        .y_axis(Axis::default().style(QUIET).bounds(y).labels([
            words(y[0]),
            words(0.5 * (y[0] + y[1])),
            words(y[1]),
        ]))
        .render(area, buffer);
}

/// The least and the greatest value, with some room where they are equal.
fn around(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let (least, greatest) =
        values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
    let room = if least == greatest { 0.5 * least.abs().max(1.0) } else { 0.0 };
    [least - room, greatest + room]
}

const QUIET: Style = Style::new().fg(Color::DarkGray);
