//! Comma-separated values after RFC 4180: quoted fields, doubled quotes, line breaks inside quotes.
//!
//! Blank lines are skipped. Every row must have as many columns as the first.
use std::collections::VecDeque;
use std::io::{Chain, Read};
use std::path::Path;

use ::csv::{ByteRecord, Reader, ReaderBuilder};

use super::text_lines::{invalid_utf8, open};
use super::{FormatEntry, RawRow, RawValue, Request, Sink, positions};
use crate::error::{DataError, Place};

pub(super) const FORMAT: FormatEntry = FormatEntry { name: "csv", extensions: &["csv"], read };

fn read(request: &Request<'_>, sink: &mut Sink<'_>) -> Result<(), DataError> {
    let delimiter = ascii(request.delimiter.unwrap_or(','))?;
    let mut records = Records::new(open(request.path)?, request.path, delimiter);
    let Some(first) = records.next()? else {
        return Err(DataError::NoRows { path: request.path.to_owned() });
    };
    let width = records.record.len();
    let cells = records.cells();
    let header = request.header.then_some(cells.as_slice());
    let (sure, guess) = (other_delimiter(&cells, request.delimiter), header_hint(request));
    let positions = positions(request.columns, header, width, &first, sure, guess)?;
    if !request.header {
        sink(RawRow { place: first, values: records.values(&positions) })?;
    }
    while let Some(place) = records.next()? {
        if records.record.len() != width {
            let hint = other_delimiter(&cells, request.delimiter).or_else(|| column_count_hint(delimiter));
            return Err(DataError::ColumnCount { place, found: records.record.len(), expected: width, hint });
        }
        sink(RawRow { place, values: records.values(&positions) })?;
    }
    Ok(())
}

fn ascii(delimiter: char) -> Result<u8, DataError> {
    match u8::try_from(delimiter) {
        Ok(byte) if byte.is_ascii() && !matches!(byte, b'"' | b'\r' | b'\n') => Ok(byte),
        _ => Err(DataError::Delimiter { found: delimiter }),
    }
}

/// A first row of a single cell that holds a delimiter is the usual sign of a wrong one.
pub(super) fn other_delimiter(cells: &[String], delimiter: Option<char>) -> Option<String> {
    let [cell] = cells else { return None };
    if cell.contains('\t') && delimiter != Some('\t') {
        return Some(
            "the columns look separated by tabs; set `delimiter = \"\\t\"` or `format = \"tsv\"`".into(),
        );
    }
    let found = [';', '|', ','].into_iter().find(|other| cell.contains(*other))?;
    Some(format!("the columns look separated by `{found}`; set `delimiter = \"{found}\"`"))
}

pub(super) fn header_hint(request: &Request<'_>) -> Option<String> {
    request
        .header
        .then(|| "if the first row is data, set `header = false` and name columns by number, from 0".into())
}

fn column_count_hint(delimiter: u8) -> Option<String> {
    Some(format!("quote fields that hold `{}` or a line break", (delimiter as char).escape_default()))
}

/// The last record, which closes a file that is in order.
///
/// An unclosed quote swallows all that follows, and `csv` takes the end of the file for its end.
/// With one more record after the file's end, the fault shows: the record is not read as itself.
const SENTINEL: &[u8] = b"\n\x01";

/// Records with the line on which each starts.
struct Records<'a, R> {
    reader: Reader<Newlines<Chain<R, &'static [u8]>>>,
    record: ByteRecord,
    path: &'a Path,
}

impl<'a, R: Read> Records<'a, R> {
    fn new(input: R, path: &'a Path, delimiter: u8) -> Self {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .delimiter(delimiter)
            .buffer_capacity(1 << 16)
            .from_reader(Newlines::new(input.chain(SENTINEL)));
        Self { reader, record: ByteRecord::new(), path }
    }

