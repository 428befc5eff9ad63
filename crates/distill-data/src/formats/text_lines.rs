//! What the text formats share: opening without a byte order mark, lines, and finding bytes that
//! are not UTF-8.
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use crate::error::{DataError, Place};

const BOM: &[u8] = b"\xef\xbb\xbf";

/// Opens a text file behind its UTF-8 byte order mark, if it has one.
pub(super) fn open(path: &Path) -> Result<BufReader<File>, DataError> {
    let fault = |error| DataError::io("read", path, error);
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path).map_err(fault)?);
    if reader.fill_buf().map_err(fault)?.starts_with(BOM) {
        reader.consume(BOM.len());
    }
    Ok(reader)
}

/// Calls `each` with every line (number from 1, without `\n` or `\r\n`).
pub(super) fn for_each_line(
    mut reader: impl BufRead,
    path: &Path,
    mut each: impl FnMut(u64, &str) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let mut line = Vec::new();
    let mut number = 0;
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line).map_err(|error| DataError::io("read", path, error))?;
        if read == 0 {
            return Ok(());
        }
        number += 1;
        if line.last() == Some(&b'\n') {
            line.pop();
            if line.last() == Some(&b'\r') {
                line.pop();
            }
        }
        let text = std::str::from_utf8(&line).map_err(|error| {
            invalid_utf8(path).unwrap_or_else(|| DataError::InvalidUtf8 {
                place: Place::line(path, number),
                byte: line.get(error.valid_up_to()).copied().unwrap_or_default(),
                offset: error.valid_up_to() as u64,
            })
        })?;
        each(number, text)?;
    }
}

/// The first byte of the file that cannot be decoded; `None` if all can (or it cannot be read
/// again, as a pipe).
///
/// Readers call this once decoding has failed: they know the row, this knows the line and the byte.
pub(super) fn invalid_utf8(path: &Path) -> Option<DataError> {
    const CHUNK: u64 = 1 << 16;
    if !path.is_file() {
        return None;
    }
    let mut file = File::open(path).ok()?;
    let (mut bytes, mut offset, mut line) = (Vec::new(), 0u64, 1u64);
    loop {
        let read = (&mut file).take(CHUNK).read_to_end(&mut bytes).ok()?;
        let (valid, cut) = match std::str::from_utf8(&bytes) {
            Ok(_) => (bytes.len(), false),
            // A character that the end of the chunk cuts is whole in the next one.
            Err(error) => (error.valid_up_to(), error.error_len().is_none() && read > 0),
        };
        let newlines = |part: &[u8]| part.iter().filter(|byte| **byte == b'\n').count() as u64;
        line += newlines(&bytes[..valid]);
        if valid < bytes.len() && !cut {
            let (byte, offset) = (bytes[valid], offset + valid as u64);
            return Some(DataError::InvalidUtf8 { place: Place::line(path, line), byte, offset });
        }
        if read == 0 {
            return None;
        }
        offset += valid as u64;
        bytes.drain(..valid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locate(content: &[u8]) -> Option<(u64, u8, u64)> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        match invalid_utf8(file.path()) {
            Some(DataError::InvalidUtf8 { place, byte, offset }) => Some((place.number, byte, offset)),
            None => None,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_first_invalid_byte_is_found() {
        assert_eq!(locate(b"a\nb\xe9c\n"), Some((2, 0xe9, 3)));
        assert_eq!(locate("a\n\u{e9}\n".as_bytes()), None);
        assert_eq!(locate(b"a\n\xc3"), Some((2, 0xc3, 2)));
    }

    #[test]
    fn characters_across_chunks_are_valid() {
        let mut content = "\u{20ac}".repeat(50_000).into_bytes();
        assert_eq!(locate(&content), None);
        content.extend(b"\n\xff");
        assert_eq!(locate(&content), Some((2, 0xff, 150_001)));
    }

    #[test]
    fn line_ends_and_byte_order_marks_are_stripped() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}a\r\n\r\nb\rc\nd").unwrap();
        let mut lines = Vec::new();
        for_each_line(open(file.path()).unwrap(), file.path(), |number, line| {
            lines.push((number, line.to_owned()));
            Ok(())
        })
        .unwrap();
        let expected = [(1, "a"), (2, ""), (3, "b\rc"), (4, "d")];
        assert_eq!(lines, expected.map(|(number, line)| (number, line.to_owned())));
    }
}
