//! One picture as plain text, for pipes.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use super::Watched;
use super::frame;

/// The picture of what is known, `width` columns by `height` lines, within bounds.
pub fn text(watched: &Watched, width: u16, height: u16) -> String {
    let area = Rect::new(0, 0, width.clamp(40, 500), height.clamp(12, 200));
    let mut buffer = Buffer::empty(area);
    frame::draw(&watched.now, area, &mut buffer);
    let mut out = String::new();
    for line in buffer.content().chunks(usize::from(area.width)) {
        let line: String = line.iter().map(|cell| cell.symbol()).collect();
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn watched(lines: &str, config: &str) -> (tempfile::TempDir, Watched) {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("metrics.jsonl"), lines).unwrap();
        fs::write(dir.path().join("config.toml"), config).unwrap();
        let mut watched = Watched::open(dir.path()).unwrap();
        watched.refresh().unwrap();
        (dir, watched)
    }

    #[test]
    fn every_size_has_a_picture() {
        let lines: String = (1..=200)
            .map(|i| {
                let loss = 3.0 + 2.0 / f64::from(i);
                format!("{{\"kind\":\"step\",\"step\":{i},\"loss\":{loss},\"step_ms\":10,\"tokens\":{i}}}\n")
            })
            .collect();
        let (_dir, watched) = watched(&lines, "[train]\nsteps = 400\neval_every = 0\n");
        for (width, height) in [(0, 0), (40, 12), (80, 24), (200, 60), (u16::MAX, u16::MAX)] {
            let text = text(&watched, width, height);
            assert!(text.contains("step 200 of 400 (50%), 2 s left"), "{text}");
            assert!(text.lines().count() >= 12);
        }
        let text = text(&watched, 100, 30);
        for words in ["loss 3.01", "10 ms a step", "checkpoint  none yet", "tokens a second"] {
            assert!(text.contains(words), "no `{words}` in\n{text}");
        }
        assert!(text.chars().any(|c| ('\u{2801}'..='\u{28ff}').contains(&c)), "no dots:\n{text}");
    }

    #[test]
    fn little_or_strange_is_shown_too() {
        for lines in ["", "nonsense\n", "{\"kind\":\"step\",\"step\":1,\"loss\":null}\n"] {
            let (_dir, watched) = watched(lines, "");
            assert!(text(&watched, 80, 24).contains("step "), "{lines}");
        }
        let (_dir, watched) = watched("nonsense\n", "[train]\nsteps = 5\n");
        let text = text(&watched, 80, 24);
        assert!(text.contains("waiting for the first step") && text.contains("1 lines"), "{text}");
    }
}
