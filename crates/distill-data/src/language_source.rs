//! Reads documents, prompts with targets, and conversations from files of every format.
use std::path::PathBuf;

use serde_json::Value;

use crate::content::{ContentHasher, FileHash};
use crate::corpus::{PROGRESS_ROWS, Scan, read_file, text_row, value_type};
use crate::error::{DataError, Place};
use crate::formats::{RawRow, RawValue, TextUnit};
use crate::language_row::{LanguageRow, Role, RowParts, messages};
use crate::rationale_row::RationaleFields;
use crate::source::{Column, DataSpec, resolve};
use crate::template::Template;

/// What to read, and what a row is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct LanguageSpec {
    /// The files. Of the columns, documents alone use `text`; `label` is not read.
    pub data: DataSpec,
    /// What a row of a plain text file is.
    pub text_unit: TextUnit,
    /// What a row is made of.
    pub kind: RowKind,
}

/// What a row is made of.
#[derive(Debug, Clone, PartialEq)]
pub enum RowKind {
    /// [`RowParts::Document`]: the text columns of the data, each without white space around it,
    /// joined by a space.
    Document,
    /// [`RowParts::Pair`]. Texts are taken as they are, white space included.
    Pair {
        /// What is read. The texts of a list are joined by a space.
        prompt: Field,
        /// What is written; a list gives a target for each of its texts. `None` where there is
        /// nothing to learn or to compare with.
        target: Option<Field>,
    },
    /// [`RowParts::Chat`].
    Chat {
        /// The column with the messages: a list of objects, or JSON in a text.
        messages: Column,
        /// Whether a conversation needs an answer.
        answers: Answers,
    },
    /// [`RowParts::Rationale`].
    Rationale(Box<RationaleFields>),
}

/// Whether conversations without a message of the assistant are faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// They are: there is nothing to learn of them.
    Required,
    /// They are not: the answer is to be written.
    Optional,
}

/// Where a text comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Field {
    /// A column.
    Column(Column),
    /// A text around columns.
    Template(Template),
}

/// What was found when the rows were read for the first time.
#[derive(Debug, Clone)]
pub struct LanguageScan {
    /// Number of rows, files, and the hash of the rows.
    pub scan: Scan,
    /// Bytes of UTF-8 of what is learnt of each row, for bits per byte.
    pub bytes: Vec<u64>,
}

/// Hands each row to `sink`, one at a time. Returns the files with the rows read from each.
///
/// # Errors
/// Whatever is wrong with a file or a row, a file without rows, and what `sink` returns.
pub fn read_language_rows(
    spec: &LanguageSpec,
    sink: &mut dyn FnMut(LanguageRow) -> Result<(), DataError>,
) -> Result<Vec<(PathBuf, u64)>, DataError> {
    let data = DataSpec { label: None, ..spec.data.clone() };
    let columns = spec.columns();
    let row = |row| match &spec.kind {
        RowKind::Document => text_row(row, &data).map(|row| (RowParts::Document(row.text), row.place)),
        RowKind::Pair { prompt, target } => pair(row, prompt, target.as_ref(), data.header),
        RowKind::Chat { messages, answers } => chat(row, messages, *answers),
        RowKind::Rationale(fields) => {
            fields.row(row, data.header).map(|(row, place)| (RowParts::Rationale(Box::new(row)), place))
        }
    };
    resolve(&data)?
        .into_iter()
        .map(|file| {
            read_file(file, &data, spec.text_unit, &columns, &mut |raw| {
                let (parts, place) = row(raw)?;
                sink(LanguageRow { parts, place })
            })
        })
        .collect()
}

/// Checks all rows and keeps what is needed beside their tokens; `progress` is told the rows read.
///
/// # Errors
/// As [`read_language_rows`].
pub fn scan_language_rows(
    spec: &LanguageSpec,
    progress: &mut dyn FnMut(u64),
) -> Result<LanguageScan, DataError> {
    let (mut content, mut bytes) = (ContentHasher::default(), Vec::new());
    let read = read_language_rows(spec, &mut |row| {
        row.parts.hash(&mut content);
        bytes.push(row.parts.learnt_bytes());
        if (bytes.len() as u64).is_multiple_of(PROGRESS_ROWS) {
            progress(bytes.len() as u64);
        }
        Ok(())
    })?;
    let rows = bytes.len() as u64;
    progress(rows);
    let files = read.iter().map(|(path, rows)| FileHash::of(path, *rows)).collect::<Result<_, _>>()?;
    let scan = Scan { labels: None, rows, files, label_map: None, content: content.finish(None) };
    Ok(LanguageScan { scan, bytes })
}

