//! Examples of questions with their rationales and answers, for prompts.
use std::path::Path;

use distill_data::split::seeded_subset;
use distill_data::{DataSpec, Record, read_records};
use distill_eval::answers::{Compare, contradicts};
use serde_json::Value;

use crate::error::RationaleError;
use crate::rows::{Rows, text_of};

/// The column of answers in files of examples where the rows have no gold ones.
const ANSWER: &str = "answer";

/// How a question is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// The question as it is put.
    pub question: String,
    /// The steps.
    pub rationale: String,
    /// The answer that they lead to.
    pub answer: String,
}

/// The examples of a file: rows with the columns of `rows`, and the rationale in column `rationale`.
/// Their order stays; the answer is in the same column as the gold one, or in `answer`.
///
/// # Errors
/// A file that cannot be read, or an example that lacks something.
pub fn read_examples(path: &Path, rows: &Rows, rationale: &str) -> Result<Vec<Example>, RationaleError> {
    let answer = rows.answer.as_deref().unwrap_or(ANSWER);
    let spec = DataSpec::new([path.display().to_string()], vec![rationale.into()]);
    let mut records: Vec<Record> = Vec::new();
    read_records(&spec, &mut |record| {
        records.push(record);
        Ok(())
    })?;
    let example = |record: Record| {
        let texts = (text_of(&record, rationale)?, text_of(&record, answer)?);
        let row = rows.row(record, answer)?;
        Ok(Example {
            question: row.question,
            rationale: texts.0.trim().to_owned(),
            answer: texts.1.trim().to_owned(),
        })
    };
    records.into_iter().map(example).collect()
}

/// `shots` rows that have a gold answer and a rationale, drawn by `seed`, in their order: their numbers and
/// the examples. Rationales that speak for another answer ([`contradicts`]) are no examples.
///
/// # Errors
/// [`RationaleError::FewExamples`] if there are not as many.
pub fn drawn_examples(
    rows: &Rows,
    rationale: &str,
    shots: usize,
    seed: u64,
    compare: Compare,
) -> Result<(Vec<usize>, Vec<Example>), RationaleError> {
    let found = |(number, row): (usize, &crate::rows::Row)| {
        let rationale = row.fields.get(rationale).and_then(Value::as_str)?.trim();
        let answer = row.gold.clone()?;
        let example = Example { question: row.question.clone(), rationale: rationale.to_owned(), answer };
        let contradicts = contradicts(rationale, &example.answer, compare, &row.choices) == Some(true);
        (!rationale.is_empty() && !contradicts).then_some((number, example))
    };
    let candidates: Vec<(usize, Example)> = rows.rows.iter().enumerate().filter_map(found).collect();
    if candidates.len() < shots {
        let answer = rows.answer.as_deref().unwrap_or(ANSWER);
        let needed = format!("texts in `{rationale}` and `{answer}` that do not contradict each other");
        return Err(RationaleError::FewExamples { found: candidates.len(), needed, shots });
    }
    let drawn = seeded_subset(candidates.len(), shots, seed);
    Ok(drawn.into_iter().map(|index| candidates[index].clone()).unzip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Columns;
    use crate::rows::tests::rows;
    use serde_json::json;

    #[test]
    fn a_file_is_read_by_the_columns_of_the_rows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("examples.jsonl");
        std::fs::write(
            &path,
            "{\"question\": \"Why?\", \"choices\": [\"x\"], \"key\": \"x\", \"rationale\": \" So. \"}\n",
        )
        .unwrap();
        let columns = Columns { answer: Some("key".into()), ..Columns::default() };
        let data = rows(&[json!({"question": "a", "choices": ["b"], "key": "b"})], &columns).unwrap();
        let examples = read_examples(&path, &data, "rationale").unwrap();
        let expected =
            Example { question: "Why?\nChoices:\n(a) x".into(), rationale: "So.".into(), answer: "x".into() };
        assert_eq!(examples, [expected]);
        let error = read_examples(&path, &data, "steps").unwrap_err();
        assert!(error.to_string().contains("no column `steps`"), "{error}");
    }

    #[test]
    fn rows_are_drawn_by_the_seed_and_only_with_all_parts() {
        let objects: Vec<Value> = (0..20)
            .map(|number| match number % 2 {
                0 => json!({"question": "q", "answer": number, "rationale": format!("r{number}")}),
                _ => json!({"question": "q", "answer": number, "rationale": null}),
            })
            .collect();
        let data = rows(&objects, &Columns::default()).unwrap();
        let (numbers, examples) = drawn_examples(&data, "rationale", 4, 1, Compare::Text).unwrap();
        assert_eq!(numbers.len(), 4);
        for (number, example) in numbers.iter().zip(&examples) {
            assert_eq!((number % 2, &example.rationale), (0, &format!("r{number}")));
        }
        assert_eq!(drawn_examples(&data, "rationale", 4, 1, Compare::Text).unwrap().0, numbers);
        assert!(
            (2..6)
                .any(|seed| drawn_examples(&data, "rationale", 4, seed, Compare::Text).unwrap().0 != numbers)
        );
        let error = drawn_examples(&data, "rationale", 11, 1, Compare::Text).unwrap_err();
        assert_eq!(
            error.to_string(),
            "10 rows can be drawn as examples (those with texts in `rationale` and `answer` that do not contradict each other), `shots` asks for 11"
        );
    }
    #[test]
    fn rationales_that_speak_for_another_answer_are_not_drawn() {
        let row = |why: &str| json!({"question": "Where?", "choices": ["park", "zoo"], "answer": "park", "rationale": why});
        let data =
            rows(&[row("Lions live in a zoo."), row("Trees grow in a park.")], &Columns::default()).unwrap();
        let (numbers, _) = drawn_examples(&data, "rationale", 1, 0, Compare::Choice).unwrap();
        assert_eq!(numbers, [1]);
        assert!(drawn_examples(&data, "rationale", 2, 0, Compare::Choice).is_err());
    }
}
