//! Parquet, by its row interface: text, integers and booleans; plain or dictionary pages;
//! uncompressed, Snappy, gzip or Zstandard.
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::{Field, Row};
use ::parquet::schema::types::Type;
use serde_json::Value;

use super::{FormatEntry, RawRow, RawValue, Request, Sink, positions};
use crate::error::{DataError, Place};

pub(super) const FORMAT: FormatEntry = FormatEntry { name: "parquet", extensions: &["parquet", "pq"], read };

fn read(request: &Request<'_>, sink: &mut Sink<'_>) -> Result<(), DataError> {
    let path = request.path;
    let fault = |error: ::parquet::errors::ParquetError| broken(path, error.to_string());
    let file = File::open(path).map_err(|error| DataError::io("read", path, error))?;
    let reader = SerializedFileReader::new(file).map_err(fault)?;
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    let positions = positions(request.columns, Some(&names), names.len(), &Place::row(path, 1), None, None)?;
    let (projection, slots) = project(schema, &positions).map_err(fault)?;
    for (number, row) in (1u64..).zip(reader.get_row_iter(Some(projection)).map_err(fault)?) {
        let fields: Vec<RawValue> = values(row.map_err(fault)?);
        let pick = |slot: &usize| fields.get(*slot).cloned().unwrap_or(RawValue::Null);
        sink(RawRow { place: Place::row(path, number), values: slots.iter().map(pick).collect() })?;
    }
    Ok(())
}

fn broken(path: &Path, reason: String) -> DataError {
    DataError::Parquet { path: path.to_owned(), reason }
}

/// The schema of the wanted columns alone, in the file's order, and where each wanted column is in it.
fn project(
    schema: &Type,
    positions: &[usize],
) -> Result<(Type, Vec<usize>), ::parquet::errors::ParquetError> {
    let mut kept = positions.to_vec();
    kept.sort_unstable();
    kept.dedup();
    let fields: Vec<Arc<Type>> =
        kept.iter().filter_map(|position| schema.get_fields().get(*position).cloned()).collect();
    let projection = Type::group_type_builder(schema.name()).with_fields(fields).build()?;
    let slots = positions.iter().map(|position| kept.partition_point(|other| other < position)).collect();
    Ok((projection, slots))
}

fn values(row: Row) -> Vec<RawValue> {
    row.into_columns().into_iter().map(|(_, field)| raw(field)).collect()
}

fn raw(field: Field) -> RawValue {
    match field {
        Field::Str(text) => RawValue::Text(text),
        // Writers that leave out the annotation still mean text.
        Field::Bytes(bytes) => match std::str::from_utf8(bytes.data()) {
            Ok(text) => RawValue::Text(text.to_owned()),
            Err(_) => RawValue::Other("bytes that are not UTF-8"),
        },
        Field::Bool(boolean) => RawValue::Boolean(boolean),
        Field::Byte(value) => RawValue::Integer(value.into()),
        Field::Short(value) => RawValue::Integer(value.into()),
        Field::Int(value) => RawValue::Integer(value.into()),
        Field::Long(value) => RawValue::Integer(value),
        Field::UByte(value) => RawValue::Integer(value.into()),
        Field::UShort(value) => RawValue::Integer(value.into()),
        Field::UInt(value) => RawValue::Integer(value.into()),
        Field::ULong(value) => {
            i64::try_from(value).map_or(RawValue::Other("an integer beyond 64 bits"), RawValue::Integer)
        }
        Field::Null => RawValue::Null,
        Field::Float16(value) => fraction(value.to_f64()),
        Field::Float(value) => fraction(value.into()),
        Field::Double(value) => fraction(value),
        Field::Decimal(_) => RawValue::Other("a number that is no integer"),
        Field::ListInternal(_) | Field::Group(_) | Field::MapInternal(_) => {
            nested(field).map_or(RawValue::Other("an object with dates or times"), RawValue::Json)
        }
        _ => RawValue::Other("a date or time"),
    }
}

fn fraction(value: f64) -> RawValue {
    serde_json::Number::from_f64(value)
        .map_or(RawValue::Other("a number that is not finite"), |number| RawValue::Json(number.into()))
}

/// A list or a group as JSON has it; `None` if it holds what JSON has no value for.
fn nested(field: Field) -> Option<Value> {
    Some(match field {
        Field::ListInternal(list) => {
            Value::Array(list.elements().iter().cloned().map(nested).collect::<Option<_>>()?)
        }
        Field::Group(row) => {
            let entries = row.into_columns().into_iter();
            Value::Object(entries.map(|(name, field)| Some((name, nested(field)?))).collect::<Option<_>>()?)
        }
        Field::MapInternal(map) => {
            let entries = map.entries().iter().cloned();
            let entry = |(name, field)| match raw(name) {
                RawValue::Text(name) => Some((name, nested(field)?)),
                _ => None,
            };
            Value::Object(entries.map(entry).collect::<Option<_>>()?)
        }
        flat => match raw(flat) {
            RawValue::Text(text) => text.into(),
            RawValue::Integer(integer) => integer.into(),
            RawValue::Boolean(boolean) => boolean.into(),
            RawValue::Null => Value::Null,
            RawValue::Json(value) => value,
            RawValue::Other(_) => return None,
        },
    })
}

