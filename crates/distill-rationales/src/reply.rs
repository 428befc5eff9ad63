//! Rationale and answer in what a teacher wrote.
use distill_eval::answers::{Compare, chosen, stated_value, value};

use crate::prompt::SEPARATOR;
use crate::rows::{Row, Rows};

/// What a reply says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// The steps; not empty.
    pub rationale: String,
    /// The answer: one of the choices in its own words, a number or sum, or a text; not empty.
    pub answer: String,
}

/// Why a reply says nothing that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unparsed {
    /// There is no text.
    #[error("the reply is empty{}", ended(finish_reason))]
    Empty {
        /// Why it ended.
        finish_reason: Option<String>,
    },
    /// There is no answer.
    #[error("no `{marker}` in the reply{}", ended(finish_reason))]
    NoMarker {
        /// What was looked for.
        marker: String,
        /// Why the reply ended.
        finish_reason: Option<String>,
    },
    /// Nothing follows the last marker.
    #[error("nothing follows the last `{marker}`{}", ended(finish_reason))]
    NoAnswer {
        /// What was looked for.
        marker: String,
        /// Why the reply ended.
        finish_reason: Option<String>,
    },
    /// Nothing comes before the answer.
    #[error("no rationale before the answer")]
    NoRationale,
    /// The answer means none of the choices, or several.
    #[error("`{said}` is none of the choices")]
    NoChoice {
        /// The answer as it was given.
        said: String,
    },
    /// The answer has no value.
    #[error("`{said}` is no number and no sum")]
    NoValue {
        /// The answer as it was given.
        said: String,
    },
}

impl Unparsed {
    /// The reason without what is a reply's own, to be counted.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Empty { .. } => "empty",
            Self::NoMarker { finish_reason: Some(reason), .. } if reason == "length" => "cut off",
            Self::NoMarker { .. } => "no marker",
            Self::NoAnswer { .. } => "no answer",
            Self::NoRationale => "no rationale",
            Self::NoChoice { .. } => "none of the choices",
            Self::NoValue { .. } => "no number",
        }
    }
}

fn ended(finish_reason: &Option<String>) -> String {
    match finish_reason.as_deref() {
        Some("length") => "; it was cut at the most tokens allowed".to_owned(),
        Some(reason) if reason != "stop" && reason != "eos" => format!("; it ended by `{reason}`"),
        _ => String::new(),
    }
}

/// How answers are compared where nobody says: by choice where the rows have choices, by value where
/// all gold answers have one, else by their words.
pub fn usual_comparison(rows: &Rows) -> Compare {
    let mut golds = rows.rows.iter().filter_map(|row| row.gold.as_deref()).peekable();
    if rows.have_choices() {
        Compare::Choice
    } else if golds.peek().is_some() && golds.all(|gold| value(gold).is_some()) {
        Compare::Expression
    } else {
        Compare::Text
    }
}

/// Reads replies.
#[derive(Debug, Clone)]
pub struct ReplyReader {
    /// Lower case; not empty.
    marker: String,
    written: String,
    compare: Compare,
}

impl ReplyReader {
    /// Finds the answer behind the last `marker`, whatever its case.
    pub fn new(marker: &str, compare: Compare) -> Self {
        Self { marker: marker.trim().to_lowercase(), written: marker.trim().to_owned(), compare }
    }

    /// Rationale and answer of a reply to `row`.
    ///
    /// The answer is what follows the last marker on its line, or else on the next line that is not
    /// blank; the rationale is all before the marker. Marks of Markdown around both do not count, nor
    /// does anything from a [`SEPARATOR`] line on.
    ///
    /// # Errors
    /// [`Unparsed`] says what is missing.
    pub fn read(&self, text: &str, finish_reason: Option<&str>, row: &Row) -> Result<Parsed, Unparsed> {
        let finish_reason = finish_reason.map(str::to_owned);
        let text = before_separator(text);
        if text.trim().is_empty() {
            return Err(Unparsed::Empty { finish_reason });
        }
        let marker = || self.written.clone();
        let Some((before, after)) = self.split(text) else {
            return Err(Unparsed::NoMarker { marker: marker(), finish_reason });
        };
        let said = after.lines().map(unmarked).find(|line| !line.is_empty());
        let said = said.ok_or_else(|| Unparsed::NoAnswer { marker: marker(), finish_reason })?;
        let rationale = unmarked(before);
        if rationale.is_empty() {
            return Err(Unparsed::NoRationale);
        }
        Ok(Parsed { rationale: rationale.to_owned(), answer: self.answer(said, row)? })
    }

