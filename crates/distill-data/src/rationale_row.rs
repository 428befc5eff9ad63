//! Rows that teach a label and the steps that lead to it.
use std::fmt;

use crate::content::ContentHasher;
use crate::error::{DataError, Place};
use crate::formats::{RawRow, RawValue};
use crate::language_source::{Field, text_of};
use crate::source::Column;

/// What is between the texts of a list.
const BETWEEN_CHOICES: &str = ", ";

/// A label that is to be written, the steps that lead to it, and what answers are measured by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RationaleRow {
    /// Asks for the label; not empty.
    pub prompt: String,
    /// What is written after it: the label, or the rationale and then the label. Not empty.
    pub target: String,
    /// Asks for the rationale, where that is a task of its own.
    pub rationale_prompt: Option<String>,
    /// What is written after that; `None` for rows that teach their label alone.
    pub rationale: Option<String>,
    /// The right label; not empty.
    pub gold: String,
    /// The labels to choose from, as they are written.
    pub choices: Vec<String>,
}

/// Where the parts of a [`RationaleRow`] come from.
#[derive(Debug, Clone, PartialEq)]
pub struct RationaleFields {
    /// The prompt of the label.
    pub label_prompt: Field,
    /// The label that is learnt.
    pub label: Field,
    /// The prompt of the rationale, where that is a task of its own.
    pub rationale_prompt: Option<Field>,
    /// The rationale.
    pub rationale: Option<Field>,
    /// The right label.
    pub gold: Field,
    /// The label that the rationale argues for: rationales for a label that is not the right one are left out.
    pub argued: Option<(Field, Agreement)>,
    /// Column of the labels to choose from.
    pub choices: Option<Column>,
    /// What stands after each prompt.
    pub separator: String,
    /// What stands between rationale and label where both are written after the prompt of the label.
    pub marker: Option<String>,
}

/// Whether two labels say the same.
#[derive(Clone, Copy)]
pub struct Agreement {
    /// Tells it from others.
    pub name: &'static str,
    /// Whether they do.
    pub agrees: fn(&str, &str) -> bool,
}

impl fmt::Debug for Agreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Agreement {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl RationaleFields {
    /// All fields, in the order in which their values are read.
    fn fields(&self) -> impl Iterator<Item = &Field> {
        let optional = [
            self.rationale_prompt.as_ref(),
            self.rationale.as_ref(),
            self.argued.as_ref().map(|(argued, _)| argued),
        ];
        [&self.label_prompt, &self.label, &self.gold].into_iter().chain(optional.into_iter().flatten())
    }

    pub(crate) fn columns(&self, header: bool) -> Vec<Column> {
        let of_fields = self.fields().flat_map(|field| field.columns(header));
        of_fields.chain(self.choices.clone()).collect()
    }

