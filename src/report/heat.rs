//! A map of attacks and rules: what each costs, as a number and a colour.

use std::fmt::Write;

use crate::plot::escaped;
use crate::plot::number;

/// A map.
#[derive(Debug, Default)]
pub(super) struct Map {
    /// What stands above.
    pub title: String,
    /// Names of the rows.
    pub rows: Vec<String>,
    /// Names of the columns.
    pub columns: Vec<String>,
    /// Row, column, and by which part the loss is higher than the honest run's: infinite where it
    /// diverged, [`NO_STEP`], or no number where there is none to compare with.
    pub cells: Vec<(usize, usize, f64)>,
}

impl Map {
    /// The row called `name`, new or known.
    pub fn row(&mut self, name: String) -> usize {
        place(&mut self.rows, name)
    }

    /// The column called `name`, new or known.
    pub fn column(&mut self, name: String) -> usize {
        place(&mut self.columns, name)
    }

    /// As a figure of HTML.
    pub fn figure(&self) -> String {
        let mut grid = vec![vec![None; self.columns.len()]; self.rows.len()];
        for &(row, column, excess) in &self.cells {
            grid[row][column] = Some(excess);
        }
        let mut out = format!(
            "<figure><figcaption>{}</figcaption><div class=\"scroll\"><table><thead><tr><th></th>",
            escaped(&self.title)
        );
        for name in &self.columns {
            let _ = write!(out, "<th>{}</th>", escaped(name));
        }
        out.push_str("</tr></thead><tbody>\n");
        for (name, row) in self.rows.iter().zip(&grid) {
            let _ = write!(out, "<tr><th>{}</th>", escaped(name));
            for cell in row {
                let (class, words) = cell.map_or(("hn", String::new()), shown);
                let _ = write!(out, "<td class=\"h {class}\">{words}</td>");
            }
            out.push_str("</tr>\n");
        }
        out.push_str("</tbody></table></div></figure>\n");
        out
    }
}

/// The colours' meaning, as a row of cells.
pub(super) fn key() -> String {
    let mut out =
        String::from("<div class=\"scroll\"><table><tbody><tr><th>loss above the honest run</th>");
    let mut from = "";
    for (most, class, words) in CLASSES {
        let words = if most.is_finite() { format!("≤ {words}") } else { format!("&gt; {from}") };
        let _ = write!(out, "<td class=\"h {class}\">{words}</td>");
        from = if most.is_finite() { words_of(class) } else { from };
    }
    out.push_str("<td class=\"h hx\">diverged</td></tr></tbody></table></div>\n");
    out
}

/// Up to where a class goes, in words.
fn words_of(class: &str) -> &'static str {
    CLASSES.iter().find(|c| c.1 == class).map_or("", |c| c.2)
}

/// What stands for a cell whose outer weights never moved, because the rule refused in every round.
pub(super) const NO_STEP: f64 = f64::NEG_INFINITY;

/// Class and words of a cell.
fn shown(excess: f64) -> (&'static str, String) {
    if excess.is_nan() {
        return ("hn", "?".to_owned());
    }
    if excess == NO_STEP {
        return ("hx", "no step".to_owned());
    }
    if excess.is_infinite() {
        return ("hx", "diverged".to_owned());
    }
    let class = CLASSES.iter().find(|(most, ..)| excess <= *most).map_or("h6", |c| c.1);
    let percent = 100.0 * excess;
    let words = match percent.abs() {
        0.0..100.0 => format!("{percent:+.1}%"),
        100.0..1e5 => format!("{percent:+.0}%"),
        _ => format!("×{}", number(1.0 + excess, 2)),
    };
    (class, words)
}

fn place(names: &mut Vec<String>, name: String) -> usize {
    names.iter().position(|n| *n == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}

/// Up to which part a class goes; the goals are 0.5% without attackers and 2% with them.
const CLASSES: [(f64, &str, &str); 7] = [
    (0.005, "h0", "0.5%"),
    (0.02, "h1", "2%"),
    (0.05, "h2", "5%"),
    (0.10, "h3", "10%"),
    (0.25, "h4", "25%"),
    (1.0, "h5", "100%"),
    (f64::INFINITY, "h6", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_have_words_and_classes() {
        for (excess, class, words) in [
            (-0.01, "h0", "-1.0%"),
            (0.0, "h0", "+0.0%"),
            (0.0199, "h1", "+2.0%"),
            (0.3, "h5", "+30.0%"),
            (5.0, "h6", "+500%"),
            (1e9, "h6", "×1e9"),
            (f64::INFINITY, "hx", "diverged"),
            (f64::NAN, "hn", "?"),
            (NO_STEP, "hx", "no step"),
        ] {
            assert_eq!(shown(excess), (class, words.to_owned()));
        }
    }

    #[test]
    fn a_map_has_a_cell_for_every_row_and_column() {
        let mut map = Map { title: "<t>".into(), ..Map::default() };
        let cell = (map.row("a<b".into()), map.column("mean".into()), 0.01);
        map.cells.push(cell);
        let cell = (map.row("c".into()), map.column("krum".into()), 0.5);
        map.cells.push(cell);
        assert_eq!(map.row("a<b".into()), 0);
        let html = map.figure();
        assert_eq!(html.matches("<td").count(), 4);
        assert_eq!(html.matches("class=\"h hn\"").count(), 2);
        assert!(html.contains("a&lt;b") && html.contains("&lt;t&gt;"));
        assert!(key().contains("≤ 0.5%") && key().contains("&gt; 100%"));
    }
}
