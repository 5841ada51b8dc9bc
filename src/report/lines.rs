//! Files of one JSON object a line, of any length.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rayon::prelude::*;
use serde::de::DeserializeOwned;

use super::Error;

/// What a file of lines has.
#[derive(Debug)]
pub(super) struct Lines<T> {
    /// What could be read, in order.
    pub rows: Vec<T>,
    /// Lines that could not.
    pub spoiled: usize,
    /// Number of the first of those, from 1, and what is wrong with it.
    pub first_spoiled: Option<(usize, String)>,
}

impl<T: DeserializeOwned + Send> Lines<T> {
    /// Reads the file at `path` piece by piece; lines are parsed by all threads.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(Error::read(path))?;
        let mut all = Self { rows: Vec::new(), spoiled: 0, first_spoiled: None };
        let (mut buffer, mut line) = (Vec::new(), 1);
        loop {
            let had = buffer.len();
            let read = (&mut file).take(PIECE_BYTES).read_to_end(&mut buffer);
            let is_end = read.map_err(Error::read(path))? == 0;
            let end = match (is_end, buffer[had..].iter().rposition(|b| *b == b'\n')) {
                (true, _) => buffer.len(),
                (false, Some(last)) => had + last + 1,
                // A line longer than a piece; one longer than the limit is no line.
                (false, None) if buffer.len() < MAX_LINE_BYTES => continue,
                (false, None) => buffer.len(),
            };
            line = all.parse(&buffer[..end], line);
            buffer.drain(..end);
            if is_end {
                return Ok(all);
            }
        }
    }

    /// Adds the lines of `text`, of which the first has number `line`; the number of the line after it.
    fn parse(&mut self, text: &[u8], line: usize) -> usize {
        let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
        let parsed: Vec<Option<Result<T, String>>> = lines
            .par_iter()
            .with_min_len(256)
            .map(|line| match line.trim_ascii() {
                [] => None,
                line => Some(serde_json::from_slice(line).map_err(|e| e.to_string())),
            })
            .collect();
        for (i, row) in parsed.into_iter().enumerate() {
            match row {
                None => {}
                Some(Ok(row)) => self.rows.push(row),
                Some(Err(why)) => {
                    self.spoiled += 1;
                    self.first_spoiled.get_or_insert((line + i, why));
                }
            }
        }
        line + lines.len() - 1
    }

    /// What to say about lines that could not be read.
    pub fn complaint(&self, file: &str) -> Option<String> {
        let (line, why) = self.first_spoiled.as_ref()?;
        Some(format!(
            "{file}: {} lines cannot be read; the first is line {line}: {why}",
            self.spoiled
        ))
    }
}

/// Bytes read at a time.
const PIECE_BYTES: u64 = 32 << 20;

/// Longer lines are cut (and then cannot be read).
const MAX_LINE_BYTES: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Row {
        x: u64,
    }

    #[test]
    fn good_lines_are_read_around_bad_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, "{\"x\":1}\n\n{\"x\":2,\"y\":[3]}\r\nno\n{\"x\":3}\n{\"x\":")
            .unwrap();
        let lines = Lines::<Row>::read(&path).unwrap();
        assert_eq!(lines.rows, [Row { x: 1 }, Row { x: 2 }, Row { x: 3 }]);
        assert_eq!((lines.spoiled, lines.first_spoiled.as_ref().unwrap().0), (2, 4));
        std::fs::write(&path, "").unwrap();
        assert!(Lines::<Row>::read(&path).unwrap().complaint("a").is_none());
    }

    #[test]
    fn lines_across_pieces_are_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let filler = "z".repeat(1 << 20);
        let text: String = (0..40).map(|i| format!("{{\"x\":{i},\"f\":\"{filler}\"}}\n")).collect();
        assert!(text.len() as u64 > PIECE_BYTES);
        std::fs::write(&path, text).unwrap();
        let lines = Lines::<Row>::read(&path).unwrap();
        let xs: Vec<u64> = lines.rows.iter().map(|r| r.x).collect();
        assert_eq!(xs, (0..40).collect::<Vec<_>>());
        assert_eq!(lines.spoiled, 0);
    }
}
