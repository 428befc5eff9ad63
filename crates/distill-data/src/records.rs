//! Rows with all their columns, for what passes them on.
use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::corpus::read_file;
use crate::error::{DataError, Place};
use crate::formats::{RawValue, Request, TextUnit, read_objects};
use crate::source::{Column, DataSpec, ResolvedFile, resolve};

/// A row as its file holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Where it stands.
    pub place: Place,
    /// Its columns in their order; of files without a header by their numbers from 0.
    pub fields: Map<String, Value>,
}

/// No file has a column of this name.
const NO_COLUMN: &str = "\u{0}";

/// Hands each row to `sink` with all its columns. Returns the files with the rows read from each.
///
/// Of `spec`, the text and label columns only tell a `.json` file of one object with a row for each
/// key from one with an object a line.
///
/// # Errors
/// Whatever is wrong with a file or a row, a file without rows, and what `sink` returns.
pub fn read_records(
    spec: &DataSpec,
    sink: &mut dyn FnMut(Record) -> Result<(), DataError>,
) -> Result<Vec<(PathBuf, u64)>, DataError> {
    let files = resolve(spec)?;
    files.into_iter().map(|file| read_file_records(file, spec, sink)).collect()
}

fn read_file_records(
    file: ResolvedFile,
    spec: &DataSpec,
    sink: &mut dyn FnMut(Record) -> Result<(), DataError>,
) -> Result<(PathBuf, u64), DataError> {
    let columns: Vec<Column> = spec.text.iter().chain(&spec.label).cloned().collect();
    let request = |columns| Request {
        path: &file.path,
        header: spec.header,
        delimiter: spec.delimiter,
        text_unit: TextUnit::Line,
        columns,
    };
    if file.format.holds_objects() {
        let mut rows = 0;
        read_objects(&request(&columns), &mut |fields, place| {
            rows += 1;
            sink(Record { place, fields })
        })?;
        if rows == 0 {
            return Err(DataError::NoRows { path: file.path });
        }
        return Ok((file.path, rows));
    }
    // A reader tells the columns that there are when it is asked for one that there is not.
    let names = match file.format.read(&request(&[NO_COLUMN.into()]), &mut |_| Ok(())) {
        Err(DataError::MissingColumn { available, .. }) => available,
        Err(error) => return Err(error),
        Ok(()) => Vec::new(),
    };
    let columns: Vec<Column> = (0..names.len()).map(Column::Number).collect();
    read_file(file, spec, TextUnit::Line, &columns, &mut |row| {
        let mut fields = Map::new();
        for (name, value) in names.iter().zip(row.values) {
            fields.insert(name.clone(), json(value, name, &row.place)?);
        }
        sink(Record { place: row.place, fields })
    })
}

fn json(value: RawValue, column: &str, place: &Place) -> Result<Value, DataError> {
    Ok(match value {
        RawValue::Text(text) => text.into(),
        RawValue::Integer(integer) => integer.into(),
        RawValue::Boolean(boolean) => boolean.into(),
        RawValue::Json(value) => value,
        RawValue::Null => Value::Null,
        RawValue::Other(found) => {
            return Err(DataError::ValueType {
                place: place.clone(),
                column: column.to_owned(),
                found: found.to_owned(),
                allowed: "text, numbers, booleans, lists and objects",
            });
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(name: &str, content: &str, header: bool) -> Result<Vec<(u64, Value)>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let spec = DataSpec { header, ..DataSpec::new([path.display().to_string()], vec!["q".into()]) };
        let mut rows = Vec::new();
        let files = read_records(&spec, &mut |record| {
            rows.push((record.place.number, Value::Object(record.fields)));
            Ok(())
        })?;
        assert_eq!(files, [(path, rows.len() as u64)]);
        Ok(rows)
    }

    #[test]
    fn every_column_is_kept_with_its_type() {
        let lines = "{\"q\": \"a\", \"choices\": [\"x\"], \"n\": 1.5}\n\n{\"other\": null}\n";
        let expected = [(1, json!({"q": "a", "choices": ["x"], "n": 1.5})), (3, json!({"other": null}))];
        assert_eq!(read("a.jsonl", lines, true).unwrap(), expected);
        let array = "[{\"q\": \"a\"},\n{\"q\": 2}]";
        assert_eq!(read("a.json", array, true).unwrap(), [(1, json!({"q": "a"})), (2, json!({"q": 2}))]);
        let object = "{\"one\": {\"q\": \"a\"}}";
        assert_eq!(read("a.json", object, true).unwrap(), [(1, json!({"q": "a"}))]);
    }

    #[test]
    fn tables_have_the_columns_of_their_header_or_their_numbers() {
        let expected = [(2, json!({"q": "a, b", "answer": "7"}))];
        assert_eq!(read("a.csv", "q,answer\n\"a, b\",7\n", true).unwrap(), expected);
        assert_eq!(read("a.tsv", "q\tanswer\na, b\t7\n", true).unwrap(), expected);
        assert_eq!(read("a.csv", "a,7\n", false).unwrap(), [(1, json!({"0": "a", "1": "7"}))]);
        assert_eq!(read("a.txt", "one\ntwo\n", true).unwrap()[1], (2, json!({"text": "two"})));
    }

    #[test]
    fn faults_are_those_of_the_readers() {
        assert!(matches!(read("a.csv", "q\n", true), Err(DataError::NoRows { .. })));
        assert!(matches!(read("a.jsonl", "\n", true), Err(DataError::NoRows { .. })));
        assert!(matches!(read("a.jsonl", "{\"q\": \n", true), Err(DataError::Json { .. })));
        assert!(matches!(read("a.csv", "q,r\na\n", true), Err(DataError::ColumnCount { .. })));
    }
}
