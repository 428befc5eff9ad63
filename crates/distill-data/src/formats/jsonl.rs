//! JSON lines: an object a line. A file that holds one array of objects is read too, and a `.json`
//! file of one object whose values are the rows.
//!
//! Text may be a string, a number's worth of digits, or a list of strings (joined by a space);
//! labels may be strings, integers or booleans.
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Deserializer, Map, Value};

use super::text_lines::{for_each_line, invalid_utf8, open};
use super::{FormatEntry, RawRow, RawValue, Request, Sink};
use crate::error::{DataError, Place};
use crate::source::Column;

pub(super) const FORMAT: FormatEntry =
    FormatEntry { name: "jsonl", extensions: &["jsonl", "ndjson", "json"], read };

fn read(request: &Request<'_>, sink: &mut Sink<'_>) -> Result<(), DataError> {
    read_objects(request, &mut |object, place| sink(row(object, place, request.columns)?))
}

/// Takes an object with the line on which it starts.
type ObjectSink<'a> = dyn FnMut(Map<String, Value>, Place) -> Result<(), DataError> + 'a;

/// Reads the objects of a file as they are, with all their keys; the columns of the request only tell
/// an object of rows from a row.
pub(crate) fn read_objects(request: &Request<'_>, sink: &mut ObjectSink<'_>) -> Result<(), DataError> {
    let mut input = open(request.path)?;
    let start = input.fill_buf().map_err(|error| DataError::io("read", request.path, error))?;
    if start.trim_ascii_start().first() == Some(&b'[') {
        return read_whole(input, request, sink, |json, rows| json.deserialize_seq(rows));
    }
    if is_object_of_rows(request)? {
        return read_whole(input, request, sink, |json, rows| json.deserialize_map(rows));
    }
    read_object_lines(input, request.path, sink)
}

/// Whether a file that begins with `{` is one object with a row for each key, not an object a line.
fn is_object_of_rows(request: &Request<'_>) -> Result<bool, DataError> {
    let extension = request.path.extension().and_then(|extension| extension.to_str());
    if !extension.is_some_and(|extension| extension.eq_ignore_ascii_case("json")) || !request.path.is_file() {
        return Ok(false);
    }
    let (mut input, mut line) = (open(request.path)?, Vec::new());
    let fault = |error| DataError::io("read", request.path, error);
    while line.trim_ascii().is_empty() && input.read_until(b'\n', &mut line).map_err(fault)? > 0 {}
    match serde_json::from_slice::<Map<String, Value>>(&line) {
        // A row may hold objects, but not in the columns that are read.
        Ok(object) => {
            let is_column = |name: &String| request.columns.contains(&Column::Name(name.clone()));
            Ok(!object.is_empty() && object.values().all(Value::is_object) && !object.keys().any(is_column))
        }
        Err(error) if error.is_eof() => first_value_is_an_object(open(request.path)?),
        Err(_) => Ok(false),
    }
    .map_err(fault)
}

fn first_value_is_an_object(input: impl BufRead) -> std::io::Result<bool> {
    let mut structure = input.bytes();
    // Past the key, whose quotes may be escaped, to what follows its colon.
    let (mut inside, mut escaped) = (false, false);
    while let Some(byte) = structure.next().transpose()? {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => inside = !inside,
            b':' if !inside => break,
            _ => {}
        }
    }
    for byte in structure {
        let byte = byte?;
        if !byte.is_ascii_whitespace() {
            return Ok(byte == b'{');
        }
    }
    Ok(false)
}

/// Reads JSON lines from anything, for example standard input; `path` only names it in errors.
///
/// Blank lines are skipped.
///
/// # Errors
/// A line that is no JSON object or lacks a column, and what `sink` returns.
pub fn read_lines(
    input: impl BufRead,
    path: &Path,
    columns: &[Column],
    sink: &mut Sink<'_>,
) -> Result<(), DataError> {
    read_object_lines(input, path, &mut |object, place| sink(row(object, place, columns)?))
}

fn read_object_lines(input: impl BufRead, path: &Path, sink: &mut ObjectSink<'_>) -> Result<(), DataError> {
    for_each_line(input, path, |number, line| {
        if line.trim().is_empty() {
            return Ok(());
        }
        let place = Place::line(path, number);
        let object = match serde_json::from_str::<Map<String, Value>>(line) {
            Ok(object) => object,
            Err(error) => {
                let hint = (number == 1 && error.is_eof() && line.trim_start().starts_with('{'))
                    .then(|| "one object over several lines is not read; write an object a line, or one array of objects".into());
                return Err(DataError::Json { place, reason: reason(&error), hint });
            }
        };
        sink(object, place)
    })
}

/// The parser's message, with the column alone: it counts lines within the line.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" at line ") {
        Some((message, _)) => format!("{message} at column {}", error.column()),
        None => text,
    }
}

