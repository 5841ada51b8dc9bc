//! A record of a TFRecord file: length (8 bytes), its masked checksum, the bytes, their masked checksum;
//! all little-endian (tensorflow's `record_writer.cc`).

use super::crc32c::masked;

/// `bytes` as a record.
pub(super) fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(bytes.len() + 16);
    out.extend(length);
    out.extend(masked(&length).to_le_bytes());
    out.extend(bytes);
    out.extend(masked(bytes).to_le_bytes());
    out
}