    /// Reads the next record; its place, or `None` at the end.
    fn next(&mut self) -> Result<Option<Place>, DataError> {
        let more =
            self.reader.read_byte_record(&mut self.record).map_err(|error| match error.into_kind() {
                ::csv::ErrorKind::Io(error) => DataError::io("read", self.path, error),
                other => DataError::io("read", self.path, std::io::Error::other(format!("{other:?}"))),
            })?;
        let end = self.reader.position().byte();
        let newlines = self.reader.get_mut().pass(end);
        let inside = self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64;
        let place = Place::line(self.path, 1 + newlines.saturating_sub(inside));
        let at_end = self.reader.get_ref().is_end(end);
        if !more || (at_end && self.record.len() == 1 && self.record.as_slice() == b"\x01") {
            return Ok(None);
        }
        if at_end {
            return Err(DataError::UnclosedQuote { place });
        }
        if self.record.iter().any(|field| std::str::from_utf8(field).is_err()) {
            let fallback = DataError::InvalidUtf8 { place, byte: 0, offset: end };
            return Err(invalid_utf8(self.path).unwrap_or(fallback));
        }
        Ok(Some(place))
    }

    fn cells(&self) -> Vec<String> {
        self.record.iter().map(|field| String::from_utf8_lossy(field).trim().to_owned()).collect()
    }

    fn values(&self, positions: &[usize]) -> Vec<RawValue> {
        let field = |position: &usize| self.record.get(*position).unwrap_or_default();
        positions
            .iter()
            .map(|position| RawValue::Text(String::from_utf8_lossy(field(position)).into_owned()))
            .collect()
    }
}

/// Remembers where the line breaks are of what passes through.
///
/// `csv` gives the line on which it began to look for a record, which is one of the blank lines
/// before it, or with `\r\n` the line before.
struct Newlines<R> {
    input: R,
    total: u64,
    ended: bool,
    ahead: VecDeque<u64>,
    passed: u64,
}

impl<R> Newlines<R> {
    fn new(input: R) -> Self {
        Self { input, total: 0, ended: false, ahead: VecDeque::new(), passed: 0 }
    }

    /// Line breaks before the end of the record that ends before byte `end`, without the break that
    /// ends it.
    fn pass(&mut self, end: u64) -> u64 {
        let mut last = None;
        while let Some(offset) = self.ahead.pop_front_if(|offset| *offset < end) {
            self.passed += 1;
            last = Some(offset);
        }
        self.passed - u64::from(last.is_some_and(|offset| offset + 1 == end))
    }

    fn is_end(&self, end: u64) -> bool {
        self.ended && end == self.total
    }
}