    /// Whether an answer is the gold one; `None` for rows without.
    pub fn agrees(&self, answer: &str, row: &Row) -> Option<bool> {
        Some(self.compare(row).agrees(answer, row.gold.as_deref()?, &row.choices))
    }

    /// How the answer to a row is compared: a row without choices has none to compare by.
    pub fn compare(&self, row: &Row) -> Compare {
        match self.compare {
            Compare::Choice if row.choices.is_empty() => Compare::Text,
            compare => compare,
        }
    }

    fn answer(&self, said: &str, row: &Row) -> Result<String, Unparsed> {
        match self.compare(row) {
            Compare::Choice => match chosen(said, &row.choices) {
                Some(choice) => Ok(row.choices[choice].clone()),
                None => Err(Unparsed::NoChoice { said: said.to_owned() }),
            },
            Compare::Expression => {
                let bare = said.trim_end_matches(['.', ',', ';']).trim_end();
                match (value(bare), stated_value(said)) {
                    (Some(_), _) => Ok(bare.to_owned()),
                    // "42 apples" is 42.
                    (None, Some(value)) => Ok(value.to_string()),
                    (None, None) => Err(Unparsed::NoValue { said: said.to_owned() }),
                }
            }
            Compare::Text => Ok(said.to_owned()),
        }
    }

    /// What comes before the last marker and what after it.
    fn split<'a>(&self, text: &'a str) -> Option<(&'a str, &'a str)> {
        if self.marker.is_empty() {
            return None;
        }
        text.char_indices().rev().find_map(|(start, _)| {
            let inside_a_word = text[..start].ends_with(char::is_alphanumeric)
                && self.marker.starts_with(char::is_alphanumeric);
            let length = (!inside_a_word).then(|| prefix_length(&text[start..], &self.marker))??;
            Some((&text[..start], &text[start + length..]))
        })
    }
}

/// Bytes of the prefix of `text` that is `lower` when its case is dropped.
fn prefix_length(text: &str, lower: &str) -> Option<usize> {
    let mut wanted = lower.chars();
    let mut length = 0;
    for letter in text.chars() {
        if wanted.as_str().is_empty() {
            break;
        }
        for lower in letter.to_lowercase() {
            if wanted.next() != Some(lower) {
                return None;
            }
        }
        length += letter.len_utf8();
    }
    wanted.as_str().is_empty().then_some(length)
}

/// The reply up to a line that separates the parts of a plain prompt: a model that knows no end goes on
/// with a question of its own.
fn before_separator(text: &str) -> &str {
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        if line.trim() == SEPARATOR {
            return &text[..end];
        }
        end += line.len();
    }
    text
}