fn row(mut object: Map<String, Value>, place: Place, columns: &[Column]) -> Result<RawRow, DataError> {
    let mut values = Vec::with_capacity(columns.len());
    for (index, column) in columns.iter().enumerate() {
        let Column::Name(name) = column else {
            return Err(missing(
                &object,
                place,
                column,
                Some("columns of JSON have names, not numbers".into()),
            ));
        };
        // A column may be asked for twice; only its last use may take it out of the object.
        let again = columns[index + 1..].contains(column);
        let value = if again { object.get(name).cloned() } else { object.get_mut(name).map(Value::take) };
        match value {
            Some(value) => values.push(raw(value)),
            None => return Err(missing(&object, place, column, None)),
        }
    }
    Ok(RawRow { place, values })
}

fn missing(object: &Map<String, Value>, place: Place, column: &Column, hint: Option<String>) -> DataError {
    let available = object.keys().cloned().collect();
    DataError::MissingColumn { place, column: column.to_string(), available, hint }
}

fn raw(value: Value) -> RawValue {
    match value {
        Value::String(text) => RawValue::Text(text),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => RawValue::Integer(integer),
            None => RawValue::Json(Value::Number(number)),
        },
        Value::Bool(boolean) => RawValue::Boolean(boolean),
        Value::Null => RawValue::Null,
        list_or_object => RawValue::Json(list_or_object),
    }
}

/// Reads a file that is one array or one object, by `visit`.
fn read_whole<R: BufRead>(
    input: R,
    request: &Request<'_>,
    sink: &mut ObjectSink<'_>,
    visit: impl FnOnce(&mut Json<'_, R>, Rows<'_, '_>) -> serde_json::Result<()>,
) -> Result<(), DataError> {
    let line = Cell::new(1);
    let counted = BufReader::with_capacity(1, LineCounter { input, line: &line });
    let mut json = Deserializer::from_reader(counted);
    let mut fault = None;
    let result = visit(&mut json, Rows { line: &line, path: request.path, sink, fault: &mut fault })
        .and_then(|()| json.end());
    if let Some(fault) = fault {
        return Err(fault);
    }
    result.map_err(|error| {
        if error.is_io() {
            return DataError::io("read", request.path, error.into());
        }
        invalid_utf8(request.path).unwrap_or_else(|| DataError::Json {
            place: Place::line(request.path, line.get()),
            reason: reason(&error),
            hint: None,
        })
    })
}

type Json<'a, R> = Deserializer<serde_json::de::IoRead<BufReader<LineCounter<'a, R>>>>;

/// Counts the lines up to where the parser stands, which takes one byte at a time.
struct LineCounter<'a, R> {
    input: R,
    line: &'a Cell<u64>,
}

impl<R: Read> Read for LineCounter<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let buffer = match buffer.get_mut(..1) {
            Some(one) => one,
            None => return Ok(0),
        };
        let read = self.input.read(buffer)?;
        if buffer[..read] == *b"\n" {
            self.line.set(self.line.get() + 1);
        }
        Ok(read)
    }
}

/// Hands on the elements of an array, or the values of an object, one by one, so that neither is ever held whole.
struct Rows<'a, 'b> {
    line: &'a Cell<u64>,
    path: &'a Path,
    sink: &'a mut ObjectSink<'b>,
    fault: &'a mut Option<DataError>,
}

impl Rows<'_, '_> {
    fn take<E: serde::de::Error>(&mut self, line: u64, object: Map<String, Value>) -> Result<(), E> {
        (self.sink)(object, Place::line(self.path, line)).map_err(|error| {
            *self.fault = Some(error);
            E::custom("stopped")
        })
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array or an object of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut elements: A) -> Result<(), A::Error> {
        while let Some((line, object)) = elements.next_element_seed(Element { line: self.line })? {
            self.take(line, object)?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        while entries.next_key::<IgnoredAny>()?.is_some() {
            let (line, object) = entries.next_value_seed(Element { line: self.line })?;
            self.take(line, object)?;
        }
        Ok(())
    }
}

/// An object with the line on which it starts.
struct Element<'a> {
    line: &'a Cell<u64>,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = (u64, Map<String, Value>);

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let line = self.line.get();
        Ok((line, Map::deserialize(deserializer)?))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{read, text};
    use super::*;

    fn both() -> [Column; 2] {
        ["text".into(), "label".into()]
    }

    #[test]
    fn values_keep_their_type() {
        let content = "\u{feff}{\"text\": \"a\\n\u{e9}\", \"label\": 3}\r\n\n{\"label\": true, \"x\": {}, \"text\": [\"b\", \"c\"]}\n{\"text\": null, \"label\": 1.5}";
        let rows = read("a.jsonl", content.as_bytes(), &both(), |_| {}).unwrap();
        let expected = [
            (1, vec![text("a\n\u{e9}"), RawValue::Integer(3)]),
            (3, vec![RawValue::Json(serde_json::json!(["b", "c"])), RawValue::Boolean(true)]),
            (4, vec![RawValue::Null, RawValue::Json(serde_json::json!(1.5))]),
        ];
        assert_eq!(rows, expected);
    }

