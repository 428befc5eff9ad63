//! Plain text with the single column `text`: a row is a line, a paragraph or the whole file.
//!
//! Blank lines separate paragraphs and are skipped; the line numbers count them.
use super::text_lines::{for_each_line, open};
use super::{FormatEntry, RawRow, RawValue, Request, Sink, TextUnit, positions};
use crate::error::{DataError, Place};

pub(super) const FORMAT: FormatEntry = FormatEntry { name: "text", extensions: &["txt", "text"], read };

fn read(request: &Request<'_>, sink: &mut Sink<'_>) -> Result<(), DataError> {
    let hint = Some("plain text has the single column `text`".to_owned());
    let header = ["text".to_owned()];
    positions(request.columns, Some(&header), 1, &Place::line(request.path, 1), None, hint)?;
    let mut row = |number, text: &str| {
        let text = text.trim_end();
        let values = request.columns.iter().map(|_| RawValue::Text(text.to_owned())).collect();
        sink(RawRow { place: Place::line(request.path, number), values })
    };
    // The line on which the row starts, and its lines so far.
    let (mut first, mut lines) = (0, String::new());
    for_each_line(open(request.path)?, request.path, |number, line| {
        let blank = line.trim().is_empty();
        let ends = match request.text_unit {
            TextUnit::Line => true,
            TextUnit::Paragraph => blank,
            TextUnit::File => false,
        };
        if ends && !lines.is_empty() {
            row(first, &std::mem::take(&mut lines))?;
        }
        if lines.is_empty() {
            first = number;
        } else {
            lines.push('\n');
        }
        if !(blank && lines.is_empty()) {
            lines.push_str(line);
        }
        Ok(())
    })?;
    if lines.is_empty() { Ok(()) } else { row(first, &lines) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, text};
    use super::*;

    fn rows(content: &[u8], unit: TextUnit) -> Vec<(u64, Vec<RawValue>)> {
        read("a.txt", content, &["text".into()], |request| request.text_unit = unit).unwrap()
    }

    #[test]
    fn a_line_is_a_row() {
        let rows = rows(b"one\r\n\n  \ntwo, 2", TextUnit::Line);
        assert_eq!(rows, [(1, vec![text("one")]), (4, vec![text("two, 2")])]);
    }

    #[test]
    fn paragraphs_end_at_blank_lines() {
        let rows = rows(b"\n one\r\ntwo\n\n \t\nthree\n\n", TextUnit::Paragraph);
        assert_eq!(rows, [(2, vec![text(" one\ntwo")]), (6, vec![text("three")])]);
    }

    #[test]
    fn a_file_is_a_row_with_its_blank_lines() {
        let whole = rows(b"\n  one\n\n\ntwo\n\n", TextUnit::File);
        assert_eq!(whole, [(2, vec![text("  one\n\n\ntwo")])]);
        for unit in [TextUnit::Line, TextUnit::Paragraph, TextUnit::File] {
            assert_eq!(rows(b"\n \n", unit), []);
            assert_eq!(rows(b"one", unit), [(1, vec![text("one")])]);
        }
    }

    #[test]
    fn there_is_no_other_column() {
        let error = read("a.txt", b"one", &["text".into(), "label".into()], |_| {}).unwrap_err();
        assert!(error.to_string().contains("no column `label`; the columns are `text`"), "{error}");
        assert!(error.help().unwrap().contains("single column"));
    }

    #[test]
    fn invalid_utf8_names_line_and_byte() {
        let error = read("a.txt", b"one\ntw\xf6\n", &["text".into()], |_| {}).unwrap_err();
        assert!(error.to_string().contains("a.txt:2`: invalid UTF-8, byte 0xf6 at offset 6"), "{error}");
    }
}
