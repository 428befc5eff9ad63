//! Plain text: a line is a row with the single column `text`.
//!
//! Blank lines are skipped, since they separate paragraphs; the line numbers count them.
use super::text_lines::{for_each_line, open};
use super::{FormatEntry, RawRow, RawValue, Request, Sink, positions};
use crate::error::{DataError, Place};

pub(super) const FORMAT: FormatEntry = FormatEntry { name: "text", extensions: &["txt", "text"], read };

fn read(request: &Request<'_>, sink: &mut Sink<'_>) -> Result<(), DataError> {
    let hint = Some("plain text has the single column `text`".to_owned());
    let header = ["text".to_owned()];
    positions(request.columns, Some(&header), 1, &Place::line(request.path, 1), None, hint)?;
    for_each_line(open(request.path)?, request.path, |number, line| {
        if line.trim().is_empty() {
            return Ok(());
        }
        let values = request.columns.iter().map(|_| RawValue::Text(line.to_owned())).collect();
        sink(RawRow { place: Place::line(request.path, number), values })
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, text};

    #[test]
    fn a_line_is_a_row() {
        let rows = read("a.txt", b"one\r\n\n  \ntwo, 2", &["text".into()], |_| {}).unwrap();
        assert_eq!(rows, [(1, vec![text("one")]), (4, vec![text("two, 2")])]);
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
