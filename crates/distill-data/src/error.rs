//! What can be wrong with data: where, what was found, what is allowed, what to do.
use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::hub::HubError;

/// A row of a file, as a person would look for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// Line (text formats) or row (Parquet), from 1.
    pub number: u64,
    /// What `number` counts.
    pub unit: Unit,
}

/// What the number of a [`Place`] counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Lines of a text file, from 1.
    Line,
    /// Rows of a binary file, from 1.
    Row,
}

impl Place {
    /// The line `number` (from 1) of `path`.
    pub fn line(path: &Path, number: u64) -> Self {
        Self { path: path.to_owned(), number, unit: Unit::Line }
    }

    /// The row `number` (from 1) of `path`.
    pub fn row(path: &Path, number: u64) -> Self {
        Self { path: path.to_owned(), number, unit: Unit::Row }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.unit {
            Unit::Line => write!(f, "`{}:{}`", self.path.display(), self.number),
            Unit::Row => write!(f, "`{}`, row {}", self.path.display(), self.number),
        }
    }
}

/// A fault in a data set, a label or a token cache; [`DataError::help`] says what to do about it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataError {
    /// A source list is empty.
    #[error("no data source is given")]
    NoSources,
    /// A file that was named is not there.
    #[error("no such file: `{path}`")]
    NotFound {
        /// The path as given.
        path: PathBuf,
        /// A file of the same folder with a similar name.
        suggestion: Option<String>,
    },
    /// A folder is named where files are read.
    #[error("`{path}` is a folder")]
    Folder {
        /// The path as given.
        path: PathBuf,
    },
    /// A glob matches no file.
    #[error("no file matches `{pattern}`")]
    NoMatch {
        /// The pattern as given.
        pattern: String,
    },
    /// A glob cannot be parsed.
    #[error("`{pattern}` is not a valid pattern: {reason}")]
    Pattern {
        /// The pattern as given.
        pattern: String,
        /// What the parser says.
        reason: String,
    },
    /// The hub, or its cache, could not give the files.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// The format cannot be told from the file name.
    #[error("cannot tell the format of `{path}` from its name; known are {}", list(known))]
    UnknownExtension {
        /// The file.
        path: PathBuf,
        /// Known extensions.
        known: Vec<String>,
    },
    /// A format is named that does not exist.
    #[error("unknown format `{name}`; allowed are {}", list(known))]
    UnknownFormat {
        /// The name as given.
        name: String,
        /// Known formats.
        known: Vec<String>,
    },
    /// A column delimiter is no single ASCII character.
    #[error("`delimiter` must be one ASCII character other than a quote or a line break, found {found:?}")]
    Delimiter {
        /// The delimiter as given.
        found: char,
    },
    /// Reading or writing failed.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// "read", "write", ...
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// A file, or all files together, hold no row.
    #[error("`{path}` holds no rows")]
    NoRows {
        /// The file.
        path: PathBuf,
    },
    /// A row has more or fewer columns than the first.
    #[error("{place}: row has {found} columns, the first row has {expected}")]
    ColumnCount {
        /// The row.
        place: Place,
        /// Its number of columns.
        found: usize,
        /// The number of columns of the first row.
        expected: usize,
        /// The likely reason.
        hint: Option<String>,
    },
    /// A quoted field never ends.
    #[error("{place}: a quoted field starts in this row and is never closed")]
    UnclosedQuote {
        /// The row where the field starts.
        place: Place,
    },
    /// A column does not exist.
    #[error("{place}: no column `{column}`; the columns are {}", list(available))]
    MissingColumn {
        /// The header, or the row that lacks the column.
        place: Place,
        /// The column as asked for.
        column: String,
        /// Columns that exist.
        available: Vec<String>,
        /// The likely reason, where it is not a typing mistake.
        hint: Option<String>,
    },
    /// Bytes that are not UTF-8.
    #[error("{place}: invalid UTF-8, byte 0x{byte:02x} at offset {offset} of the file")]
    InvalidUtf8 {
        /// The line.
        place: Place,
        /// The first byte that cannot be decoded.
        byte: u8,
        /// Its offset in the file in bytes, from 0.
        offset: u64,
    },
    /// A row whose text columns are all empty.
    #[error("{place}: empty text; nothing is left of {} after trimming", list(columns))]
    EmptyText {
        /// The row.
        place: Place,
        /// The text columns.
        columns: Vec<String>,
    },
    /// A row without a prompt, a target or a message.
    #[error("{place}: empty {part}; nothing is in {}", list(columns))]
    EmptyPart {
        /// The row.
        place: Place,
        /// "prompt", "target", "label" or "conversation".
        part: &'static str,
        /// The columns that it is made of.
        columns: Vec<String>,
    },
    /// A row without a list of two or more choices.
    #[error("{place}: column `{column}` holds no list of choices")]
    Choices {
        /// The row.
        place: Place,
        /// The column.
        column: String,
    },
    /// A conversation that is none.
    #[error("{place}: column `{column}` holds no conversation: {reason}")]
    Conversation {
        /// The row.
        place: Place,
        /// The column of messages.
        column: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A template whose braces do not match.
    #[error("`{template}` is not a valid template: {reason}")]
    Template {
        /// The template as given.
        template: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A line that is not JSON.
    #[error("{place}: not a JSON object: {reason}")]
    Json {
        /// The line.
        place: Place,
        /// What the parser says.
        reason: String,
        /// The likely reason.
        hint: Option<String>,
    },
    /// A value of a type that has no reading as text or label.
    #[error("{place}: column `{column}` holds {found}, expected {allowed}")]
    ValueType {
        /// The row.
        place: Place,
        /// The column.
        column: String,
        /// The type that was found.
        found: String,
        /// Types that are allowed.
        allowed: &'static str,
    },
    /// A file that is not Parquet, or is damaged.
    #[error("`{path}` cannot be read as Parquet: {reason}")]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the reader says.
        reason: String,
    },
    /// A row without a label.
    #[error("{place}: no label; column `{column}` is empty")]
    EmptyLabel {
        /// The row.
        place: Place,
        /// The label column.
        column: String,
    },
    /// Labels are needed and no column is named for them.
    #[error("no label column is set")]
    NoLabelColumn,
    /// A label that is not among the declared ones.
    #[error("{place}: label `{value}` is not allowed; allowed are {allowed}")]
    UnknownLabel {
        /// The first row that has it.
        place: Place,
        /// The label.
        value: String,
        /// Allowed labels, shortened if there are many.
        allowed: String,
        /// An allowed label that is spelt similarly, or another likely reason.
        hint: Option<String>,
    },
    /// Integers that could count from 0 as well as from 1.
    #[error(
        "labels are the integers {lowest} to {highest} for {classes} names: neither `0` nor `{classes}` occurs, so it is open whether they count from 0 or from 1"
    )]
    AmbiguousLabels {
        /// Lowest integer that occurs.
        lowest: i64,
        /// Highest integer that occurs.
        highest: i64,
        /// Number of declared names.
        classes: usize,
    },
    /// All rows have the same label.
    #[error("every row has the label `{value}`; a classifier needs two classes or more")]
    OneClass {
        /// The only label.
        value: String,
    },
    /// The list of declared labels is not usable.
    #[error("`labels` is not usable: {reason}")]
    DeclaredLabels {
        /// What is wrong with it.
        reason: String,
    },
    /// A fraction outside its range.
    #[error("`validation_fraction` must be at least 0 and below 1, found `{found}`")]
    Fraction {
        /// The fraction as given.
        found: f64,
    },
    /// The tokeniser refused a text.
    #[error("cannot tokenise rows {first} to {last}: {reason}")]
    Tokenise {
        /// First row of the chunk, from 0.
        first: usize,
        /// Last row of the chunk.
        last: usize,
        /// What the tokeniser says.
        reason: String,
    },
    /// A token cache that changed after it was opened, or a row that it does not have.
    #[error("token cache `{path}`: {reason}")]
    TokenCache {
        /// The cache file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Sequences in which nothing could be predicted.
    #[error("`max_length` must be at least 2, found `{max_length}`")]
    WindowTooShort {
        /// The limit as given, in tokens.
        max_length: usize,
    },
    /// Windows that leave tokens out, or do not move.
    #[error("the stride must be at least 1 and below `max_length`, {max_length}, found `{stride}`")]
    Stride {
        /// The stride as given, in tokens.
        stride: usize,
        /// Length of a window, in tokens.
        max_length: usize,
    },
    /// A row is longer than a batch may be.
    #[error("row {row} has {length} tokens, `max_length` is {max_length}")]
    TooLong {
        /// The row, from 0.
        row: usize,
        /// Its number of tokens.
        length: usize,
        /// The limit.
        max_length: usize,
    },
}

