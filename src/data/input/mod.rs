//! Inputs of a preparation, whatever their form: found in order, and read document by document.

mod bin;
mod find;
mod json_lines;
mod parquet_file;
mod unpack;
mod zstd_pages;

use std::path::Path;
use std::path::PathBuf;

use super::DataError;
use super::text::Pieces;

pub(super) use find::find_inputs;

/// How the contents of a file are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One text.
    Txt,
    /// A JSON object on every line, one field of which is a text.
    Jsonl,
    /// A table, one column of which has texts.
    Parquet,
    /// Tokens, as llm.c and modded-nanogpt write them.
    Bin,
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gz,
    Zst,
}

/// One file to prepare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Input {
    pub path: PathBuf,
    /// What the manifest calls it: the file's name, or folder and path within it, with slashes.
    pub name: String,
    pub kind: Kind,
    pub packing: Packing,
}

/// What an input consists of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// Some text of a document, with the bounds of [`Pieces`].
    Text(String),
    /// Some tokens of a document.
    Tokens(Vec<u32>),
    /// The end of a document.
    End,
}

impl Item {
    /// Bytes of text, or of the tokens in their file.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Tokens(tokens) => 2 * tokens.len() as u64,
            Self::End => 0,
        }
    }
}

/// What is needed to read inputs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading<'a> {
    /// The field of JSON lines that holds the text.
    pub field: &'a str,
    /// The column of Parquet that holds the text.
    pub column: &'a str,
    /// Of token files: what is between documents, and the vocabulary. None without a tokenizer.
    pub tokens: Option<(u32, usize)>,
}

impl Input {
    /// What the manifest calls this form.
    pub fn kind_name(&self) -> String {
        let kind = match self.kind {
            Kind::Txt => "txt",
            Kind::Jsonl => "jsonl",
            Kind::Parquet => "parquet",
            Kind::Bin => "bin",
        };
        let packing = match self.packing {
            Packing::Plain => "",
            Packing::Gz => "+gz",
            Packing::Zst => "+zst",
        };
        format!("{kind}{packing}")
    }

    /// The field or column that is read, where the form has some.
    pub fn field_name(&self, reading: &Reading<'_>) -> String {
        match self.kind {
            Kind::Jsonl => reading.field.to_owned(),
            Kind::Parquet => reading.column.to_owned(),
            Kind::Txt | Kind::Bin => String::new(),
        }
    }

    /// Gives the input's items to `visit` in order, and stops at its first error. A document
    /// without text is an `End` alone.
    pub fn read(
        &self,
        reading: Reading<'_>,
        visit: &mut dyn FnMut(Item) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        match self.kind {
            Kind::Txt => {
                let mut pieces = Pieces::new(&self.path, unpack::open(&self.path, self.packing)?);
                while let Some(piece) = pieces.next_piece()? {
                    visit(Item::Text(piece))?;
                }
                visit(Item::End)
            }
            Kind::Jsonl => {
                let source = unpack::open(&self.path, self.packing)?;
                json_lines::read(&self.path, source, reading.field, visit)
            }
            Kind::Parquet => parquet_file::read(&self.path, reading.column, visit),
            Kind::Bin => bin::read(&self.path, reading.tokens, visit),
        }
    }
}

/// Gives a document that is at hand to `visit`.
fn visit_document(
    path: &Path,
    text: String,
    visit: &mut dyn FnMut(Item) -> Result<(), DataError>,
) -> Result<(), DataError> {
    if text.len() <= Pieces::<&[u8]>::BYTES {
        if !text.is_empty() {
            visit(Item::Text(text))?;
        }
    } else {
        let mut pieces = Pieces::of_str(path, &text);
        while let Some(piece) = pieces.next_piece()? {
            visit(Item::Text(piece))?;
        }
    }
    visit(Item::End)
}
