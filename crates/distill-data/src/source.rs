//! Where the rows come from: files, globs, lists of both, and data sets on the hub.
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::DataError;
use crate::formats::Format;
use crate::hub;

/// What to read and which columns of it.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSpec {
    /// Files, globs, or `hf://datasets/ORG/NAME[@REV]/[CONFIG/]SPLIT`; read in this order.
    pub sources: Vec<String>,
    /// Format of every file; `None` goes by each file's extension.
    pub format: Option<Format>,
    /// Whether CSV and TSV files begin with a header; default true.
    pub header: bool,
    /// Column delimiter of CSV files, one ASCII character; `None` is the format's own.
    pub delimiter: Option<char>,
    /// Text columns, joined by a space; one or more.
    pub text: Vec<Column>,
    /// Label column; `None` where there are no labels.
    pub label: Option<Column>,
}

impl DataSpec {
    /// Files with a header, in the format of their extension, with the text columns `text`.
    pub fn new<S: Into<String>>(sources: impl IntoIterator<Item = S>, text: Vec<Column>) -> Self {
        Self {
            sources: sources.into_iter().map(Into::into).collect(),
            format: None,
            header: true,
            delimiter: None,
            text,
            label: None,
        }
    }
}

/// A column by name, or by position for files without a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// Name in the header, key of a JSON object, or Parquet field.
    Name(String),
    /// Position from 0.
    Number(usize),
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Number(number) => write!(f, "{number}"),
        }
    }
}

impl From<&str> for Column {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

/// A file that exists, and how to read it.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedFile {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: Format,
}

const HUB_PREFIX: &str = "hf://";

/// The files behind `spec.sources`, in order; those of a glob are sorted by name.
///
/// A file that a glob matches is left out where it was listed before, so that `["a.csv", "*.csv"]`
/// reads no row twice. Data sets on the hub are downloaded, or found in the cache.
///
/// # Errors
/// No source, a missing file, a glob without a match, an unknown extension, or whatever the hub says.
pub fn resolve(spec: &DataSpec) -> Result<Vec<ResolvedFile>, DataError> {
    if spec.sources.is_empty() {
        return Err(DataError::NoSources);
    }
    let mut paths: Vec<PathBuf> = Vec::new();
    for source in &spec.sources {
        if source.starts_with(HUB_PREFIX) {
            paths.extend(fetch_split(source, &mut |_| ())?);
        } else if is_glob(source) {
            for path in expand(source)? {
                if !paths.contains(&path) {
                    paths.push(path);
                }
            }
        } else {
            paths.push(existing_file(source)?);
        }
    }
    paths
        .into_iter()
        .map(|path| {
            let format = match spec.format {
                Some(format) => format,
                None => Format::of_path(&path)?,
            };
            Ok(ResolvedFile { path, format })
        })
        .collect()
}

/// Downloads what `spec` names on the hub, and names the files in the cache instead.
///
/// [`resolve`], and all that reads, does the same silently; this tells `download` how far it is, and
/// asks the hub once where a data set is read twice.
///
/// # Errors
/// A wrong address, or whatever the hub says.
pub fn fetch(spec: &DataSpec, download: &mut hub::Progress<'_>) -> Result<DataSpec, DataError> {
    let mut sources = Vec::new();
    for source in &spec.sources {
        if source.starts_with(HUB_PREFIX) {
            let files = fetch_split(source, download)?;
            sources.extend(files.iter().map(|file| file.display().to_string()));
        } else {
            sources.push(source.clone());
        }
    }
    Ok(DataSpec { sources, ..spec.clone() })
}

fn fetch_split(address: &str, download: &mut hub::Progress<'_>) -> Result<Vec<PathBuf>, DataError> {
    let reference = hub::parse_dataset_reference(address)?;
    let revision = reference.revision.as_deref();
    Ok(hub::dataset_files(&reference.id, revision, &reference.split, download)?)
}

/// A file whose name itself holds `*`, `?` or `[` is taken as it is.
fn is_glob(source: &str) -> bool {
    source.contains(['*', '?', '[']) && !Path::new(source).exists()
}

fn expand(pattern: &str) -> Result<Vec<PathBuf>, DataError> {
    let paths = glob::glob(pattern)
        .map_err(|error| DataError::Pattern { pattern: pattern.to_owned(), reason: error.to_string() })?;
    let mut files = Vec::new();
    for path in paths {
        let path = path.map_err(|error| {
            let path = error.path().to_owned();
            DataError::Io { action: "read", path, source: error.into() }
        })?;
        if path.is_file() {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(DataError::NoMatch { pattern: pattern.to_owned() });
    }
    files.sort();
    Ok(files)
}

fn existing_file(source: &str) -> Result<PathBuf, DataError> {
    let path = PathBuf::from(source);
    let metadata = std::fs::metadata(&path).map_err(|error| DataError::io("read", &path, error))?;
    if metadata.is_dir() {
        return Err(DataError::Folder { path });
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(sources: &[String]) -> DataSpec {
        DataSpec::new(sources.to_vec(), vec!["text".into()])
    }

    #[test]
    fn globs_are_sorted_and_read_no_file_twice() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        for name in ["b.csv", "a.csv", "c.jsonl", "d.csv"] {
            std::fs::write(at(name), "x").unwrap();
        }
        let files = resolve(&spec(&[at("d.csv"), at("*.csv"), at("c.jsonl")])).unwrap();
        let names: Vec<_> =
            files.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["d.csv", "a.csv", "b.csv", "c.jsonl"]);
        assert_eq!(files[3].format.name(), "jsonl");
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(at("notes.doc"), "x").unwrap();
        assert!(matches!(resolve(&spec(&[])), Err(DataError::NoSources)));
        assert!(matches!(resolve(&spec(&[at("*.csv")])), Err(DataError::NoMatch { .. })));
        assert!(matches!(resolve(&spec(&[at("none.csv")])), Err(DataError::NotFound { .. })));
        assert!(matches!(resolve(&spec(&[at("[.csv")])), Err(DataError::Pattern { .. })));
        assert!(matches!(resolve(&spec(&[at("notes.doc")])), Err(DataError::UnknownExtension { .. })));
        let error = resolve(&spec(&[folder.path().display().to_string()])).unwrap_err();
        assert!(error.help().unwrap().contains("*.csv"), "{error}");
    }

    #[test]
    fn a_file_with_brackets_in_its_name_is_no_glob() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows[1].csv").display().to_string();
        std::fs::write(&path, "x").unwrap();
        assert_eq!(resolve(&spec(std::slice::from_ref(&path))).unwrap()[0].path, PathBuf::from(path));
    }

    #[test]
    fn a_wrong_address_is_the_hubs_to_name() {
        for wrong in ["hf://models/a/b/train", "hf://datasets/a", "hf://datasets/a/b/"] {
            assert!(matches!(resolve(&spec(&[wrong.into()])), Err(DataError::Hub(_))), "{wrong}");
        }
    }

    #[test]
    fn fetching_leaves_files_as_they_are() {
        let local = spec(&["*.csv".into(), "none.csv".into()]);
        assert_eq!(fetch(&local, &mut |_| ()).unwrap(), local);
    }
}
