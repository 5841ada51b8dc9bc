//! Pictures as SVG that stand in a page or in a file of their own.
//!
//! Colours are classes and variables of [`STYLE`], so that a page decides on light or dark; lines of one
//! chart differ in colour (Okabe and Ito's palette, apart for the colour-blind too) and, past eight, in
//! dashes. What comes from outside is escaped here and nowhere else.

mod axis;
mod bucket;
mod chart;
mod number;
mod style;
mod svg;

pub use axis::Scale;
pub use chart::Axis;
pub use chart::Chart;
pub use chart::Series;
pub use number::duration;
pub use number::number;
pub use number::si;
pub use style::STYLE;
pub use svg::escaped;
pub(crate) use svg::line;
pub(crate) use svg::text;
