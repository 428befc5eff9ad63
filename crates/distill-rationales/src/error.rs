//! What can be wrong with asking a teacher, and the way out.
use std::path::PathBuf;

use distill_data::{DataError, Place};

use crate::teacher::TeacherError;

/// Why rationales cannot be asked for, or not go on; [`RationaleError::help`] says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RationaleError {
    /// The rows, or a template, are not usable.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The teacher refuses, or is not there.
    #[error(transparent)]
    Teacher(#[from] TeacherError),
    /// A row without a column that is asked for.
    #[error("{place}: no column `{column}`; the columns are {}", quoted(available))]
    MissingColumn {
        /// The row.
        place: Place,
        /// The column as asked for.
        column: String,
        /// Columns that the row has.
        available: Vec<String>,
    },
    /// A value that makes no text.
    #[error("{place}: column `{column}` holds {found}, expected {allowed}")]
    ValueType {
        /// The row.
        place: Place,
        /// The column.
        column: String,
        /// What it holds.
        found: &'static str,
        /// What it may hold.
        allowed: &'static str,
    },
    /// A column of the output that the rows have already.
    #[error("the rows have a column `{column}` already")]
    ColumnTaken {
        /// The column.
        column: String,
    },
    /// Columns of the output that share a name.
    #[error("rationale and answer are both to be written to the column `{column}`")]
    SameColumn {
        /// The column.
        column: String,
    },
    /// A setting that needs another one.
    #[error("{setting} needs {needed}")]
    Needs {
        /// The setting.
        setting: &'static str,
        /// What is missing.
        needed: &'static str,
        /// What to do.
        help: &'static str,
    },
    /// A number out of its range.
    #[error("`{name}` must be {allowed}, found `{found}`")]
    Range {
        /// The setting.
        name: &'static str,
        /// What is allowed.
        allowed: &'static str,
        /// The value as given.
        found: String,
    },
    /// Fewer rows to draw examples from than are asked for.
    #[error("{found} rows can be drawn as examples (those with {needed}), `shots` asks for {shots}")]
    FewExamples {
        /// Rows that can be drawn.
        found: usize,
        /// What makes a row an example.
        needed: String,
        /// Examples that are asked for.
        shots: usize,
    },
    /// No row is left to be asked.
    #[error("no row is left to ask: all {rows} serve as examples")]
    NoRows {
        /// Rows that were read.
        rows: usize,
    },
    /// The output is there already.
    #[error("`{path}` exists already")]
    OutputExists {
        /// The file.
        path: PathBuf,
    },
    /// Another process is writing the output.
    #[error("another process is asking for `{path}`")]
    OutputBusy {
        /// The file of the replies.
        path: PathBuf,
    },
    /// The replies that are kept are those to other questions.
    #[error("`{path}` holds {replies} replies that were asked for with {what}")]
    Changed {
        /// The file of the replies.
        path: PathBuf,
        /// What changed: "another teacher", say, with both values where they are short.
        what: String,
        /// Replies that it holds.
        replies: usize,
    },
    /// The file of the replies is damaged.
    #[error("`{path}:{line}`: {reason}")]
    Journal {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Reading or writing failed.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// "read" or "write".
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl RationaleError {
    /// What the reader of the error can do, one sentence; `None` where the message says it all.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Data(error) => error.help(),
            Self::Teacher(error) => error.help(),
            Self::MissingColumn { .. } => {
                Some("name the columns with `--question`, `--choices`, `--answer`, or in `--prompt-template`".into())
            }
            Self::ColumnTaken { .. } | Self::SameColumn { .. } => {
                Some("name others with `--rationale-column` and `--answer-column`".into())
            }
            Self::Needs { help, .. } => Some((*help).into()),
            Self::FewExamples { .. } => {
                Some("lower `--shots`, or write examples to a file of JSON lines and give it as `--examples`".into())
            }
            Self::NoRows { .. } => Some("lower `--shots`, or give examples by `--examples`".into()),
            Self::OutputExists { .. } => {
                Some("name another `--output`, or begin anew with `--restart`, which replaces it".into())
            }
            Self::OutputBusy { .. } => Some("wait for it, or name another `--output`".into()),
            Self::Changed { .. } => Some(
                "take back the change to go on, name another `--output`, or begin anew with `--restart`, which throws \
                 the replies away"
                    .into(),
            ),
            Self::Journal { path, .. } => Some(format!(
                "remove the line if you can spare the reply, or `{}` to ask all rows anew",
                path.display()
            )),
            Self::ValueType { .. } | Self::Range { .. } | Self::Io { .. } => None,
        }
    }

    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
