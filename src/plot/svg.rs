//! Elements of SVG.

use std::fmt::Write;

/// `words` as text of HTML or SVG, or as a value between double quotes.
pub fn escaped(words: &str) -> String {
    let mut out = String::with_capacity(words.len());
    for c in words.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // No document may contain these; line breaks and tabs are text.
            c if c.is_control() && !"\n\r\t".contains(c) => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A straight line, with `more` attributes.
pub(crate) fn line(out: &mut String, a: (f64, f64), b: (f64, f64), more: &str) {
    let _ = writeln!(
        out,
        "<line x1=\"{:.1}\" y1=\"{:.1}\" x2=\"{:.1}\" y2=\"{:.1}\" {more}/>",
        a.0, a.1, b.0, b.1
    );
}

/// Words at a place, escaped, with `more` attributes.
pub(crate) fn text(out: &mut String, at: (f64, f64), anchor: &str, more: &str, words: &str) {
    let words = escaped(words);
    let (x, y) = at;
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\" {more}>{words}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_escapes() {
        let evil = "</text><script>alert('x' & \"y\")</script>\u{0}\u{1b}";
        let safe = escaped(evil);
        assert!(!safe.contains(['<', '>', '"', '\'', '\u{0}', '\u{1b}']));
        assert_eq!(escaped("a < b && c"), "a &lt; b &amp;&amp; c");
        assert_eq!(escaped("l1\nl2\tä"), "l1\nl2\tä");
    }
}