impl DataError {
    /// What the reader of the error can do, one sentence; `None` where the message says it all.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::NotFound { suggestion: Some(near), .. } => Some(format!("did you mean `{near}`?")),
            Self::NotFound { suggestion: None, .. } => {
                Some("paths are relative to the folder that the command runs in".into())
            }
            Self::Folder { path } => Some(format!("name its files, for example `{}`", path.join("*.csv").display())),
            Self::UnknownExtension { .. } => Some("set `format`".into()),
            Self::UnknownFormat { name, known } => did_you_mean(name, known),
            Self::ColumnCount { hint, .. } | Self::Json { hint, .. } | Self::UnknownLabel { hint, .. } => hint.clone(),
            Self::UnclosedQuote { .. } => Some(
                "double quotes inside a quoted field (`\"\"`); for tab-separated text with stray quotes set `format = \"tsv\"`".into(),
            ),
            Self::MissingColumn { column, available, hint, .. } => hint.clone().or_else(|| did_you_mean(column, available)),
            Self::InvalidUtf8 { byte: 0xff | 0xfe, offset: 0, .. } => {
                Some("this looks like UTF-16; convert it with `iconv -f UTF-16 -t UTF-8`".into())
            }
            Self::InvalidUtf8 { .. } => {
                Some("convert the file, for example with `iconv -f LATIN1 -t UTF-8`, or remove the line".into())
            }
            Self::EmptyText { .. } => Some("remove the row, or name a further column in `text`".into()),
            Self::EmptyPart { .. } => Some("remove the row, or name other columns".into()),
            Self::Choices { .. } => {
                Some("give each row a list of two or more texts, as in `[\"yes\", \"no\"]`".into())
            }
            Self::Conversation { .. } => Some(
                "a conversation is a list of messages, as in `[{\"role\": \"user\", \"content\": \"...\"}, ...]`".into(),
            ),
            Self::Template { .. } => {
                Some("name a column as in `{text}`, and write `{{` and `}}` for braces".into())
            }
            Self::Parquet { .. } => Some("the file may be cut short or of another format; fetch it again".into()),
            Self::NoLabelColumn => Some("set `label` to the name of the column, or its number".into()),
            Self::EmptyLabel { .. } => Some("remove the row or label it".into()),
            Self::AmbiguousLabels { .. } => Some("set `labels_start = 0` or `labels_start = 1`".into()),
            Self::OneClass { .. } => Some("check that `label` names the right column".into()),
            Self::TokenCache { .. } => Some("delete the file; it is built again by the next run".into()),
            _ => None,
        }
    }

    pub(crate) fn io(action: &'static str, path: &Path, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::NotFound {
            return Self::NotFound { path: path.to_owned(), suggestion: similar_file(path) };
        }
        Self::Io { action, path: path.to_owned(), source }
    }
}