    /// The row that these values make.
    pub(crate) fn row(&self, raw: RawRow, header: bool) -> Result<(RationaleRow, Place), DataError> {
        let RawRow { place, values } = raw;
        let mut rest = values.as_slice();
        let mut filled = |field: &Field| {
            let columns = field.columns(header);
            let (own, others) = rest.split_at(columns.len().min(rest.len()));
            rest = others;
            // The choices read alike in every format.
            let text = |(column, value): (&Column, &RawValue)| {
                let list = list_in_text(value).filter(|_| self.choices.as_ref() == Some(column));
                joined(list.as_ref().unwrap_or(value), column, &place)
            };
            let texts: Vec<String> = columns.iter().zip(own).map(text).collect::<Result<_, _>>()?;
            Ok::<_, DataError>(field.fill(&texts))
        };
        let needed = |part, text: String, field: &Field| {
            if text.trim().is_empty() {
                let columns = field.columns(header).iter().map(Column::to_string).collect();
                return Err(DataError::EmptyPart { place: place.clone(), part, columns });
            }
            Ok(text)
        };
        let prompt = needed("prompt", filled(&self.label_prompt)?, &self.label_prompt)?;
        let label = needed("label", filled(&self.label)?, &self.label)?.trim().to_owned();
        let gold = needed("label", filled(&self.gold)?, &self.gold)?.trim().to_owned();
        let rationale_prompt = self.rationale_prompt.as_ref().map(&mut filled).transpose()?;
        let rationale = self.rationale.as_ref().map(&mut filled).transpose()?;
        let argued = match &self.argued {
            Some((field, agreement)) => (agreement.agrees)(&filled(field)?, &gold),
            None => true,
        };
        let rationale =
            rationale.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty() && argued);
        let choices = self.choices_of(rest.first(), &place)?;
        let separated = |prompt: String| prompt + &self.separator;
        let (target, rationale) = match &self.marker {
            Some(marker) => (format!("{}{marker}{label}", rationale.unwrap_or_default()), None),
            None => (label, rationale),
        };
        let row = RationaleRow {
            prompt: separated(prompt),
            target,
            rationale_prompt: rationale_prompt.filter(|prompt| !prompt.trim().is_empty()).map(separated),
            rationale,
            gold,
            choices,
        };
        Ok((row, place))
    }

    fn choices_of(&self, value: Option<&RawValue>, place: &Place) -> Result<Vec<String>, DataError> {
        let Some(column) = &self.choices else { return Ok(Vec::new()) };
        let value = value.unwrap_or(&RawValue::Null);
        let list = list_in_text(value);
        let value = list.as_ref().unwrap_or(value);
        let texts: Vec<&str> = value.strings().unwrap_or_default();
        if texts.len() < 2 || texts.iter().any(|text| text.trim().is_empty()) {
            return Err(DataError::Choices { place: place.clone(), column: column.to_string() });
        }
        // As the label is written: with whatever its template has around its column.
        Ok(texts.into_iter().map(|text| self.label.fill_all(text.trim()).trim().to_owned()).collect())
    }
}

/// A list that was written as text, as in a CSV file.
fn list_in_text(value: &RawValue) -> Option<RawValue> {
    let RawValue::Text(text) = value else { return None };
    let list = serde_json::from_str(text).ok().map(RawValue::Json)?;
    list.strings().is_some().then_some(list)
}

/// A value as it stands in a prompt: the texts of a list with commas.
fn joined(value: &RawValue, column: &Column, place: &Place) -> Result<String, DataError> {
    match value.strings() {
        Some(texts) => {
            let texts: Vec<&str> = texts.into_iter().map(str::trim).filter(|text| !text.is_empty()).collect();
            Ok(texts.join(BETWEEN_CHOICES))
        }
        None => text_of(value, column, place),
    }
}

impl RationaleRow {
    /// Bytes of UTF-8 of the label as it is written.
    pub(crate) fn learnt_bytes(&self) -> usize {
        self.target.len()
    }

    pub(crate) fn hash(&self, hasher: &mut ContentHasher) {
        let optional =
            [&self.rationale_prompt, &self.rationale].map(|text| text.as_deref().unwrap_or_default());
        for text in [self.prompt.as_str(), &self.target, &self.gold].into_iter().chain(optional) {
            hasher.text(text);
        }
        hasher.text(&self.choices.len().to_string());
        self.choices.iter().for_each(|choice| hasher.text(choice));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language_source::{LanguageSpec, RowKind, read_language_rows};
    use crate::source::DataSpec;
    use crate::{RowParts, Template, TextUnit};

    fn field(text: &str) -> Field {
        Field::Template(Template::parse(text).unwrap())
    }

    fn fields() -> RationaleFields {
        let same = |label: &str, gold: &str| label.trim() == gold.trim();
        RationaleFields {
            label_prompt: field("predict: {q} choices: {c}"),
            label: field("{t}."),
            rationale_prompt: Some(field("explain: {q}")),
            rationale: Some(field("{r}")),
            gold: field("{a}"),
            argued: Some((field("{t}"), Agreement { name: "same", agrees: same })),
            choices: Some("c".into()),
            separator: "\n".to_owned(),
            marker: None,
        }
    }

    fn read(name: &str, content: &str, fields: RationaleFields) -> Result<Vec<RationaleRow>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        let data = DataSpec::new([path.display().to_string()], vec!["text".into()]);
        let spec =
            LanguageSpec { data, text_unit: TextUnit::Line, kind: RowKind::Rationale(Box::new(fields)) };
        let mut rows = Vec::new();
        read_language_rows(&spec, &mut |row| {
            if let RowParts::Rationale(row) = row.parts {
                rows.push(*row);
            }
            Ok(())
        })?;
        Ok(rows)
    }

