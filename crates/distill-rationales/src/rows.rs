//! The rows that a teacher is asked about.
use distill_data::{DataSpec, Place, Record, Template, read_records};
use serde_json::{Map, Value};

use crate::error::RationaleError;

/// Columns where neither the command line nor a recipe names any.
const QUESTION: &str = "question";
const CHOICES: &str = "choices";
const ANSWER: &str = "answer";

/// What the columns of a row mean.
#[derive(Debug, Clone, Default)]
pub struct Columns {
    /// The question as it is put, with places for columns; default `{question}`, followed by
    /// `{choices}` on a line of their own where there are choices.
    pub template: Option<Template>,
    /// The column of the question in the default template; default `question`.
    pub question: Option<String>,
    /// The column of the choices: a list, or an object with a list `text`; default `choices`, where
    /// the first row has it.
    pub choices: Option<String>,
    /// The column of the gold answer; default `answer`, where the first row has it.
    pub answer: Option<String>,
}

/// A row and what is asked about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Where it stands.
    pub place: Place,
    /// All its columns.
    pub fields: Map<String, Value>,
    /// The question as it is put.
    pub question: String,
    /// What can be answered, in order; empty where anything can.
    pub choices: Vec<String>,
    /// The gold answer; `None` where there is none, or the column holds nothing.
    pub gold: Option<String>,
}

/// All rows of the data, in order.
#[derive(Debug, Clone)]
pub struct Rows {
    /// The rows; at least one.
    pub rows: Vec<Row>,
    /// The template of their questions.
    pub template: Template,
    /// The column of the gold answers, if the rows have one.
    pub answer: Option<String>,
    columns: FoundColumns,
}

#[derive(Debug, Clone)]
struct FoundColumns {
    choices: Option<String>,
    answer: Option<String>,
}

impl Rows {
    /// Reads the rows of `spec`, whose text and label columns do not count.
    ///
    /// # Errors
    /// Files that cannot be read, a row without a column, or one that holds no text.
    pub fn read(spec: &DataSpec, columns: &Columns) -> Result<Self, RationaleError> {
        let mut records: Vec<Record> = Vec::new();
        read_records(spec, &mut |record| {
            records.push(record);
            Ok(())
        })?;
        Self::of_records(records, columns)
    }

    fn of_records(records: Vec<Record>, columns: &Columns) -> Result<Self, RationaleError> {
        let first = records.first().map(|record| &record.fields);
        let found = |named: &Option<String>, usual: &str| {
            named.clone().or_else(|| first?.contains_key(usual).then(|| usual.to_owned()))
        };
        let (choices, answer) = (found(&columns.choices, CHOICES), found(&columns.answer, ANSWER));
        let template = match &columns.template {
            Some(template) => template.clone(),
            None => default_template(columns.question.as_deref().unwrap_or(QUESTION), choices.as_deref())?,
        };
        let columns = FoundColumns { choices, answer: answer.clone() };
        let rows =
            records.into_iter().map(|record| row(record, &template, &columns)).collect::<Result<_, _>>()?;
        Ok(Self { rows, template, answer, columns })
    }

    /// Makes a row of a record from elsewhere, by the same columns; it must have an answer.
    pub(crate) fn row(&self, record: Record, answer: &str) -> Result<Row, RationaleError> {
        let columns = FoundColumns { answer: Some(answer.to_owned()), ..self.columns.clone() };
        row(record, &self.template, &columns)
    }

    /// Whether any row has a gold answer.
    pub fn have_gold(&self) -> bool {
        self.rows.iter().any(|row| row.gold.is_some())
    }

    /// Whether any row has choices.
    pub fn have_choices(&self) -> bool {
        self.rows.iter().any(|row| !row.choices.is_empty())
    }
}

/// The question, and beneath it the choices.
fn default_template(question: &str, choices: Option<&str>) -> Result<Template, RationaleError> {
    let choices = choices.map(|column| format!("\nChoices:\n{{{column}}}")).unwrap_or_default();
    Ok(Template::parse(&format!("{{{question}}}{choices}"))?)
}

fn row(record: Record, template: &Template, columns: &FoundColumns) -> Result<Row, RationaleError> {
    let choices = match &columns.choices {
        Some(column) => choices_of(&record, column)?,
        None => Vec::new(),
    };
    let mut values = Vec::new();
    for column in template.columns(true) {
        let column = column.to_string();
        values.push(match columns.choices.as_ref() == Some(&column) {
            true => lettered(&choices),
            false => text_of(&record, &column)?,
        });
    }
    let gold = match &columns.answer {
        Some(column) => match record.fields.get(column) {
            None | Some(Value::Null) => None,
            Some(_) => Some(text_of(&record, column)?.trim().to_owned()).filter(|gold| !gold.is_empty()),
        },
        None => None,
    };
    let question = template.fill(&values).trim().to_owned();
    Ok(Row { place: record.place, fields: record.fields, question, choices, gold })
}