/// Without white space and Markdown's marks around it: `**42**`, `> 42`, a heading's `#`.
fn unmarked(text: &str) -> &str {
    let marks = |c: char| c.is_whitespace() || matches!(c, '*' | '_' | '`' | '#');
    text.trim_matches(marks).trim_start_matches(|c| c == '>' || marks(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Columns;
    use crate::rows::tests::rows;
    use serde_json::json;

    fn row() -> Row {
        let object = json!({"question": "Where?", "choices": ["park", "train station"], "answer": "park"});
        rows(&[object], &Columns::default()).unwrap().rows.remove(0)
    }

    fn sum() -> Row {
        rows(&[json!({"question": "2 + 2?", "answer": "4"})], &Columns::default()).unwrap().rows.remove(0)
    }

    fn read(text: &str, compare: Compare, row: &Row) -> Result<(String, String), String> {
        let parsed = ReplyReader::new("Answer:", compare).read(text, Some("stop"), row);
        parsed.map(|parsed| (parsed.rationale, parsed.answer)).map_err(|reason| reason.to_string())
    }

    #[test]
    fn the_last_marker_counts() {
        for text in [
            "Trains stop there.\nAnswer: train station",
            "Trains stop there.\n**Answer:** (b)",
            "Trains stop there.\n\n## ANSWER:\n\nB. train station.\n\nI hope that helps!",
            "  Trains stop there. answer:b",
            "Trains stop there.\nAnswer: b\n\n###\n\nWhat else?\n\nNone.\nAnswer: park",
        ] {
            let expected = Ok(("Trains stop there.".into(), "train station".into()));
            assert_eq!(read(text, Compare::Choice, &row()), expected, "{text}");
        }
        let twice = read("Answer: park?\nNo, trains.\nAnswer: b", Compare::Choice, &row()).unwrap();
        assert_eq!(twice, ("Answer: park?\nNo, trains.".into(), "train station".into()));
        let other = ReplyReader::new("So the answer is", Compare::Expression);
        let parsed = other.read("2 and 2 are 4. so the answer is 4.", None, &sum()).unwrap();
        assert_eq!((parsed.rationale.as_str(), parsed.answer.as_str()), ("2 and 2 are 4.", "4"));
        let umlaut =
            ReplyReader::new("Lösung:", Compare::Text).read("İ ist LÖSUNG: ja", None, &sum()).unwrap();
        assert_eq!((umlaut.rationale.as_str(), umlaut.answer.as_str()), ("İ ist", "ja"));
    }

    #[test]
    fn sums_and_numbers_are_answers() {
        for (said, expected) in
            [("4", "4"), ("(8 / 2).", "(8 / 2)"), ("$1,200", "$1,200"), ("4 apples", "4"), ("**4.5**", "4.5")]
        {
            let text = format!("So.\nAnswer: {said}");
            assert_eq!(
                read(&text, Compare::Expression, &sum()),
                Ok(("So.".into(), expected.into())),
                "{said}"
            );
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        let cases = [
            (" \n", "the reply is empty"),
            ("Trains stop there.", "no `Answer:` in the reply"),
            ("Trains. MyAnswer: park", "no `Answer:` in the reply"),
            ("Trains.\nAnswer: **", "nothing follows the last `Answer:`"),
            ("Answer: park", "no rationale before the answer"),
            ("**Answer:** park", "no rationale before the answer"),
            ("Trains.\nAnswer: the moon", "`the moon` is none of the choices"),
            ("Trains.\nAnswer: park or train station", "`park or train station` is none of the choices"),
        ];
        for (text, reason) in cases {
            assert_eq!(read(text, Compare::Choice, &row()), Err(reason.into()), "{text}");
        }
        assert_eq!(
            read("So.\nAnswer: many", Compare::Expression, &sum()),
            Err("`many` is no number and no sum".into())
        );
        let cut =
            ReplyReader::new("Answer:", Compare::Text).read("Trains", Some("length"), &row()).unwrap_err();
        assert_eq!(cut.to_string(), "no `Answer:` in the reply; it was cut at the most tokens allowed");
        let filtered = ReplyReader::new("Answer:", Compare::Text).read("", Some("content_filter"), &row());
        assert_eq!(filtered.unwrap_err().to_string(), "the reply is empty; it ended by `content_filter`");
    }

    #[test]
    fn answers_agree_by_the_kind_of_the_row() {
        let reader = ReplyReader::new("Answer:", Compare::Choice);
        assert_eq!(reader.agrees("park", &row()), Some(true));
        assert_eq!(reader.agrees("train station", &row()), Some(false));
        assert_eq!(reader.agrees("park", &Row { gold: None, ..row() }), None);
        assert_eq!(reader.agrees("4", &sum()), Some(true), "a row without choices");
        assert_eq!(ReplyReader::new("Answer:", Compare::Expression).agrees("(8 / 2)", &sum()), Some(true));
    }

    #[test]
    fn the_rows_tell_how_answers_are_compared() {
        let kind =
            |objects: &[serde_json::Value]| usual_comparison(&rows(objects, &Columns::default()).unwrap());
        assert_eq!(kind(&[json!({"question": "a", "choices": ["b"], "answer": 1})]), Compare::Choice);
        assert_eq!(
            kind(&[json!({"question": "a", "answer": "( 84.0 / 2.0 )"}), json!({"question": "a"})]),
            Compare::Expression
        );
        assert_eq!(kind(&[json!({"question": "a", "answer": "yes"})]), Compare::Text);
        assert_eq!(kind(&[json!({"question": "a"})]), Compare::Text);
    }
}