/// The candidate that `found` is most likely a misspelling of.
pub(crate) fn closest<'a>(found: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = found.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

fn did_you_mean(found: &str, candidates: &[String]) -> Option<String> {
    closest(found, candidates.iter().map(String::as_str)).map(|near| format!("did you mean `{near}`?"))
}

fn similar_file(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    let near = closest(name, names.iter().map(String::as_str))?;
    Some(path.with_file_name(near).display().to_string())
}

/// `` `a`, `b`, `c` ``; beyond 20 entries the rest is counted.
pub(crate) fn list<S: AsRef<str>>(entries: &[S]) -> String {
    const SHOWN: usize = 20;
    let mut text = entries
        .iter()
        .take(SHOWN)
        .map(|entry| format!("`{}`", entry.as_ref()))
        .collect::<Vec<_>>()
        .join(", ");
    if entries.len() > SHOWN {
        text.push_str(&format!(" and {} more", entries.len() - SHOWN));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_the_place_and_the_help_names_the_likely_column() {
        let error = DataError::MissingColumn {
            place: Place::line(Path::new("a.csv"), 1),
            column: "lable".into(),
            available: vec!["text".into(), "label".into()],
            hint: None,
        };
        assert_eq!(error.to_string(), "`a.csv:1`: no column `lable`; the columns are `text`, `label`");
        assert_eq!(error.help().as_deref(), Some("did you mean `label`?"));
    }

    #[test]
    fn a_missing_file_suggests_its_neighbour() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("train.csv"), "").unwrap();
        let wanted = folder.path().join("trian.csv");
        let error = DataError::io("read", &wanted, std::fs::File::open(&wanted).unwrap_err());
        assert!(error.help().unwrap().contains("train.csv`?"), "{:?}", error.help());
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..77).map(|i| i.to_string()).collect();
        assert!(list(&names).ends_with("`19` and 57 more"));
    }
}