/// `(a) park` and so on, each on a line of its own; letters go on with numbers after `z`.
fn lettered(choices: &[String]) -> String {
    let line = |(index, choice): (usize, &String)| match u8::try_from(index) {
        Ok(index) if index < 26 => format!("({}) {choice}", char::from(b'a' + index)),
        _ => format!("({}) {choice}", index + 1),
    };
    choices.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

fn value<'a>(record: &'a Record, column: &str) -> Result<&'a Value, RationaleError> {
    record.fields.get(column).ok_or_else(|| RationaleError::MissingColumn {
        place: record.place.clone(),
        column: column.to_owned(),
        available: record.fields.keys().cloned().collect(),
    })
}

/// The text of a column; the texts of a list are joined by commas.
pub(crate) fn text_of(record: &Record, column: &str) -> Result<String, RationaleError> {
    let fault = |found| value_type(record, column, found, "text, a number or a list of them");
    match value(record, column)? {
        Value::Array(items) => {
            let texts: Option<Vec<String>> = items.iter().map(scalar).collect();
            Ok(texts.ok_or_else(|| fault("a list of other things"))?.join(", "))
        }
        Value::Object(_) => Err(fault("an object")),
        Value::Null => Err(fault("nothing")),
        other => Ok(scalar(other).unwrap_or_default()),
    }
}

fn choices_of(record: &Record, column: &str) -> Result<Vec<String>, RationaleError> {
    let fault =
        |found| value_type(record, column, found, "a list of texts, or an object with such a list `text`");
    let items = match value(record, column)? {
        Value::Null => return Ok(Vec::new()),
        Value::Array(items) => items,
        // As data sets on the hub have it: `{"label": ["A", "B"], "text": ["park", "gravity"]}`.
        Value::Object(object) => match object.get("text") {
            Some(Value::Array(items)) => items,
            _ => return Err(fault("an object without a list `text`")),
        },
        _ => return Err(fault("no list")),
    };
    let texts: Option<Vec<String>> = items.iter().map(scalar).collect();
    texts.ok_or_else(|| fault("a list of other things"))
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(boolean) => Some(boolean.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn value_type(record: &Record, column: &str, found: &'static str, allowed: &'static str) -> RationaleError {
    RationaleError::ValueType { place: record.place.clone(), column: column.to_owned(), found, allowed }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;
    use std::path::Path;

    /// Rows of JSON objects.
    pub(crate) fn rows(objects: &[Value], columns: &Columns) -> Result<Rows, RationaleError> {
        let record = |(number, object): (u64, &Value)| {
            let Value::Object(fields) = object.clone() else { panic!("an object") };
            Record { place: Place::line(Path::new("a.jsonl"), number), fields }
        };
        Rows::of_records((1..).zip(objects).map(record).collect(), columns)
    }

    #[test]
    fn columns_are_found_by_their_usual_names() {
        let row = json!({"question": " Where? ", "choices": ["park", 7], "answer": "park"});
        let read = rows(&[row], &Columns::default()).unwrap();
        assert_eq!(read.rows[0].question, "Where? \nChoices:\n(a) park\n(b) 7");
        assert_eq!((read.rows[0].choices.len(), read.rows[0].gold.as_deref()), (2, Some("park")));
        let plain = rows(&[json!({"question": "Where?"})], &Columns::default()).unwrap();
        assert_eq!(plain.rows[0].question, "Where?");
        assert!(!plain.have_gold() && !plain.have_choices());
    }

    #[test]
    fn a_template_and_columns_may_be_named() {
        let columns = Columns {
            template: Some(Template::parse("{context}\nQ: {q} ({options})").unwrap()),
            choices: Some("options".into()),
            answer: Some("answerKey".into()),
            ..Columns::default()
        };
        let options = json!({"label": ["A", "B"], "text": ["x", "y"]});
        let row = json!({"context": ["a", "b"], "q": 1.5, "options": options, "answerKey": "B"});
        let read = rows(std::slice::from_ref(&row), &columns).unwrap();
        assert_eq!(read.rows[0].question, "a, b\nQ: 1.5 ((a) x\n(b) y)");
        assert_eq!(read.rows[0].gold.as_deref(), Some("B"));
        assert_eq!(read.rows[0].fields, *row.as_object().unwrap());
    }

    #[test]
    fn a_row_without_gold_has_none() {
        let objects = [json!({"question": "a", "answer": null}), json!({"question": "b", "answer": " "})];
        let read = rows(&objects, &Columns::default()).unwrap();
        assert!(read.rows.iter().all(|row| row.gold.is_none()));
    }

    #[test]
    fn faults_name_row_and_column() {
        let message = |object| rows(&[object], &Columns::default()).unwrap_err().to_string();
        assert_eq!(message(json!({"q": 1})), "`a.jsonl:1`: no column `question`; the columns are `q`");
        assert_eq!(
            message(json!({"question": {"a": 1}})),
            "`a.jsonl:1`: column `question` holds an object, expected text, a number or a list of them"
        );
        assert_eq!(
            message(json!({"question": "a", "choices": "x"})),
            "`a.jsonl:1`: column `choices` holds no list, expected a list of texts, or an object with such a list `text`"
        );
        assert!(message(json!({"question": null})).contains("holds nothing"));
    }
}
