//! Parquet: a column of texts, page by page.

use std::fs::File;
use std::panic::AssertUnwindSafe;
use std::panic::catch_unwind;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::Compression;
use parquet::basic::Type;
use parquet::column::page::PageReader;
use parquet::column::reader::ColumnReaderImpl;
use parquet::column::reader::get_column_reader;
use parquet::column::reader::get_typed_column_reader;
use parquet::data_type::ByteArray;
use parquet::data_type::ByteArrayType;
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::file::serialized_reader::SerializedPageReader;

use super::Item;
use super::visit_document;
use super::zstd_pages::ZstdPages;
use crate::data::DataError;

/// Reads the texts of `column`; a null counts as a text of no bytes.
pub fn read(
    path: &Path,
    column: &str,
    visit: &mut dyn FnMut(Item) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let fail = |reason: String| DataError::Input { path: path.to_path_buf(), reason };
    let damaged = |e: ParquetError| fail(format!("damaged or cut off: {e}"));
    let file = File::open(path).map_err(DataError::read(path))?;
    let pages = Arc::new(file.try_clone().map_err(DataError::read(path))?);
    let reader = guarded(|| SerializedFileReader::new(file)).map_err(damaged)?;
    let metadata = reader.metadata();
    let columns = metadata.file_metadata().schema_descr().columns();
    let Some(index) = columns.iter().position(|c| c.path().string() == column) else {
        let names: Vec<_> = columns.iter().map(|c| format!("{:?}", c.path().string())).collect();
        let reason =
            format!("no column {column:?}; it has {} (--column names one)", names.join(", "));
        return Err(fail(reason));
    };
    let description = &columns[index];
    if description.physical_type() != Type::BYTE_ARRAY || description.max_rep_level() > 0 {
        return Err(fail(format!("column {column:?} has no text in each row")));
    }
    let mut row = 0;
    for group in metadata.row_groups() {
        let rows = usize::try_from(group.num_rows())
            .map_err(|_| fail(format!("a group of {} rows", group.num_rows())))?;
        let pages = page_reader(&pages, group.column(index), rows).map_err(&fail)?;
        let values = guarded(|| Ok(get_column_reader(description.clone(), pages)));
        let mut values = get_typed_column_reader::<ByteArrayType>(values.map_err(damaged)?);
        let end = row + rows as u64;
        while row < end {
            let batch = guarded(|| next_batch(&mut values, description.max_def_level()));
            let batch = batch.map_err(damaged)?;
            if batch.is_empty() {
                return Err(fail(format!("damaged: its rows end at {row} of {end}")));
            }
            for value in batch {
                let bytes = value.as_ref().map_or(&[][..], ByteArray::data);
                let text = std::str::from_utf8(bytes).map_err(|e| DataError::Row {
                    path: path.to_path_buf(),
                    row: "row",
                    number: row,
                    reason: format!(
                        "column {column:?} is not UTF-8: invalid byte at offset {}",
                        e.valid_up_to()
                    ),
                })?;
                visit_document(path, text.to_owned(), visit)?;
                row += 1;
            }
        }
    }
    Ok(())
}

/// The pages of a column of one group, or why they cannot be read.
fn page_reader(
    file: &Arc<File>,
    column: &ColumnChunkMetaData,
    rows: usize,
) -> Result<Box<dyn PageReader>, String> {
    let damaged = |e: ParquetError| format!("damaged or cut off: {e}");
    Ok(match column.compression() {
        Compression::UNCOMPRESSED | Compression::SNAPPY | Compression::GZIP(_) => {
            let pages = || SerializedPageReader::new(file.clone(), column, rows, None);
            Box::new(guarded(pages).map_err(damaged)?)
        }
        Compression::ZSTD(_) => {
            let pages = || ZstdPages::new(file.clone(), column, rows);
            Box::new(guarded(pages).map_err(damaged)?)
        }
        other => {
            return Err(format!(
                "compressed with {other}; write it again with snappy, gzip, zstd or none"
            ));
        }
    })
}

/// What the crate makes of a file. Of some damaged ones it makes a panic (an assertion on a page's lengths):
/// that is an error like others here, and nothing of what it was reading is used afterwards.
fn guarded<T>(read: impl FnOnce() -> Result<T, ParquetError>) -> Result<T, ParquetError> {
    let gave_up = |_| Err(ParquetError::General("its lengths do not fit together".into()));
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(gave_up)
}

/// Some rows: none at the end.
fn next_batch(
    values: &mut ColumnReaderImpl<ByteArrayType>,
    max_level: i16,
) -> Result<Vec<Option<ByteArray>>, ParquetError> {
    let (mut levels, mut texts) = (Vec::new(), Vec::new());
    let wanted = if max_level > 0 { Some(&mut levels) } else { None };
    values.read_records(BATCH_ROWS, wanted, None, &mut texts)?;
    let mut texts = texts.into_iter();
    if max_level == 0 {
        return Ok(texts.map(Some).collect());
    }
    Ok(levels.into_iter().map(|l| if l == max_level { texts.next() } else { None }).collect())
}

/// Rows that are held at once.
const BATCH_ROWS: usize = 256;