impl LanguageSpec {
    /// The columns that are read, in the order in which [`pair`] and [`chat`] take their values.
    fn columns(&self) -> Vec<Column> {
        match &self.kind {
            RowKind::Document => self.data.text.clone(),
            RowKind::Pair { prompt, target } => {
                let fields = std::iter::once(prompt).chain(target);
                fields.flat_map(|field| field.columns(self.data.header)).collect()
            }
            RowKind::Chat { messages, .. } => vec![messages.clone()],
            RowKind::Rationale(fields) => fields.columns(self.data.header),
        }
    }
}

impl Field {
    pub(crate) fn columns(&self, header: bool) -> Vec<Column> {
        match self {
            Self::Column(column) => vec![column.clone()],
            Self::Template(template) => template.columns(header),
        }
    }

    /// Columns by name, for a message.
    fn names(&self, header: bool) -> Vec<String> {
        self.columns(header).iter().map(Column::to_string).collect()
    }

    /// The text with `values` in the places of its columns.
    pub(crate) fn fill(&self, values: &[String]) -> String {
        match self {
            Self::Column(_) => values.concat(),
            Self::Template(template) => template.fill(values),
        }
    }

    /// The text with `value` in every place.
    pub(crate) fn fill_all(&self, value: &str) -> String {
        match self {
            Self::Column(_) => value.to_owned(),
            Self::Template(template) => template.fill(&vec![value; template.columns(true).len()]),
        }
    }

    /// The texts that the values of the columns make: one, or with `lists` one for each text of the
    /// first list among them.
    fn texts(
        &self,
        values: &[RawValue],
        header: bool,
        lists: Lists,
        place: &Place,
    ) -> Result<Vec<String>, DataError> {
        let mut alternatives = None;
        let mut joined = Vec::new();
        for (index, (column, value)) in self.columns(header).iter().zip(values).enumerate() {
            if lists == Lists::Apart
                && alternatives.is_none()
                && let Some(strings) = value.strings()
            {
                alternatives = Some((index, strings));
            }
            joined.push(text_of(value, column, place)?);
        }
        let Some((index, strings)) = alternatives else { return Ok(vec![self.fill(&joined)]) };
        let with = |text: &str| {
            joined[index] = text.trim().to_owned();
            self.fill(&joined)
        };
        Ok(strings.into_iter().filter(|text| !text.trim().is_empty()).map(with).collect())
    }
}

/// What becomes of a list of texts.
#[derive(Clone, Copy, PartialEq)]
enum Lists {
    Joined,
    Apart,
}

fn pair(
    row: RawRow,
    prompt: &Field,
    target: Option<&Field>,
    header: bool,
) -> Result<(RowParts, Place), DataError> {
    let RawRow { place, values } = row;
    let (of_prompt, of_target) = values.split_at(prompt.columns(header).len().min(values.len()));
    let filled = |part, field: &Field, values, lists| {
        let texts: Vec<String> = field.texts(values, header, lists, &place)?;
        if texts.iter().all(|text| text.trim().is_empty()) {
            return Err(DataError::EmptyPart { place: place.clone(), part, columns: field.names(header) });
        }
        Ok(texts)
    };
    let prompt = filled("prompt", prompt, of_prompt, Lists::Joined)?.concat();
    let targets = match target {
        Some(field) => filled("target", field, of_target, Lists::Apart)?,
        None => Vec::new(),
    };
    Ok((RowParts::Pair { prompt, targets }, place))
}

pub(crate) fn text_of(value: &RawValue, column: &Column, place: &Place) -> Result<String, DataError> {
    Ok(match value {
        RawValue::Text(text) => text.clone(),
        RawValue::Integer(integer) => integer.to_string(),
        RawValue::Boolean(boolean) => boolean.to_string(),
        RawValue::Json(Value::Number(number)) => number.to_string(),
        RawValue::Null => String::new(),
        other => match other.strings() {
            Some(texts) => {
                let texts: Vec<&str> =
                    texts.into_iter().map(str::trim).filter(|text| !text.is_empty()).collect();
                texts.join(" ")
            }
            None => {
                return Err(value_type(other.kind(), "text, a number or a list of strings", column, place));
            }
        },
    })
}

