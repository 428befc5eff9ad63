//! Rows of one or more files as texts and class ids.
use std::collections::HashMap;

use crate::content::{ContentHash, ContentHasher, FileHash};
use crate::error::{DataError, Place};
use crate::formats::{RawRow, RawValue, Request, Sink, TextUnit};
use crate::labels::{LabelMap, LabelStart, SeenLabel};
use crate::source::{Column, DataSpec, ResolvedFile, resolve};

/// Rows between two calls of a progress function.
pub(crate) const PROGRESS_ROWS: u64 = 1024;

/// Texts with their classes, in memory.
#[derive(Debug, Clone)]
pub struct Corpus {
    /// A text a row, text columns joined by a space.
    pub texts: Vec<String>,
    /// Class id of each row.
    pub labels: Vec<u32>,
    /// The files, in the order in which they were read.
    pub files: Vec<FileHash>,
    /// How the labels were understood.
    pub label_map: LabelMap,
    /// Hash of `texts` and `labels`.
    pub content: ContentHash,
}

/// All of a [`Corpus`] but the texts, which may be larger than memory.
#[derive(Debug, Clone)]
pub struct Scan {
    /// Class id of each row; `None` if the data set was read without labels.
    pub labels: Option<Vec<u32>>,
    /// Number of rows.
    pub rows: u64,
    /// The files, in the order in which they were read.
    pub files: Vec<FileHash>,
    /// How the labels were understood; `None` without labels.
    pub label_map: Option<LabelMap>,
    /// Hash of texts and labels.
    pub content: ContentHash,
}

/// Texts without labels, in memory.
#[derive(Debug, Clone)]
pub struct TextCorpus {
    /// A text a row, text columns joined by a space.
    pub texts: Vec<String>,
    /// The files, in the order in which they were read.
    pub files: Vec<FileHash>,
    /// Hash of `texts`.
    pub content: ContentHash,
}

/// A row that was checked: its text is not empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextRow {
    /// Text columns, each without white space around it, joined by a space; empty ones left out.
    pub text: String,
    /// The label as the file holds it; `None` if no label column is set.
    pub label: Option<String>,
    /// Where it stands.
    pub place: Place,
}

/// How labels become class ids.
#[derive(Debug, Clone, Copy)]
pub enum LabelSource<'a> {
    /// By [`LabelMap::infer`]; for training data.
    Infer {
        /// Names in the order of their ids.
        names: Option<&'a [String]>,
        /// What integer labels start from.
        start: Option<LabelStart>,
    },
    /// By a mapping that is known; for validation and test data, which need not hold every class.
    Map(&'a LabelMap),
}

