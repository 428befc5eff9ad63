//! The files that come of the replies.
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use distill_eval::answers::contradicts;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tempfile::NamedTempFile;

use crate::cost::Usage;
use crate::error::RationaleError;
use crate::journal::Journal;
use crate::reply::{Parsed, ReplyReader};
use crate::rows::Row;
use crate::session::Session;

/// The columns that are added to those of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputColumns {
    /// Of the rationale; default `rationale`.
    pub rationale: String,
    /// Of the teacher's answer; default `teacher_answer`.
    pub answer: String,
}

impl Default for OutputColumns {
    fn default() -> Self {
        Self { rationale: "rationale".into(), answer: "teacher_answer".into() }
    }
}

impl OutputColumns {
    /// Checks that no row has them already.
    ///
    /// # Errors
    /// [`RationaleError::ColumnTaken`] or [`RationaleError::SameColumn`].
    pub fn check(&self, rows: &[Row]) -> Result<(), RationaleError> {
        if self.rationale == self.answer {
            return Err(RationaleError::SameColumn { column: self.answer.clone() });
        }
        let taken = |column: &&String| rows.iter().any(|row| row.fields.contains_key(*column));
        match [&self.rationale, &self.answer].into_iter().find(taken) {
            Some(column) => Err(RationaleError::ColumnTaken { column: column.clone() }),
            None => Ok(()),
        }
    }
}

/// Which rows the output holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// All whose reply could be read.
    #[default]
    All,
    /// Those whose answer is the gold one, or that have no gold one; the others go to a side file.
    Correct,
}

/// What became of the rows.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Summary {
    /// Rows that were to be asked.
    pub rows: usize,
    /// Rows whose reply could be read.
    pub parsed: usize,
    /// Rows whose reply could not.
    pub unparsed: usize,
    /// Rows without a reply.
    pub failed: usize,
    /// How often each reason was given for a reply that could not be read.
    pub reasons: BTreeMap<String, usize>,
    /// Parsed rows that have a gold answer.
    pub with_gold: usize,
    /// Those of them whose answer is the gold one.
    pub agreeing: usize,
    /// Parsed rows whose rationale speaks for another answer than the teacher's own
    /// ([`contradicts`]).
    pub contradicting: usize,
    /// Rows in the output.
    pub written: usize,
    /// Tokens of all replies.
    pub usage: Usage,
}

/// The side file of an output: `rows.unparsed.jsonl` beside `rows.jsonl`.
pub fn side_file(output: &Path, name: &str) -> PathBuf {
    let stem = output.file_stem().unwrap_or_default().to_string_lossy();
    output.with_file_name(format!("{stem}.{name}.jsonl"))
}

/// Writes the rows that have a reply, in their order, with rationale and answer; beside them
/// `*.unparsed.jsonl`, with the replies that could not be read and why, and, with [`Keep::Correct`],
/// `*.wrong.jsonl`, with the rows that were left out. A side file without a row is not written, and one
/// from before is removed. The output itself appears last, when all else is there.
///
/// # Errors
/// Files that cannot be written.
pub fn write_output(
    output: &Path,
    session: &Session<'_>,
    journal: &Journal,
    reader: &ReplyReader,
    columns: &OutputColumns,
    keep: Keep,
) -> Result<Summary, RationaleError> {
    let mut summary = Summary { rows: session.wanted().len(), ..Summary::default() };
    let mut rows = Pending::create(output)?;
    let mut unparsed = Pending::create(&side_file(output, "unparsed"))?;
    let mut wrong = Pending::create(&side_file(output, "wrong"))?;
    for number in session.wanted() {
        let row = &session.rows()[*number];
        let Some(kept) = journal.replies().get(number) else {
            summary.failed += 1;
            unparsed.line(&rejected(*number, row, "no reply", None))?;
            continue;
        };
        summary.usage += kept.reply.usage;
        let parsed = match reader.read(&kept.reply.text, kept.reply.finish_reason.as_deref(), row) {
            Ok(parsed) => parsed,
            Err(reason) => {
                summary.unparsed += 1;
                *summary.reasons.entry(reason.kind().to_owned()).or_default() += 1;
                unparsed.line(&rejected(*number, row, &reason.to_string(), Some(&kept.reply.text)))?;
                continue;
            }
        };
        let agrees = reader.agrees(&parsed.answer, row);
        summary.count(&parsed, agrees, reader, row);
        let with_answer = with_answer(row, parsed, columns);
        match agrees {
            Some(false) if keep == Keep::Correct => wrong.line(&with_answer)?,
            _ => {
                summary.written += 1;
                rows.line(&with_answer)?;
            }
        }
    }
    unparsed.finish_unless_empty()?;
    wrong.finish_unless_empty()?;
    rows.finish()?;
    Ok(summary)
}

impl Summary {
    fn count(&mut self, parsed: &Parsed, agrees: Option<bool>, reader: &ReplyReader, row: &Row) {
        self.parsed += 1;
        self.with_gold += usize::from(agrees.is_some());
        self.agreeing += usize::from(agrees == Some(true));
        let contradicts = contradicts(&parsed.rationale, &parsed.answer, reader.compare(row), &row.choices);
        self.contradicting += usize::from(contradicts == Some(true));
    }

    /// Fraction of the rows with a gold answer on which the teacher agrees; `None` where there is none.
    pub fn agreement(&self) -> Option<f64> {
        (self.with_gold > 0).then(|| self.agreeing as f64 / self.with_gold as f64)
    }
}

fn with_answer(row: &Row, parsed: Parsed, columns: &OutputColumns) -> Map<String, Value> {
    let mut fields = row.fields.clone();
    fields.insert(columns.rationale.clone(), parsed.rationale.into());
    fields.insert(columns.answer.clone(), parsed.answer.into());
    fields
}

fn rejected(number: usize, row: &Row, reason: &str, reply: Option<&str>) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("row".into(), (number + 1).into());
    fields.insert("reason".into(), reason.into());
    fields.insert("reply".into(), json!(reply));
    // Of their own, so that no column of the data can be taken for one of ours.
    fields.insert("columns".into(), Value::Object(row.fields.clone()));
    fields
}

/// A file that appears whole or not at all.
struct Pending {
    path: PathBuf,
    file: BufWriter<NamedTempFile>,
    lines: usize,
}

impl Pending {
    fn create(path: &Path) -> Result<Self, RationaleError> {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".distill-").suffix(".partial");
        // A temporary file is private by default; this one becomes an ordinary file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(folder).map_err(RationaleError::io("write", path))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file), lines: 0 })
    }

    fn line(&mut self, fields: &Map<String, Value>) -> Result<(), RationaleError> {
        self.lines += 1;
        serde_json::to_writer(&mut self.file, fields)
            .map_err(Into::into)
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(RationaleError::io("write", &self.path))
    }

    fn finish_unless_empty(self) -> Result<(), RationaleError> {
        if self.lines > 0 {
            return self.finish();
        }
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(RationaleError::io("remove", &self.path)(error))
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<(), RationaleError> {
        let fault = || RationaleError::io("write", &self.path);
        let file = self.file.into_inner().map_err(|error| fault()(error.into_error()))?;
        file.as_file().sync_all().map_err(fault())?;
        file.persist(&self.path).map_err(|error| fault()(error.error))?;
        // Without this the new name may be lost in a power cut; not every file system can.
        if let Some(Ok(folder)) = self.path.parent().map(File::open) {
            let _ = folder.sync_all();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
