//! The page: headings, text, figures, tables, in one file of HTML.

use std::fmt::Write;

use crate::plot;
use crate::plot::escaped;

/// A page under way.
#[derive(Debug)]
pub(super) struct Page {
    title: String,
    body: String,
}

/// A cell of a table.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    /// What it says.
    pub words: String,
    /// Class of its element, ours and never from a file; or empty.
    pub class: &'static str,
}

impl Cell {
    /// Words, to the left.
    pub fn words(words: impl Into<String>) -> Self {
        Self { words: words.into(), class: "" }
    }

    /// A number, to the right.
    pub fn number(words: impl Into<String>) -> Self {
        Self { words: words.into(), class: "n" }
    }
}

impl Page {
    /// An empty page.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), body: String::new() }
    }

    /// A heading.
    pub fn heading(&mut self, words: &str) {
        let _ = writeln!(self.body, "<h2>{}</h2>", escaped(words));
    }

    /// A heading within a part.
    pub fn subheading(&mut self, words: &str) {
        let _ = writeln!(self.body, "<h3>{}</h3>", escaped(words));
    }

    /// A paragraph.
    pub fn text(&mut self, words: &str) {
        let _ = writeln!(self.body, "<p>{}</p>", escaped(words));
    }

    /// What is missing or cannot be read; nothing if there is none.
    pub fn warnings(&mut self, words: &[String]) {
        if words.is_empty() {
            return;
        }
        self.body.push_str("<ul class=\"warn\">");
        for words in words.iter().take(MAX_WARNINGS) {
            let _ = write!(self.body, "<li>{}</li>", escaped(words));
        }
        if words.len() > MAX_WARNINGS {
            let _ = write!(self.body, "<li>and {} more</li>", words.len() - MAX_WARNINGS);
        }
        self.body.push_str("</ul>\n");
    }

    /// Figures (ready HTML) side by side where there is room.
    pub fn figures(&mut self, figures: &[String]) {
        self.body.push_str("<div class=\"charts\">\n");
        figures.iter().for_each(|figure| self.body.push_str(figure));
        self.body.push_str("</div>\n");
    }

    /// A table with a heading over each column.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<Cell>]) {
        self.body.push_str("<div class=\"scroll\"><table><thead><tr>");
        for words in head {
            let _ = write!(self.body, "<th>{}</th>", escaped(words));
        }
        self.body.push_str("</tr></thead><tbody>\n");
        for row in rows {
            self.body.push_str("<tr>");
            for cell in row {
                let (class, words) = (cell.class, escaped(&cell.words));
                let _ = match class {
                    "" => write!(self.body, "<td>{words}</td>"),
                    _ => write!(self.body, "<td class=\"{class}\">{words}</td>"),
                };
            }
            self.body.push_str("</tr>\n");
        }
        self.body.push_str("</tbody></table></div>\n");
    }

    /// What is put in as it is: HTML made here.
    pub fn raw(&mut self, html: &str) {
        self.body.push_str(html);
    }

    /// Text as it stands in a file, folded away.
    pub fn file(&mut self, summary: &str, text: &str) {
        let mut end = text.len().min(MAX_FILE_BYTES);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let cut = if end < text.len() { "\n… cut" } else { "" };
        let _ = writeln!(
            self.body,
            "<details><summary>{}</summary><pre>{}{cut}</pre></details>",
            escaped(summary),
            escaped(&text[..end])
        );
    }

    /// The whole file.
    pub fn finish(self) -> String {
        let title = escaped(&self.title);
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
             <style>{}{STYLE}</style></head>\n<body><main>\n<h1>{title}</h1>\n{}\
             <footer>neuroshard {}</footer></main></body></html>\n",
            plot::STYLE,
            self.body,
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// Complaints shown at most.
const MAX_WARNINGS: usize = 20;

/// Of a file's text, so much is shown.
const MAX_FILE_BYTES: usize = 64 << 10;

const STYLE: &str = "\
*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--fg);\
font:15px/1.45 system-ui,-apple-system,\"Segoe UI\",Helvetica,Arial,sans-serif}\
main{max-width:1320px;margin:0 auto;padding:12px 18px 40px}h1{font-size:24px;margin:.4em 0}\
h2{font-size:19px;margin:1.6em 0 .4em;border-bottom:1px solid var(--grid);padding-bottom:4px}\
h3{font-size:16px;margin:1.2em 0 .3em}p{max-width:80ch;margin:.5em 0}\
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,400px),1fr));gap:14px}\
figure{margin:0;padding:10px 12px;border:1px solid var(--grid);border-radius:8px;min-width:0}\
figcaption{font-weight:600;margin-bottom:4px}.empty{color:var(--muted)}\
.legend{list-style:none;margin:4px 0 0;padding:0;display:flex;flex-wrap:wrap;gap:2px 14px;font-size:12.5px}\
.legend li{overflow-wrap:anywhere}.chart .legend svg{display:inline-block;width:26px;height:10px;margin-right:5px}\
.legend b{font-weight:600;color:var(--muted)}\
.scroll{overflow-x:auto;margin:.6em 0}table{border-collapse:collapse;font-size:13px}\
th,td{padding:4px 9px;border:1px solid var(--grid);text-align:left;vertical-align:top}\
th{background:var(--panel);font-weight:600}th,td{white-space:nowrap}td.n{text-align:right;font-variant-numeric:tabular-nums}\
.warn{border-left:4px solid var(--c4);padding:6px 10px 6px 28px;background:var(--panel);margin:.6em 0;overflow-wrap:anywhere}\
details{margin:.5em 0}summary{cursor:pointer;overflow-wrap:anywhere}\
pre{background:var(--panel);border:1px solid var(--grid);border-radius:6px;padding:10px;overflow-x:auto;font-size:12.5px}\
footer{margin-top:3em;color:var(--muted);font-size:12.5px}\
td.h{text-align:center;font-variant-numeric:tabular-nums;min-width:64px}\
td.h0{background:#8fc1e3;color:#000}td.h1{background:#cfe3f1;color:#000}td.h2{background:#fdf3dc;color:#000}\
td.h3{background:#fdd9a0;color:#000}td.h4{background:#fbb060;color:#000}td.h5{background:#e2762b;color:#000}\
td.h6{background:#a63d03;color:#fff}td.hx{background:#3d1200;color:#fff}td.hn{color:var(--muted)}";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_whole_asks_for_nothing_and_lets_nothing_through() {
        let evil = "<img src=x onerror=alert(1)>\"'&";
        let mut page = Page::new(evil);
        page.heading(evil);
        page.subheading(evil);
        page.text(evil);
        page.warnings(&[evil.to_owned()]);
        page.table(&[evil], &[vec![Cell::words(evil)], vec![Cell::number(evil)]]);
        page.file(evil, evil);
        let html = page.finish();
        assert!(html.starts_with("<!doctype html>") && html.ends_with("</html>\n"));
        assert!(!html.contains("<img") && !html.contains("<script"));
        assert_eq!(html.matches("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;").count(), 11);
        for outside in ["http:", "https:", "url(", "@import", "src="] {
            assert!(!html.replace("&lt;img src=x", "").contains(outside), "{outside}");
        }
        for element in ["main", "table", "details", "ul", "h2", "h3", "p"] {
            let (open, close) = (format!("<{element}"), format!("</{element}>"));
            let html = html.replace("<pre", "").replace("</pre", "");
            assert_eq!(html.matches(&open).count(), html.matches(&close).count(), "{element}");
        }
    }

    #[test]
    fn long_files_and_many_warnings_are_cut() {
        let mut page = Page::new("t");
        page.file("long", &"ä".repeat(MAX_FILE_BYTES));
        page.warnings(&vec!["w".to_owned(); MAX_WARNINGS + 5]);
        let html = page.finish();
        assert!(html.len() < MAX_FILE_BYTES + 10_000 && html.contains("… cut"));
        assert!(html.contains("and 5 more"));
    }
}
