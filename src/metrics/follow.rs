//! `metrics.jsonl` as it grows, also across a resume, which cuts off its end and writes on.

use std::fs::File;
use std::io;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use super::Line;

/// Reads what is new in a file, each time it is asked.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    /// Bytes of the whole lines that were read.
    at: u64,
    /// The last of them, or its last bytes: it must still stand where it stood.
    last: Vec<u8>,
}

/// What is new.
#[derive(Debug)]
pub struct News {
    /// Since when.
    pub since: Since,
    /// The lines, in order.
    pub lines: Vec<Line>,
    /// Lines that could not be read.
    pub spoiled: usize,
}

/// What the lines of [`News`] follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// The lines that were told before.
    Last,
    /// Nothing: the file is another one, or was cut, and all of it is told.
    Beginning,
}

impl Follower {
    /// Of the file at `path`, which may not be there yet. The first news are all of it.
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), at: 0, last: Vec::new() }
    }

    /// The whole lines that were written since the last call. A file that is not there has none.
    pub fn news(&mut self) -> io::Result<News> {
        let mut news = News { since: Since::Last, lines: Vec::new(), spoiled: 0 };
        let file = match File::open(&self.path) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(e),
        };
        let same = match &file {
            Some(file) => self.stands(file)?,
            None => self.at == 0,
        };
        if !same {
            (self.at, self.last, news.since) = (0, Vec::new(), Since::Beginning);
        }
        if let Some(file) = file {
            self.read(&file, &mut news)?;
        }
        Ok(news)
    }

    /// Whether the last line that was read is still there.
    fn stands(&self, file: &File) -> io::Result<bool> {
        let mut found = vec![0; self.last.len()];
        match file.read_exact_at(&mut found, self.at - self.last.len() as u64) {
            Ok(()) => Ok(found == self.last),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Reads from where the last call ended to the end, piece by piece.
    fn read(&mut self, file: &File, news: &mut News) -> io::Result<()> {
        let mut buffer = Vec::new();
        let mut from = self.at;
        loop {
            let had = buffer.len();
            let mut piece = At { file, at: from }.take(PIECE_BYTES);
            let read = piece.read_to_end(&mut buffer)?;
            if read == 0 {
                return Ok(());
            }
            from += read as u64;
            let end = match buffer[had..].iter().rposition(|b| *b == b'\n') {
                Some(last) => had + last + 1,
                None if buffer.len() < MAX_LINE_BYTES => continue,
                // No line of ours is so long.
                None => buffer.len(),
            };
            for line in buffer[..end].split_inclusive(|b| *b == b'\n') {
                match serde_json::from_slice(line) {
                    Ok(line) => news.lines.push(line),
                    Err(_) if line.trim_ascii().is_empty() => {}
                    Err(_) => news.spoiled += 1,
                }
                self.last.clear();
                self.last.extend_from_slice(&line[line.len().saturating_sub(MARK_BYTES)..]);
            }
            self.at += end as u64;
            buffer.drain(..end);
        }
    }
}

/// A file from a place on.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(to, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// Bytes read at a time.
const PIECE_BYTES: u64 = 8 << 20;

/// A longer line is none.
const MAX_LINE_BYTES: usize = 32 << 20;

/// Of the last line, so much is kept: times with all their digits are in it, so no other line is equal.
const MARK_BYTES: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn line(step: u64, ms: f64) -> String {
        format!("{{\"kind\":\"step\",\"step\":{step},\"step_ms\":{ms}}}\n")
    }

    fn append(path: &Path, text: &str) {
        let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn steps(news: &News) -> Vec<u64> {
        news.lines.iter().map(|line| line.step.unwrap() as u64).collect()
    }

    #[test]
    fn lines_come_once_and_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut follower = Follower::of(&path);
        assert!(follower.news().unwrap().lines.is_empty());
        append(&path, &(line(1, 1.5) + &line(2, 2.5)[..10]));
        assert_eq!(steps(&follower.news().unwrap()), [1]);
        assert!(follower.news().unwrap().lines.is_empty());
        append(&path, &(line(2, 2.5)[10..].to_owned() + "\nnonsense\n" + &line(3, 3.5)));
        let news = follower.news().unwrap();
        assert_eq!((steps(&news), news.since, news.spoiled), (vec![2, 3], Since::Last, 1));
    }

    #[test]
    fn a_resume_is_told_from_the_beginning_even_if_the_file_has_grown_past() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut follower = Follower::of(&path);
        let whole: String = (1..=5).map(|i| line(i, i as f64)).collect();
        append(&path, &whole);
        assert_eq!(steps(&follower.news().unwrap()).len(), 5);
        // Cut to 2 steps, then 8 written, before anybody looked.
        let kept = (line(1, 1.0) + &line(2, 2.0)).len();
        fs::write(&path, &whole[..kept]).unwrap();
        append(&path, &(3..=8).map(|i| line(i, 0.25 + i as f64)).collect::<String>());
        let news = follower.news().unwrap();
        assert_eq!((steps(&news), news.since), ((1..=8).collect(), Since::Beginning));
        // Cut, and nothing written.
        fs::write(&path, &whole[..kept]).unwrap();
        let news = follower.news().unwrap();
        assert_eq!((steps(&news), news.since), (vec![1, 2], Since::Beginning));
        fs::remove_file(&path).unwrap();
        assert_eq!(follower.news().unwrap().since, Since::Beginning);
        assert_eq!(follower.news().unwrap().since, Since::Last);
    }

    #[test]
    fn pieces_do_not_break_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let filler = "z".repeat(1000);
        let text: String = (1..=9000)
            .map(|i| format!("{{\"kind\":\"step\",\"step\":{i},\"filler\":\"{filler}\"}}\n"))
            .collect();
        assert!(text.len() as u64 > PIECE_BYTES);
        append(&path, &text);
        let news = Follower::of(&path).news().unwrap();
        assert_eq!((news.lines.len(), news.spoiled), (9000, 0));
    }
}