/// Reads a labelled data set into memory; `progress` is told the rows read so far.
///
/// # Errors
/// Whatever is wrong with a file, a row or a label, each with file and line; no row at all.
pub fn load_classification(
    spec: &DataSpec,
    labels: LabelSource<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Corpus, DataError> {
    let mut texts = Vec::new();
    let scan = scan_rows(spec, Some(labels), &mut |text| texts.push(text), progress)?;
    match (scan.labels, scan.label_map) {
        (Some(labels), Some(label_map)) => {
            Ok(Corpus { texts, labels, files: scan.files, label_map, content: scan.content })
        }
        _ => Err(DataError::NoLabelColumn),
    }
}

/// Checks a labelled data set as [`load_classification`] does and keeps everything but the texts.
///
/// # Errors
/// As [`load_classification`].
pub fn scan_classification(
    spec: &DataSpec,
    labels: LabelSource<'_>,
    progress: &mut dyn FnMut(u64),
) -> Result<Scan, DataError> {
    scan_rows(spec, Some(labels), &mut |_| (), progress)
}

/// Reads the texts alone, whether or not there is a label column; for language models and prediction.
///
/// # Errors
/// As [`load_classification`], labels aside.
pub fn load_texts(spec: &DataSpec, progress: &mut dyn FnMut(u64)) -> Result<TextCorpus, DataError> {
    let mut texts = Vec::new();
    let scan = scan_rows(spec, None, &mut |text| texts.push(text), progress)?;
    Ok(TextCorpus { texts, files: scan.files, content: scan.content })
}

/// Checks the texts as [`load_texts`] does and keeps everything but them.
///
/// # Errors
/// As [`load_texts`].
pub fn scan_texts(spec: &DataSpec, progress: &mut dyn FnMut(u64)) -> Result<Scan, DataError> {
    scan_rows(spec, None, &mut |_| (), progress)
}

/// Hands each row of the data set to `sink`, one at a time, without hashing or mapping labels.
///
/// Returns the files with the rows read from each.
///
/// # Errors
/// Whatever is wrong with a file or a row, a file without rows, and what `sink` returns.
pub fn read_rows(
    spec: &DataSpec,
    sink: &mut dyn FnMut(TextRow) -> Result<(), DataError>,
) -> Result<Vec<(std::path::PathBuf, u64)>, DataError> {
    let mut columns = spec.text.clone();
    columns.extend(spec.label.clone());
    let mut files = Vec::new();
    for file in resolve(spec)? {
        files.push(read_file(file, spec, TextUnit::Line, &columns, &mut |row| sink(text_row(row, spec)?))?);
    }
    Ok(files)
}

/// Hands each row of a file to `sink`; the file, and how many there were.
pub(crate) fn read_file(
    file: ResolvedFile,
    spec: &DataSpec,
    text_unit: TextUnit,
    columns: &[Column],
    sink: &mut Sink<'_>,
) -> Result<(std::path::PathBuf, u64), DataError> {
    let request =
        Request { path: &file.path, header: spec.header, delimiter: spec.delimiter, text_unit, columns };
    let mut rows = 0;
    file.format.read(&request, &mut |row| {
        rows += 1;
        sink(row)
    })?;
    if rows == 0 {
        return Err(DataError::NoRows { path: file.path });
    }
    Ok((file.path, rows))
}

/// Joins the text columns of a row and reads its label; `row` holds them in the order of `spec`.
///
/// # Errors
/// An empty text or label, or a value that is neither.
pub fn text_row(row: RawRow, spec: &DataSpec) -> Result<TextRow, DataError> {
    let RawRow { place, mut values } = row;
    let label = match &spec.label {
        Some(column) => {
            let value = if values.len() > spec.text.len() { values.pop() } else { None };
            Some(label(value.unwrap_or(RawValue::Null), column, &place)?)
        }
        None => None,
    };
    let mut text = String::new();
    for (column, value) in spec.text.iter().zip(values) {
        let part = text_value(value, column, &place)?;
        let part = part.trim();
        if !text.is_empty() && !part.is_empty() {
            text.push(' ');
        }
        text.push_str(part);
    }
    if text.is_empty() {
        let columns = spec.text.iter().map(Column::to_string).collect();
        return Err(DataError::EmptyText { place, columns });
    }
    Ok(TextRow { text, label, place })
}

pub(crate) fn text_value(value: RawValue, column: &Column, place: &Place) -> Result<String, DataError> {
    match value {
        RawValue::Text(text) => Ok(text),
        RawValue::Integer(integer) => Ok(integer.to_string()),
        RawValue::Null => Ok(String::new()),
        other => match other.strings() {
            Some(parts) => Ok(parts.join(" ")),
            None => Err(value_type(other.kind(), "text", column, place)),
        },
    }
}

fn label(value: RawValue, column: &Column, place: &Place) -> Result<String, DataError> {
    let label = match value {
        RawValue::Text(text) => text.trim().to_owned(),
        RawValue::Integer(integer) => integer.to_string(),
        RawValue::Boolean(boolean) => boolean.to_string(),
        RawValue::Null => String::new(),
        other => match other.strings() {
            Some(parts) => parts.join(" "),
            None => return Err(value_type(other.kind(), "text, an integer or a boolean", column, place)),
        },
    };
    if label.is_empty() {
        return Err(DataError::EmptyLabel { place: place.clone(), column: column.to_string() });
    }
    Ok(label)
}

pub(crate) fn value_type(found: &str, allowed: &'static str, column: &Column, place: &Place) -> DataError {
    DataError::ValueType {
        place: place.clone(),
        column: column.to_string(),
        found: found.to_owned(),
        allowed,
    }
}

fn scan_rows(
    spec: &DataSpec,
    source: Option<LabelSource<'_>>,
    keep: &mut dyn FnMut(String),
    progress: &mut dyn FnMut(u64),
) -> Result<Scan, DataError> {
    let mut spec = spec.clone();
    match (&source, &spec.label) {
        (Some(_), None) => return Err(DataError::NoLabelColumn),
        (Some(_), Some(_)) => {}
        (None, _) => spec.label = None,
    }
    let (mut content, mut distinct, mut rows) = (ContentHasher::default(), Distinct::default(), 0u64);
    let read = read_rows(&spec, &mut |row| {
        content.text(&row.text);
        if let Some(label) = row.label {
            distinct.push(label, row.place);
        }
        keep(row.text);
        rows += 1;
        if rows.is_multiple_of(PROGRESS_ROWS) {
            progress(rows);
        }
        Ok(())
    })?;
    progress(rows);
    let label_map = match source {
        Some(LabelSource::Infer { names, start }) => Some(LabelMap::infer(&distinct.seen, names, start)?),
        Some(LabelSource::Map(map)) => Some(map.clone()),
        None => None,
    };
    let labels = label_map.as_ref().map(|map| distinct.ids(map)).transpose()?;
    let files = read.iter().map(|(path, rows)| FileHash::of(path, *rows)).collect::<Result<_, _>>()?;
    Ok(Scan { content: content.finish(labels.as_deref()), labels, rows, files, label_map })
}

/// Labels by number of their first occurrence, until the mapping to class ids is known.
#[derive(Default)]
struct Distinct {
    seen: Vec<SeenLabel>,
    numbers: HashMap<String, u32>,
    rows: Vec<u32>,
}

impl Distinct {
    fn push(&mut self, value: String, place: Place) {
        let number = match self.numbers.get(&value) {
            Some(number) => *number,
            None => {
                let number = self.seen.len() as u32;
                self.numbers.insert(value.clone(), number);
                self.seen.push(SeenLabel { value, place });
                number
            }
        };
        self.rows.push(number);
    }

    fn ids(mut self, map: &LabelMap) -> Result<Vec<u32>, DataError> {
        let ids: Vec<u32> =
            self.seen.iter().map(|label| map.id_of(&label.value, &label.place)).collect::<Result<_, _>>()?;
        for row in &mut self.rows {
            *row = ids[*row as usize];
        }
        Ok(self.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFER: LabelSource<'_> = LabelSource::Infer { names: None, start: None };

    fn load(
        files: &[(&str, &str)],
        change: impl FnOnce(&mut DataSpec),
        labels: LabelSource<'_>,
    ) -> Result<Corpus, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let paths = files.iter().map(|(name, content)| {
            let path = folder.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.display().to_string()
        });
        let mut spec = DataSpec::new(paths, vec!["text".into()]);
        spec.label = Some("label".into());
        change(&mut spec);
        load_classification(&spec, labels, &mut |_| ())
    }

    #[test]
    fn files_of_several_formats_are_one_corpus() {
        let files = [
            ("a.csv", "label,text\nspam,\" a \"\nham,b\n"),
            ("b.jsonl", "{\"text\": 12, \"label\": \"ham\"}\n"),
            ("c.tsv", "text\tlabel\nd\tspam\n"),
        ];
        let corpus = load(&files, |_| (), INFER).unwrap();
        assert_eq!(corpus.texts, ["a", "b", "12", "d"]);
        assert_eq!(corpus.labels, [1, 0, 0, 1]);
        assert_eq!(corpus.label_map.names(), ["ham", "spam"]);
        assert_eq!(corpus.files.iter().map(|file| file.rows).collect::<Vec<_>>(), [2, 1, 1]);
        assert_eq!(corpus.content, ContentHash::of(&corpus.texts, Some(&corpus.labels)));
    }

    #[test]
    fn columns_are_joined_and_empty_ones_left_out() {
        let content = "3,Title, Words \n4,,Words\n3,Title,\n";
        let names: Vec<String> = ["World", "Sports", "Business", "Sci/Tech"].map(String::from).to_vec();
        let change = |spec: &mut DataSpec| {
            spec.header = false;
            spec.text = vec![Column::Number(1), Column::Number(2)];
            spec.label = Some(Column::Number(0));
        };
        let labels = LabelSource::Infer { names: Some(&names), start: None };
        let corpus = load(&[("a.csv", content)], change, labels).unwrap();
        assert_eq!(corpus.texts, ["Title Words", "Words", "Title"]);
        assert_eq!(corpus.labels, [2, 3, 2]);
    }

    #[test]
    fn faulty_rows_are_named() {
        let fault = |content| load(&[("a.csv", content)], |_| (), INFER).unwrap_err();
        let error = fault("text,label\na,x\n  ,y\n");
        assert!(error.to_string().contains("a.csv:3`: empty text; nothing is left of `text`"), "{error}");
        let error = fault("text,label\na,x\nb, \n");
        assert!(error.to_string().contains("a.csv:3`: no label; column `label` is empty"), "{error}");
        assert!(matches!(fault("text,label\na,x\nb,x\n"), DataError::OneClass { .. }));
        assert!(matches!(fault("text,label\n"), DataError::NoRows { .. }));
        let error = load(&[("a.jsonl", "{\"text\": \"a\", \"label\": 0.5}")], |_| (), INFER).unwrap_err();
        assert!(
            error.to_string().ends_with(
                "column `label` holds a number that is no integer, expected text, an integer or a boolean"
            ),
            "{error}"
        );
        let error = load(&[("a.jsonl", "{\"text\": true, \"label\": 0}")], |_| (), INFER).unwrap_err();
        assert!(error.to_string().contains("column `text` holds a boolean"), "{error}");
        let error = load(&[("a.csv", "text\na\n")], |spec| spec.label = None, INFER).unwrap_err();
        assert!(matches!(error, DataError::NoLabelColumn));
    }

    #[test]
    fn test_data_follow_the_mapping_of_the_training_data() {
        let train = load(&[("a.csv", "text,label\na,1\nb,2\nc,3\n")], |_| (), INFER).unwrap();
        let map = LabelSource::Map(&train.label_map);
        assert_eq!(load(&[("a.csv", "text,label\na,3\n")], |_| (), map).unwrap().labels, [2]);
        let error = load(&[("a.csv", "text,label\na,3\nb,4\n")], |_| (), map).unwrap_err();
        assert!(
            error.to_string().contains("a.csv:3`: label `4` is not allowed; allowed are `1`, `2`, `3`"),
            "{error}"
        );
    }

    #[test]
    fn texts_alone_ignore_the_label_column() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "one\n\ntwo\n").unwrap();
        let mut spec = DataSpec::new([path.display().to_string()], vec!["text".into()]);
        spec.label = Some("label".into());
        let mut told = Vec::new();
        let corpus = load_texts(&spec, &mut |rows| told.push(rows)).unwrap();
        assert_eq!(corpus.texts, ["one", "two"]);
        assert_eq!(told, [2]);
        let scan = scan_texts(&spec, &mut |_| ()).unwrap();
        assert_eq!((scan.rows, scan.content, scan.labels), (2, corpus.content, None));
    }
}
