//! Tab-separated values: a line is a row, a tab ends a column.
//!
//! Tab-separated text is often written without quoting (GLUE, TREC), where a stray quote must not
//! swallow the lines that follow; so a quote never spans a tab or a line here. A field that is
//! wholly quoted is unquoted. Fields that hold tabs or line breaks in quotes are CSV with
//! `delimiter = "\t"`.
use std::borrow::Cow;

use super::csv::{header_hint, other_delimiter};
use super::text_lines::{for_each_line, open};
use super::{FormatEntry, RawRow, RawValue, Request, Sink, positions};
use crate::error::{DataError, Place};

pub(super) const FORMAT: FormatEntry = FormatEntry { name: "tsv", extensions: &["tsv", "tab"], read };

fn read(request: &Request<'_>, sink: &mut Sink<'_>) -> Result<(), DataError> {
    let delimiter = request.delimiter.unwrap_or('\t');
    let mut first: Option<First> = None;
    for_each_line(open(request.path)?, request.path, |number, line| {
        if line.is_empty() {
            return Ok(());
        }
        let fields: Vec<&str> = line.split(delimiter).collect();
        let place = Place::line(request.path, number);
        let first = match &mut first {
            Some(first) => first,
            none => {
                let found = none.insert(First::new(request, &fields, &place)?);
                if request.header {
                    return Ok(());
                }
                found
            }
        };
        if fields.len() != first.width {
            let hint = line.contains('"').then(|| {
                "for quoted fields that hold tabs or line breaks set `format = \"csv\"` and `delimiter = \"\\t\"`".into()
            });
            return Err(DataError::ColumnCount { place, found: fields.len(), expected: first.width, hint });
        }
        let field = |position: &usize| unquoted(fields.get(*position).copied().unwrap_or_default());
        let values =
            first.positions.iter().map(|position| RawValue::Text(field(position).into_owned())).collect();
        sink(RawRow { place, values })
    })?;
    first.map(|_| ()).ok_or_else(|| DataError::NoRows { path: request.path.to_owned() })
}

/// What the first row settles.
struct First {
    width: usize,
    positions: Vec<usize>,
}

impl First {
    fn new(request: &Request<'_>, fields: &[&str], place: &Place) -> Result<Self, DataError> {
        let cells: Vec<String> = fields.iter().map(|field| unquoted(field).trim().to_owned()).collect();
        let (sure, guess) = (other_delimiter(&cells, request.delimiter), header_hint(request));
        let header = request.header.then_some(cells.as_slice());
        let positions = positions(request.columns, header, cells.len(), place, sure, guess)?;
        Ok(Self { width: cells.len(), positions })
    }
}

/// The content of a field that is quoted from end to end, with every quote inside doubled.
fn unquoted(field: &str) -> Cow<'_, str> {
    let inner = field.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner {
        Some(inner) if inner.replace("\"\"", "").contains('"') => Cow::Borrowed(field),
        Some(inner) => Cow::Owned(inner.replace("\"\"", "\"")),
        None => Cow::Borrowed(field),
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
    fn quotes_never_span_lines() {
        let content = b"text\tlabel\r\n\"stray\tx\r\n\"a \"\"b\"\"\"\ty\n\n\"a\" or \"b\"\tz";
        let rows = read("a.tsv", content, &both(), |_| {}).unwrap();
        let expected = [
            (2, vec![text("\"stray"), text("x")]),
            (3, vec![text("a \"b\""), text("y")]),
            (5, vec![text("\"a\" or \"b\""), text("z")]),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_row_of_another_width_is_named() {
        let error = read("a.tsv", b"text\tlabel\n\"a\tb\"\tx\n", &both(), |_| {}).unwrap_err();
        assert!(error.to_string().contains("a.tsv:2`: row has 3 columns, the first row has 2"), "{error}");
        assert!(error.help().unwrap().contains("`format = \"csv\"`"));
    }

    #[test]
    fn header_and_numbers() {
        let columns = [Column::Number(1)];
        let rows = read("a.tsv", b"a\tx\nb\ty", &columns, |request| request.header = false).unwrap();
        assert_eq!(rows, [(1, vec![text("x")]), (2, vec![text("y")])]);
        let error = read("a.tsv", b"text,label\n", &both(), |_| {}).unwrap_err();
        assert!(error.help().unwrap().contains("`delimiter = \",\"`"));
        assert!(matches!(read("a.tsv", b"\n", &both(), |_| {}), Err(DataError::NoRows { .. })));
    }
}
