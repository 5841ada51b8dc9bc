//! Text in bounded pieces, checked as they are read.

use std::io::Read;
use std::path::Path;
use std::path::PathBuf;

use super::DataError;

/// A text in pieces that are encoded apart.
///
/// A piece ends before the last ASCII white space that follows a letter within its first
/// [`PIECE_BYTES`]; where there is none, within its first [`MAX_PIECE_BYTES`], and failing that at
/// the last character that ends there. No word of the byte-level splitting (GPT-2's) spans such a
/// white space, so pieces give the tokens that the whole would. Where the pieces end depends on
/// the bytes of the text alone.
pub(super) struct Pieces<R> {
    path: PathBuf,
    reader: R,
    /// Read, but not given out.
    pending: Vec<u8>,
    /// Of `pending`, from the start of the text.
    offset: u64,
    ended: bool,
    /// A NUL byte means that the file is no text.
    nul_is_binary: bool,
}

impl<'a> Pieces<&'a [u8]> {
    /// The pieces of a text that is known to be one, NUL or not.
    pub fn of_str(path: &Path, text: &'a str) -> Self {
        Self { nul_is_binary: false, ..Self::new(path, text.as_bytes()) }
    }
}

impl<R: Read> Pieces<R> {
    /// A text of no more bytes is one piece.
    pub const BYTES: usize = PIECE_BYTES;

    /// The pieces of what `reader` gives; `path` is for errors.
    pub fn new(path: &Path, reader: R) -> Self {
        Self {
            path: path.to_path_buf(),
            reader,
            pending: Vec::new(),
            offset: 0,
            ended: false,
            nul_is_binary: true,
        }
    }

    /// The next piece; none at the end. NUL bytes and invalid UTF-8 are errors.
    pub fn next_piece(&mut self) -> Result<Option<String>, DataError> {
        self.fill(PIECE_BYTES)?;
        let mut cut = self.cut()?;
        if cut.is_none() {
            self.fill(MAX_PIECE_BYTES)?;
            cut = self.cut()?;
        }
        let end = match cut {
            Some(end) => end,
            None => valid_len(&self.pending),
        };
        if end == 0 {
            return Ok(None);
        }
        let rest = self.pending.split_off(end);
        let piece = std::mem::replace(&mut self.pending, rest);
        self.offset += end as u64;
        // `cut` found these bytes valid.
        String::from_utf8(piece).map(Some).map_err(|e| DataError::InvalidUtf8 {
            path: self.path.clone(),
            offset: self.offset - end as u64 + e.utf8_error().valid_up_to() as u64,
        })
    }

    /// Reads until `len` bytes are pending or the text ends.
    fn fill(&mut self, len: usize) -> Result<(), DataError> {
        if self.ended || self.pending.len() >= len {
            return Ok(());
        }
        let missing = (len - self.pending.len()) as u64;
        let got = self
            .reader
            .by_ref()
            .take(missing)
            .read_to_end(&mut self.pending)
            .map_err(DataError::read(&self.path))?;
        self.ended = (got as u64) < missing;
        Ok(())
    }

    /// Checks what is pending, and where a piece of it may end.
    fn cut(&self) -> Result<Option<usize>, DataError> {
        let bytes = &self.pending;
        if self.nul_is_binary
            && let Some(at) = bytes.iter().position(|&b| b == 0)
        {
            let offset = self.offset + at as u64;
            return Err(DataError::BinaryText { path: self.path.clone(), offset });
        }
        let (text, complete) = match std::str::from_utf8(bytes) {
            Ok(text) => (text, true),
            // An incomplete character may be completed by what follows.
            Err(e) if e.error_len().is_none() && !self.ended => {
                (std::str::from_utf8(&bytes[..e.valid_up_to()]).unwrap_or(""), false)
            }
            Err(e) => {
                let offset = self.offset + e.valid_up_to() as u64;
                return Err(DataError::InvalidUtf8 { path: self.path.clone(), offset });
            }
        };
        if self.ended && complete {
            return Ok(Some(text.len()));
        }
        let mut after = None;
        for (at, c) in text.char_indices().rev() {
            if let Some(end) = after
                && c.is_alphabetic()
            {
                return Ok(Some(end));
            }
            after = c.is_ascii_whitespace().then_some(at);
        }
        Ok(None)
    }
}

/// The length of the longest valid prefix.
fn valid_len(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.len(),
        Err(e) => e.valid_up_to(),
    }
}

/// Bytes of a piece, where the text has white space.
const PIECE_BYTES: usize = 64 << 10;
/// Bytes of a piece at most.
const MAX_PIECE_BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(bytes: &[u8]) -> Result<Vec<String>, DataError> {
        let mut pieces = Pieces::new(Path::new("t.txt"), bytes);
        let mut all = Vec::new();
        while let Some(piece) = pieces.next_piece()? {
            all.push(piece);
        }
        Ok(all)
    }

    #[test]
    fn pieces_end_before_white_space_and_join_to_the_text() {
        for word in ["word ", "Wörter über Wörter\n\n", "a1 , \r\n b ", "日本語 "] {
            let text = word.repeat(300_000 / word.len());
            let all = pieces(text.as_bytes()).unwrap();
            assert!(all.len() > 3);
            assert_eq!(all.concat(), text);
            assert!(all[1..].iter().all(|p| p.starts_with([' ', '\n', '\r'])));
            assert!(all.iter().all(|p| p.len() <= PIECE_BYTES));
        }
    }

    #[test]
    fn text_without_white_space_is_cut_between_characters() {
        let text = "語".repeat(800_000);
        let all = pieces(text.as_bytes()).unwrap();
        assert_eq!(all.concat(), text);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|p| p.len() <= MAX_PIECE_BYTES));
    }

    #[test]
    fn faults_are_found_at_their_offset() {
        let mut text = "some words ".repeat(20_000).into_bytes();
        let at = 150_000;
        text[at] = 0;
        let error = pieces(&text).unwrap_err();
        assert!(matches!(error, DataError::BinaryText { offset, .. } if offset == at as u64));
        text[at] = 0xff;
        let error = pieces(&text).unwrap_err();
        assert!(matches!(error, DataError::InvalidUtf8 { offset, .. } if offset == at as u64));
        // A character cut off by the end of the text.
        let error = pieces(b"abc\xc3").unwrap_err();
        assert!(matches!(error, DataError::InvalidUtf8 { offset: 3, .. }));
        assert!(pieces(b"").unwrap().is_empty());
    }
}