    const ROWS: &str = r#"{"q": "Hot?", "c": ["sun", "moon"], "a": "sun", "t": "sun", "r": " It burns. "}
{"q": "Cold?", "c": ["sun", "moon"], "a": "moon", "t": "sun", "r": "It does not."}
{"q": "Far?", "c": ["sun", "moon"], "a": "sun", "t": "sun", "r": null}
"#;

    #[test]
    fn wrong_and_missing_rationales_leave_their_labels() {
        let rows = read("a.jsonl", ROWS, fields()).unwrap();
        let first = RationaleRow {
            prompt: "predict: Hot? choices: sun, moon\n".to_owned(),
            target: "sun.".to_owned(),
            rationale_prompt: Some("explain: Hot?\n".to_owned()),
            rationale: Some("It burns.".to_owned()),
            gold: "sun".to_owned(),
            choices: vec!["sun.".to_owned(), "moon.".to_owned()],
        };
        assert_eq!(rows[0], first);
        assert_eq!(
            (rows[1].target.as_str(), rows[1].gold.as_str(), &rows[1].rationale),
            ("sun.", "moon", &None)
        );
        assert_eq!(rows[2].rationale, None);
        let kept = read("a.jsonl", ROWS, RationaleFields { argued: None, ..fields() }).unwrap();
        assert_eq!(kept[1].rationale.as_deref(), Some("It does not."));
    }

    #[test]
    fn one_text_holds_both() {
        let fields =
            RationaleFields { rationale_prompt: None, marker: Some("\nAnswer: ".to_owned()), ..fields() };
        let rows = read("a.jsonl", ROWS, fields).unwrap();
        assert_eq!(rows[0].target, "It burns.\nAnswer: sun.");
        assert_eq!(rows[2].target, "\nAnswer: sun.");
        assert!(rows.iter().all(|row| row.rationale.is_none() && row.rationale_prompt.is_none()));
    }

    #[test]
    fn choices_may_be_written_as_text() {
        let csv = "q,c,a,t,r\nHot?,\"[\"\"sun\"\", \"\"moon\"\"]\",sun,sun,x\n";
        let rows = read("a.csv", csv, fields()).unwrap();
        assert_eq!(rows[0].choices, ["sun.", "moon."]);
        assert_eq!(rows[0].prompt, "predict: Hot? choices: sun, moon\n", "as in JSON lines");
    }

    #[test]
    fn faults_name_their_row() {
        let fault = |content: &str| read("a.jsonl", content, fields()).unwrap_err();
        let error = fault("{\"q\": \"Hot?\", \"c\": [\"sun\"], \"a\": \"sun\", \"t\": \"sun\", \"r\": \"\"}");
        assert!(error.to_string().ends_with("a.jsonl:1`: column `c` holds no list of choices"), "{error}");
        let error =
            fault("{\"q\": \"Hot?\", \"c\": [\"sun\", \"moon\"], \"a\": \" \", \"t\": \"sun\", \"r\": \"\"}");
        assert!(matches!(error, DataError::EmptyPart { part: "label", .. }), "{error}");
    }
}