    #[test]
    fn a_column_may_be_asked_for_twice() {
        let rows = read("a.jsonl", b"{\"text\": \"a\"}", &["text".into(), "text".into()], |_| {}).unwrap();
        assert_eq!(rows, [(1, vec![text("a"), text("a")])]);
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = read("a.jsonl", b"{\"text\": 1, \"label\": 2}\n\n{\"text\": oops}\n", &both(), |_| {})
            .unwrap_err();
        assert!(error.to_string().contains("a.jsonl:3`: not a JSON object: expected"), "{error}");
        assert!(error.to_string().ends_with("at column 10"), "{error}");
        let error =
            read("a.jsonl", b"{\"text\": 1, \"label\": 2}\n\"just text\"\n", &both(), |_| {}).unwrap_err();
        assert!(error.to_string().contains("a.jsonl:2`"), "{error}");
        let error = read("a.json", b"{\n  \"text\": 1\n}\n", &both(), |_| {}).unwrap_err();
        assert!(error.help().unwrap().contains("an object a line"), "{error}");
    }

    #[test]
    fn a_missing_key_lists_the_keys_of_that_line() {
        let error =
            read("a.jsonl", b"{\"text\": 1, \"label\": 2}\n{\"text\": 1, \"labels\": 2}\n", &both(), |_| {})
                .unwrap_err();
        assert!(
            error.to_string().contains("a.jsonl:2`: no column `label`; the columns are `text`, `labels`"),
            "{error}"
        );
        assert_eq!(error.help().as_deref(), Some("did you mean `labels`?"));
        let error = read("a.jsonl", b"{\"text\": 1}", &[Column::Number(0)], |_| {}).unwrap_err();
        assert!(error.help().unwrap().contains("names, not numbers"));
    }

    #[test]
    fn an_array_is_read_with_the_line_of_each_object() {
        let content = b"\n[\n  {\"text\": \"a\",\n   \"label\": 1},\n\n  {\"text\": \"b\", \"label\": 2}, {\"text\": \"c\", \"label\": 3}\n]\n";
        let rows = read("a.json", content, &both(), |_| {}).unwrap();
        let expected = [(3, "a", 1), (6, "b", 2), (6, "c", 3)];
        assert_eq!(
            rows,
            expected.map(|(line, value, label)| (line, vec![text(value), RawValue::Integer(label)]))
        );
    }

    #[test]
    fn an_object_of_rows_is_read_with_the_line_of_each() {
        let content = "{\n  \"a\\\": {\": {\"text\": \"a\",\n\"label\": 1},\n  \"b\":\n {\"text\": \"b\", \"label\": 2}\n}\n";
        let expected =
            [(2, vec![text("a"), RawValue::Integer(1)]), (4, vec![text("b"), RawValue::Integer(2)])];
        assert_eq!(read("a.json", content.as_bytes(), &both(), |_| {}).unwrap(), expected);
        let line = content.replace('\n', "");
        let rows = read("a.json", line.as_bytes(), &both(), |_| {}).unwrap();
        assert_eq!(rows, expected.map(|(_, values)| (1, values)));
        let error =
            read("a.json", content.replace("label", "lable").as_bytes(), &both(), |_| {}).unwrap_err();
        assert!(error.to_string().contains("a.json:2`: no column `label`"), "{error}");
        let error =
            read("a.json", b"{\"a\": {\n\"text\": 1, \"label\": 1}, \"b\": 3}", &both(), |_| {}).unwrap_err();
        assert!(
            error.to_string().contains("a.json:2`: not a JSON object: invalid type: integer `3`"),
            "{error}"
        );
    }

    #[test]
    fn json_lines_with_objects_in_them_stay_json_lines() {
        let content = b"{\"text\": {\"x\": 1}}\n{\"text\": {\"x\": 2}}\n";
        assert_eq!(read("a.json", content, &["text".into()], |_| {}).unwrap().len(), 2);
        let content = b"{\"meta\": {\"x\": 1}, \"text\": \"a\"}\n{\"meta\": {\"x\": 2}, \"text\": \"b\"}\n";
        assert_eq!(read("a.json", content, &["text".into()], |_| {}).unwrap().len(), 2);
    }

    #[test]
    fn faults_of_an_array_are_named() {
        let error =
            read("a.json", b"[{\"text\": 1,\n\"label\": 2},\n{\"text\": 1}]", &both(), |_| {}).unwrap_err();
        assert!(error.to_string().contains("a.json:3`: no column `label`"), "{error}");
        let error = read("a.json", b"[{\"text\": 1, \"label\": 2},\n oops]", &both(), |_| {}).unwrap_err();
        assert!(error.to_string().contains("a.json:2`: not a JSON object"), "{error}");
        let error = read("a.json", b"[{\"text\": 1, \"label\": 2}", &both(), |_| {}).unwrap_err();
        assert!(matches!(error, DataError::Json { .. }), "{error}");
        let error = read("a.json", b"[{\"text\": \"\xff\", \"label\": 2}]", &both(), |_| {}).unwrap_err();
        assert!(matches!(error, DataError::InvalidUtf8 { byte: 0xff, offset: 11, .. }), "{error}");
    }
}
