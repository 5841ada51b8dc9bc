//! Pages of Parquet that zstd compressed, unpacked in Rust.
//!
//! The parquet crate would use the zstd library, which is C. Asked for a column without
//! compression it gives pages as they are; here they are unpacked, within a bound.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::column::page::Page;
use parquet::column::page::PageMetadata;
use parquet::column::page::PageReader;
use parquet::errors::ParquetError;
use parquet::errors::Result;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::serialized_reader::SerializedPageReader;

use super::unpack::ZstdFrames;

/// The pages of a column, unpacked.
pub struct ZstdPages(SerializedPageReader<File>);

impl ZstdPages {
    /// The pages of `column`, whose compression is zstd.
    pub fn new(file: Arc<File>, column: &ColumnChunkMetaData, rows: usize) -> Result<Self> {
        let builder = column.clone().into_builder();
        let plain = builder.set_compression(Compression::UNCOMPRESSED).build()?;
        Ok(Self(SerializedPageReader::new(file, &plain, rows, None)?))
    }
}

impl Iterator for ZstdPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for ZstdPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(mut page) = self.0.get_next_page()? else { return Ok(None) };
        match &mut page {
            Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => {
                *buf = unpacked(&[], buf)?.into();
            }
            Page::DataPageV2 { buf, is_compressed, .. } if !*is_compressed => *buf = buf.clone(),
            Page::DataPageV2 {
                buf,
                def_levels_byte_len,
                rep_levels_byte_len,
                is_compressed,
                ..
            } => {
                let levels = *def_levels_byte_len as usize + *rep_levels_byte_len as usize;
                let (levels, values) = buf
                    .split_at_checked(levels)
                    .ok_or_else(|| ParquetError::General("levels beyond their page".into()))?;
                *buf = unpacked(levels, values)?.into();
                *is_compressed = false;
            }
        }
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.0.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.0.skip_next_page()
    }
}

/// `before`, and what `packed` holds.
fn unpacked(before: &[u8], packed: &[u8]) -> Result<Vec<u8>> {
    let mut out = before.to_vec();
    let mut frames = ZstdFrames::new(packed).take(MAX_PAGE_BYTES + 1);
    frames.read_to_end(&mut out).map_err(|e| ParquetError::External(Box::new(e)))?;
    if out.len() as u64 > MAX_PAGE_BYTES {
        return Err(ParquetError::General(format!("a page of more than {MAX_PAGE_BYTES} bytes")));
    }
    Ok(out)
}

/// The most that a page may hold: what is in memory at once.
const MAX_PAGE_BYTES: u64 = 512 << 20;