impl<R: Read> Read for Newlines<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.ended |= read == 0 && !buffer.is_empty();
        let breaks = buffer[..read].iter().enumerate().filter(|(_, byte)| **byte == b'\n');
        self.ahead.extend(breaks.map(|(index, _)| self.total + index as u64));
        self.total += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, text};
    use super::*;
    use crate::source::Column;

    fn both() -> [Column; 2] {
        ["text".into(), "label".into()]
    }

    #[test]
    fn quoted_fields_hold_delimiters_quotes_and_line_breaks() {
        let content = b"label,text\nx,\"a, \"\"b\"\"\nc\"\n\ny,d\n\"z\",\"\"\n";
        let rows = read("a.csv", content, &both(), |_| {}).unwrap();
        let expected = [
            (2, vec![text("a, \"b\"\nc"), text("x")]),
            (5, vec![text("d"), text("y")]),
            (6, vec![text(""), text("z")]),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn lines_are_counted_the_same_with_carriage_returns_and_a_byte_order_mark() {
        let content = "\u{feff}\r\ntext,label\r\n\"a\r\nb\",x\r\n\r\nc,y".as_bytes();
        let rows = read("a.csv", content, &both(), |_| {}).unwrap();
        assert_eq!(rows, [(3, vec![text("a\r\nb"), text("x")]), (6, vec![text("c"), text("y")])]);
    }

    #[test]
    fn line_numbers_hold_across_buffers() {
        let mut content = String::from("text,label\n");
        for index in 0..30_000 {
            content.push_str(&format!("\"row\n{index}\",x\n"));
        }
        let rows = read("a.csv", content.as_bytes(), &["text".into()], |_| {}).unwrap();
        assert_eq!(rows.len(), 30_000);
        for (index, (line, values)) in rows.iter().enumerate() {
            assert_eq!((*line, &values[0]), (2 + 2 * index as u64, &text(&format!("row\n{index}"))));
        }
    }

    #[test]
    fn without_header_columns_are_numbers() {
        let columns = [Column::Number(2), Column::Number(0)];
        let rows = read("a.csv", b"3,t,d\n4,t,e\n", &columns, |request| request.header = false).unwrap();
        assert_eq!(rows, [(1, vec![text("d"), text("3")]), (2, vec![text("e"), text("4")])]);
        let error = read("a.csv", b"3,t\n", &columns, |request| request.header = false).unwrap_err();
        assert!(error.to_string().contains("no column `2`; the columns are `0`, `1`"), "{error}");
        let error = read("a.csv", b"3,t\n", &both(), |request| request.header = false).unwrap_err();
        assert!(error.help().unwrap().contains("numbers, from 0"));
    }

    #[test]
    fn a_row_of_another_width_is_named() {
        let error = read("a.csv", b"text,label\na,x\n\"b\nb\",y\nc,d,z\n", &both(), |_| {}).unwrap_err();
        assert!(error.to_string().contains("a.csv:5`: row has 3 columns, the first row has 2"), "{error}");
        assert!(error.help().unwrap().contains("quote fields that hold `,`"));
    }

    #[test]
    fn a_wrong_delimiter_is_suspected() {
        let error = read("a.csv", b"text\tlabel\na\tx\n", &both(), |_| {}).unwrap_err();
        assert!(error.help().unwrap().contains("`format = \"tsv\"`"), "{error}");
        let error = read("a.csv", b"text;label\na;x\n", &both(), |_| {}).unwrap_err();
        assert!(error.help().unwrap().contains("`delimiter = \";\"`"), "{error}");
        let rows = read("a.csv", b"text\tlabel\na\tx\n", &both(), |request| request.delimiter = Some('\t'));
        assert_eq!(rows.unwrap(), [(2, vec![text("a"), text("x")])]);
        let error = read("a.csv", b"a", &both(), |request| request.delimiter = Some('\u{2192}')).unwrap_err();
        assert!(matches!(error, DataError::Delimiter { .. }));
    }

    #[test]
    fn a_misspelt_column_gets_its_neighbour_and_a_missing_header_is_suspected() {
        let error = read("a.csv", b"text,lable\na,x\n", &both(), |_| {}).unwrap_err();
        assert_eq!(error.help().as_deref(), Some("did you mean `lable`?"));
        let error = read("a.csv", b"3,Some title,Words\n", &both(), |_| {}).unwrap_err();
        assert!(error.help().unwrap().contains("`header = false`"));
    }

    #[test]
    fn an_unclosed_quote_is_named_with_its_first_line() {
        for tail in ["", "\n", "\r\n", "\nd,w\n"] {
            let content = format!("text,label\na,x\nb,\"y{tail}");
            let error = read("a.csv", content.as_bytes(), &both(), |_| {}).unwrap_err();
            assert!(matches!(error, DataError::UnclosedQuote { .. }), "{error}");
            assert!(error.to_string().contains("a.csv:3`"), "{error}");
        }
        for closed in
            ["text,label\nb,\"y\n\"\n", "text,label\nb,\"y\n\"", "text,label\nb,y\"", "text,label\nb,y\n\n\n"]
        {
            assert_eq!(read("a.csv", closed.as_bytes(), &both(), |_| {}).unwrap().len(), 1, "{closed:?}");
        }
    }

    #[test]
    fn invalid_utf8_names_line_and_byte() {
        let error = read("a.csv", b"text,label\n\"a\nb\xe9\",x\n", &both(), |_| {}).unwrap_err();
        assert!(error.to_string().contains("a.csv:3`: invalid UTF-8, byte 0xe9 at offset 15"), "{error}");
        let error = read("a.csv", b"\xff\xfet\0e\0", &both(), |_| {}).unwrap_err();
        assert!(error.help().unwrap().contains("UTF-16"));
    }

    #[test]
    fn an_empty_file_has_no_rows() {
        for content in ["", "\u{feff}", "\n\n"] {
            let error = read("a.csv", content.as_bytes(), &both(), |_| {}).unwrap_err();
            assert!(matches!(error, DataError::NoRows { .. }), "{error}");
        }
        assert_eq!(read("a.csv", b"text,label\n", &both(), |_| {}).unwrap(), []);
    }
}