fn chat(row: RawRow, column: &Column, answers: Answers) -> Result<(RowParts, Place), DataError> {
    let RawRow { place, mut values } = row;
    let fault = |reason| DataError::Conversation { place: place.clone(), column: column.to_string(), reason };
    let found = match values.pop().unwrap_or(RawValue::Null) {
        RawValue::Json(value) => messages(&value),
        RawValue::Text(text) => serde_json::from_str(&text)
            .map_err(|error| format!("not JSON: {error}"))
            .and_then(|value| messages(&value)),
        other => Err(format!("it holds {}", other.kind())),
    };
    let found = found.map_err(&fault)?;
    if found.is_empty() {
        return Err(DataError::EmptyPart { place, part: "conversation", columns: vec![column.to_string()] });
    }
    if answers == Answers::Required && !found.iter().any(|message| message.role == Role::Assistant) {
        return Err(fault("no message is by `assistant`, so there is nothing to learn".to_owned()));
    }
    Ok((RowParts::Chat(found), place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::scan_texts;
    use crate::language_row::Message;

    fn read_as(name: &str, content: &str, unit: TextUnit, kind: RowKind) -> Result<Vec<RowParts>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let data = DataSpec::new([path.display().to_string()], vec!["text".into()]);
        let spec = LanguageSpec { data, text_unit: unit, kind };
        let mut rows = Vec::new();
        let files = read_language_rows(&spec, &mut |row| {
            rows.push(row.parts);
            Ok(())
        })?;
        assert_eq!(files, [(path, rows.len() as u64)]);
        let scan = scan_language_rows(&spec, &mut |_| ()).unwrap();
        assert_eq!(scan.bytes, rows.iter().map(RowParts::learnt_bytes).collect::<Vec<_>>());
        Ok(rows)
    }

    fn read(name: &str, content: &str, kind: RowKind) -> Result<Vec<RowParts>, DataError> {
        read_as(name, content, TextUnit::Line, kind)
    }

    fn columns(prompt: &str, target: &str) -> RowKind {
        let field = |name: &str| Field::Column(name.into());
        RowKind::Pair { prompt: field(prompt), target: Some(field(target)) }
    }

    fn templates(prompt: &str, target: &str) -> RowKind {
        let field = |text: &str| Field::Template(Template::parse(text).unwrap());
        RowKind::Pair { prompt: field(prompt), target: Some(field(target)) }
    }

    fn pair(prompt: &str, targets: &[&str]) -> RowParts {
        let targets = targets.iter().map(|target| (*target).to_owned()).collect();
        RowParts::Pair { prompt: prompt.to_owned(), targets }
    }

    fn conversation() -> RowKind {
        RowKind::Chat { messages: "messages".into(), answers: Answers::Required }
    }

    #[test]
    fn documents_by_unit() {
        let content = "one\ntwo\n\n three \n";
        let documents = |unit| read_as("a.txt", content, unit, RowKind::Document).unwrap();
        let expected = |texts: &[&str]| -> Vec<RowParts> {
            texts.iter().map(|text| RowParts::Document((*text).to_owned())).collect()
        };
        assert_eq!(documents(TextUnit::Line), expected(&["one", "two", "three"]));
        assert_eq!(documents(TextUnit::Paragraph), expected(&["one\ntwo", "three"]));
        assert_eq!(documents(TextUnit::File), expected(&["one\ntwo\n\n three"]));
        let rows = read("a.jsonl", "{\"text\": \"a\\n\\nb \"}\n", RowKind::Document).unwrap();
        assert_eq!(rows, expected(&["a\n\nb"]));
    }

    #[test]
    fn documents_have_the_hash_of_their_texts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        let data = DataSpec::new([path.display().to_string()], vec!["text".into()]);
        let content = scan_texts(&data, &mut |_| ()).unwrap().content;
        let spec = LanguageSpec { data, text_unit: TextUnit::Line, kind: RowKind::Document };
        assert_eq!(scan_language_rows(&spec, &mut |_| ()).unwrap().scan.content, content);
    }

    #[test]
    fn pairs_of_every_format_are_the_same() {
        let expected = [pair("a b ", &[" c"]), pair("1", &["d"])];
        for (name, content) in [
            ("a.csv", "p,t\na b , c\n1,d\n"),
            ("a.tsv", "x\tt\tp\n\t c\ta b \n\td\t1\n"),
            ("a.jsonl", "{\"p\": \"a b \", \"t\": \" c\"}\n{\"t\": \"d\", \"p\": 1}\n"),
            ("a.json", "{\"r1\": {\"p\": \"a b \",\n\"t\": \" c\"}, \"r2\": {\"t\": \"d\", \"p\": 1}}"),
        ] {
            assert_eq!(read(name, content, columns("p", "t")).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn lists_are_joined_in_prompts_and_references_in_targets() {
        let content = "{\"p\": [\"a. \", \"\", \"b.\\n\"], \"t\": [\"c\\n\", \" \", \"d\"], \"n\": 2.5}\n";
        assert_eq!(read("a.jsonl", content, columns("p", "t")).unwrap(), [pair("a. b.", &["c", "d"])]);
        let found = read("a.jsonl", content, templates("{p}\n{{{n}}} {t}:", " {t}!")).unwrap();
        assert_eq!(found, [pair("a. b.\n{2.5} c d:", &[" c!", " d!"])]);
        let prompts = RowKind::Pair { prompt: Field::Column("p".into()), target: None };
        assert_eq!(read("a.jsonl", content, prompts).unwrap(), [pair("a. b.", &[])]);
    }

    #[test]
    fn faulty_pairs_are_named() {
        let fault = |content: &str, kind| read("a.csv", content, kind).unwrap_err();
        let error = fault("p,t\na,b\nc, \n", columns("p", "t"));
        assert!(error.to_string().ends_with("a.csv:3`: empty target; nothing is in `t`"), "{error}");
        let error = fault("p,t\n,b\n", columns("p", "t"));
        assert!(error.to_string().contains("empty prompt"), "{error}");
        let error = fault("text,summary\na,b\n", templates("{txet}", "{summary}"));
        assert!(error.to_string().contains("no column `txet`; the columns are `text`, `summary`"), "{error}");
        assert_eq!(error.help().as_deref(), Some("did you mean `text`?"));
        let error = read("a.jsonl", "{\"p\": {}, \"t\": \"b\"}", columns("p", "t")).unwrap_err();
        assert!(error.to_string().ends_with("holds an object, expected text, a number or a list of strings"));
        let error = read("a.jsonl", "{\"p\": \"a\", \"t\": [\" \"]}", columns("p", "t")).unwrap_err();
        assert!(matches!(error, DataError::EmptyPart { part: "target", .. }), "{error}");
    }

    #[test]
    fn conversations_of_json_and_csv() {
        let messages =
            r#"[{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes, \u00e9"}]"#;
        let expected = RowParts::Chat(vec![
            Message::new(Role::User, "hi"),
            Message::new(Role::Assistant, "yes, \u{e9}"),
        ]);
        let json = format!("{{\"messages\": {messages}}}\n");
        let csv = format!("messages\n\"{}\"\n", messages.replace('"', "\"\""));
        for (name, content) in [("a.jsonl", json), ("a.csv", csv)] {
            let rows = read(name, &content, conversation()).unwrap();
            assert_eq!(rows, std::slice::from_ref(&expected));
            assert_eq!(rows[0].learnt_bytes(), 7);
        }
    }

    #[test]
    fn faulty_conversations_are_named() {
        let fault = |value: &str| {
            let content = format!("{{\"messages\": {value}}}\n");
            read("a.jsonl", &content, conversation()).unwrap_err().to_string()
        };
        assert!(fault("[]").ends_with("empty conversation; nothing is in `messages`"));
        assert!(fault("null").ends_with("column `messages` holds no conversation: it holds nothing"));
        assert!(fault("\"hello\"").contains("no conversation: not JSON: expected value"));
        let question = "[{\"role\": \"user\", \"content\": \"hi\"}]";
        assert!(fault(question).contains("no message is by `assistant`"));
        let optional = RowKind::Chat { messages: "messages".into(), answers: Answers::Optional };
        let content = format!("{{\"messages\": {question}}}\n");
        assert_eq!(read("a.jsonl", &content, optional).unwrap().len(), 1);
    }
}