#[cfg(test)]
mod tests {
    use ::parquet::basic::{Compression, GzipLevel, ZstdLevel};
    use ::parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
    use ::parquet::file::properties::WriterProperties;
    use ::parquet::file::writer::SerializedFileWriter;
    use ::parquet::schema::parser::parse_message_type;

    use super::super::tests::{read, text};
    use super::*;
    use crate::source::Column;

    const SCHEMA: &str = "message rows { required byte_array text (UTF8); required double score; optional int64 label; required boolean flag; required byte_array raw; }";

    /// Rows `0..count` in row groups of at most 500.
    fn file(count: usize, compression: Compression, dictionary: bool) -> Vec<u8> {
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_dictionary_enabled(dictionary)
            .build();
        let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
        let rows: Vec<usize> = (0..count).collect();
        for part in rows.chunks(500) {
            let mut group = writer.next_row_group().unwrap();
            let texts: Vec<ByteArray> =
                part.iter().map(|row| ByteArray::from(format!("t\u{e9}xt {}", row % 7).as_str())).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<DoubleType>().write_batch(&vec![0.5; part.len()], None, None).unwrap();
            column.close().unwrap();
            let labels: Vec<i64> =
                part.iter().filter(|row| *row % 10 != 9).map(|row| (row % 4) as i64).collect();
            let defined: Vec<i16> = part.iter().map(|row| i16::from(row % 10 != 9)).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(&labels, Some(&defined), None).unwrap();
            column.close().unwrap();
            let flags: Vec<bool> = part.iter().map(|row| row % 2 == 0).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<BoolType>().write_batch(&flags, None, None).unwrap();
            column.close().unwrap();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.into_inner().unwrap()
    }

    #[test]
    fn every_compression_and_encoding_gives_the_same_rows() {
        let columns = ["label".into(), "text".into(), "flag".into(), "raw".into()];
        let plain =
            read("a.parquet", &file(1200, Compression::UNCOMPRESSED, false), &columns, |_| {}).unwrap();
        assert_eq!(plain.len(), 1200);
        for (index, (number, values)) in plain.iter().enumerate() {
            let label = if index % 10 == 9 { RawValue::Null } else { RawValue::Integer((index % 4) as i64) };
            let words = text(&format!("t\u{e9}xt {}", index % 7));
            assert_eq!(*number, index as u64 + 1);
            assert_eq!(*values, [label, words.clone(), RawValue::Boolean(index % 2 == 0), words]);
        }
        let levels = [
            Compression::SNAPPY,
            Compression::GZIP(GzipLevel::default()),
            Compression::ZSTD(ZstdLevel::default()),
        ];
        for compression in levels {
            for dictionary in [true, false] {
                let rows = read("a.parquet", &file(1200, compression, dictionary), &columns, |_| {}).unwrap();
                assert_eq!(rows, plain, "{compression} {dictionary}");
            }
        }
    }

    const NESTED: &str = "message rows {
        required group messages (LIST) { repeated group list { required group element {
            required byte_array role (UTF8); required byte_array content (UTF8); } } }
        required group targets (LIST) { repeated group list { required byte_array element (UTF8); } } }";

    #[test]
    fn lists_and_objects_are_read_as_of_json() {
        let schema = Arc::new(parse_message_type(NESTED).unwrap());
        let mut writer = SerializedFileWriter::new(Vec::new(), schema, Default::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        // Two rows: two values, and none.
        for texts in [["user", "assistant"], ["hi", "yes"], ["a", "b"]] {
            let values: Vec<ByteArray> = texts.iter().map(|text| ByteArray::from(*text)).collect();
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&[1, 1, 0]), Some(&[0, 1, 0])).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
        let rows =
            read("a.parquet", &writer.into_inner().unwrap(), &["messages".into(), "targets".into()], |_| {});
        let messages = serde_json::json!([
            {"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}
        ]);
        let (empty, targets) = (RawValue::Json(serde_json::json!([])), serde_json::json!(["a", "b"]));
        let full = vec![RawValue::Json(messages), RawValue::Json(targets)];
        assert_eq!(rows.unwrap(), [(1, full), (2, vec![empty.clone(), empty])]);
    }

    #[test]
    fn columns_by_number_and_twice() {
        let columns = [Column::Number(2), Column::Number(0), "label".into()];
        let rows = read("a.parquet", &file(1, Compression::SNAPPY, true), &columns, |_| {}).unwrap();
        assert_eq!(rows, [(1, vec![RawValue::Integer(0), text("t\u{e9}xt 0"), RawValue::Integer(0)])]);
    }

    #[test]
    fn a_missing_column_lists_the_columns() {
        let error =
            read("a.parquet", &file(1, Compression::SNAPPY, true), &["txt".into()], |_| {}).unwrap_err();
        assert!(
            error.to_string().contains("no column `txt`; the columns are `text`, `score`, `label`"),
            "{error}"
        );
        assert_eq!(error.help().as_deref(), Some("did you mean `text`?"));
    }

    #[test]
    fn a_damaged_file_is_an_error() {
        let whole = file(600, Compression::SNAPPY, true);
        for length in [0, 3, 4, 100, whole.len() / 2, whole.len() - 1] {
            let error = read("a.parquet", &whole[..length], &["text".into()], |_| {}).unwrap_err();
            assert!(matches!(error, DataError::Parquet { .. }), "{length}: {error}");
        }
        assert!(read("a.parquet", b"text,label\na,b\n", &["text".into()], |_| {}).is_err());
    }
}
