//! The formats that rows are read from: one file each, one line in [`FORMATS`].
//!
//! A reader passes each row on as soon as it has it, so that a file may be larger than memory, and
//! keeps nothing but the columns that were asked for.
use std::fmt;
use std::path::Path;

use serde_json::Value;

use crate::error::{DataError, Place, closest};
use crate::source::Column;

mod csv;
mod jsonl;
mod parquet;
mod text;
mod text_lines;
mod tsv;

pub use jsonl::read_lines as read_json_lines;
pub(crate) use jsonl::read_objects;

/// Every format, by name.
pub const FORMATS: &[FormatEntry] = &[csv::FORMAT, tsv::FORMAT, jsonl::FORMAT, parquet::FORMAT, text::FORMAT];

/// A format's name, extensions and reader.
pub struct FormatEntry {
    /// Name in recipes.
    pub name: &'static str,
    /// Extensions in lower case, without the dot; each is an allowed name too.
    pub extensions: &'static [&'static str],
    /// Reads a file row by row.
    pub read: Reader,
}

/// Reads a file and hands each row to the sink, which can stop it by an error.
pub type Reader = fn(&Request<'_>, &mut Sink<'_>) -> Result<(), DataError>;

/// What takes the rows.
pub type Sink<'a> = dyn FnMut(RawRow) -> Result<(), DataError> + 'a;

/// What a reader is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The file.
    pub path: &'a Path,
    /// Whether CSV and TSV begin with a header.
    pub header: bool,
    /// Column delimiter of CSV; `None` is a comma.
    pub delimiter: Option<char>,
    /// What a row of plain text is.
    pub text_unit: TextUnit,
    /// Columns to keep, in the order of [`RawRow::values`].
    pub columns: &'a [Column],
}

/// What a row of a plain text file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextUnit {
    /// A line; blank ones are skipped.
    #[default]
    Line,
    /// Lines up to a blank one, joined by line breaks.
    Paragraph,
    /// The whole file.
    File,
}

impl RawValue {
    /// What it is, for a message: "a boolean", "an object".
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Integer(_) => "an integer",
            Self::Boolean(_) => "a boolean",
            Self::Null => "nothing",
            Self::Other(found) => found,
            Self::Json(Value::Array(_)) => "a list of other things than strings",
            Self::Json(Value::Number(_)) => "a number that is no integer",
            Self::Json(_) => "an object",
        }
    }

    /// The strings of a list of strings; `None` for anything else.
    pub fn strings(&self) -> Option<Vec<&str>> {
        match self {
            Self::Json(Value::Array(items)) => items.iter().map(Value::as_str).collect(),
            _ => None,
        }
    }
}

/// The requested columns of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct RawRow {
    /// Where the row stands in its file.
    pub place: Place,
    /// One value for each requested column.
    pub values: Vec<RawValue>,
}

/// A value as the file holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RawValue {
    /// Text; the only kind that CSV, TSV and plain text know.
    Text(String),
    /// An integer of JSON or Parquet.
    Integer(i64),
    /// A boolean of JSON or Parquet.
    Boolean(bool),
    /// A list, an object or a fraction of JSON or Parquet.
    Json(Value),
    /// Neither text nor label: what it is, for the error message.
    Other(&'static str),
    /// Nothing.
    Null,
}

/// One entry of [`FORMATS`].
#[derive(Clone, Copy)]
pub struct Format(&'static FormatEntry);

impl Format {
    /// The format called `name`; extensions such as `ndjson` count as names.
    ///
    /// # Errors
    /// [`DataError::UnknownFormat`], which lists the names.
    pub fn from_name(name: &str) -> Result<Self, DataError> {
        let lower = name.to_lowercase();
        FORMATS
            .iter()
            .find(|entry| entry.name == lower || entry.extensions.contains(&lower.as_str()))
            .map(Self)
            .ok_or_else(|| DataError::UnknownFormat {
                name: name.to_owned(),
                known: FORMATS.iter().map(|entry| entry.name.to_owned()).collect(),
            })
    }

    /// The format that the extension of `path` stands for.
    ///
    /// # Errors
    /// [`DataError::UnknownExtension`], which lists the extensions.
    pub fn of_path(path: &Path) -> Result<Self, DataError> {
        let extension =
            path.extension().and_then(|extension| extension.to_str()).unwrap_or("").to_lowercase();
        FORMATS.iter().find(|entry| entry.extensions.contains(&extension.as_str())).map(Self).ok_or_else(
            || DataError::UnknownExtension {
                path: path.to_owned(),
                known: FORMATS
                    .iter()
                    .flat_map(|entry| entry.extensions)
                    .map(|known| format!(".{known}"))
                    .collect(),
            },
        )
    }

    /// Name in recipes.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether rows are objects that may have keys of their own.
    pub(crate) fn holds_objects(self) -> bool {
        self == Self(&jsonl::FORMAT)
    }

    /// Reads a file row by row; see [`Reader`].
    ///
    /// # Errors
    /// Whatever is wrong with the file, and what `sink` returns.
    pub fn read(self, request: &Request<'_>, sink: &mut Sink<'_>) -> Result<(), DataError> {
        (self.0.read)(request, sink)
    }
}

impl fmt::Debug for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Format({})", self.0.name)
    }
}

impl PartialEq for Format {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

/// The position of each requested column in a header.
///
/// `header` is `None` for files without one; they have `width` columns and answer to numbers alone.
/// Of a column that is not there, `sure` says why; if that is open, a similar name does, or else
/// `guess`.
fn positions(
    columns: &[Column],
    header: Option<&[String]>,
    width: usize,
    place: &Place,
    sure: Option<String>,
    guess: Option<String>,
) -> Result<Vec<usize>, DataError> {
    let missing = |column: &Column, hint| DataError::MissingColumn {
        place: place.clone(),
        column: column.to_string(),
        available: match header {
            Some(names) => names.to_vec(),
            None => (0..width).map(|number| number.to_string()).collect(),
        },
        hint,
    };
    columns
        .iter()
        .map(|column| match (column, header) {
            (Column::Number(number), _) if *number < width => Ok(*number),
            (Column::Number(_), _) => Err(missing(column, sure.clone())),
            (Column::Name(name), Some(names)) => {
                names.iter().position(|known| known == name).ok_or_else(|| {
                    let near = closest(name, names.iter().map(String::as_str)).is_some();
                    let guess = if near { None } else { guess.clone() };
                    missing(column, sure.clone().or(guess))
                })
            }
            (Column::Name(_), None) => {
                Err(missing(column, Some("with `header = false` columns are numbers, from 0".into())))
            }
        })
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// All rows of `content` read as a file called `name`: line or row number, and the values.
    pub(crate) fn read(
        name: &str,
        content: &[u8],
        columns: &[Column],
        change: impl FnOnce(&mut Request<'_>),
    ) -> Result<Vec<(u64, Vec<RawValue>)>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let mut request =
            Request { path: &path, header: true, delimiter: None, text_unit: TextUnit::Line, columns };
        change(&mut request);
        let mut rows = Vec::new();
        Format::of_path(&path)?.read(&request, &mut |row| {
            rows.push((row.place.number, row.values));
            Ok(())
        })?;
        Ok(rows)
    }

    pub(crate) fn text(value: &str) -> RawValue {
        RawValue::Text(value.to_owned())
    }

    #[test]
    fn names_and_extensions() {
        for (name, expected) in [("csv", "csv"), ("NDJSON", "jsonl"), ("json", "jsonl"), ("txt", "text")] {
            assert_eq!(Format::from_name(name).unwrap().name(), expected);
        }
        assert_eq!(Format::of_path(Path::new("a/b.Parquet")).unwrap().name(), "parquet");
        let error = Format::from_name("jsnl").unwrap_err();
        assert_eq!(error.help().as_deref(), Some("did you mean `jsonl`?"));
        assert!(Format::of_path(Path::new("a/b")).is_err());
    }

    #[test]
    fn no_extension_belongs_to_two_formats() {
        let mut all: Vec<&str> = FORMATS.iter().flat_map(|entry| entry.extensions).copied().collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
