use super::*;
use crate::cost::Usage;
use crate::journal::Start;
use crate::prompt::{PromptSettings, Prompter};
use crate::rows::tests::rows;
use crate::rows::{Columns, Rows};
use crate::teacher::Reply;
use distill_eval::answers::Compare;

fn data() -> Rows {
    let choices = ["park", "zoo"];
    let row = |gold: Value| json!({"question": "Where?", "choices": choices, "answer": gold, "n": 1});
    rows(&[row(json!("park")), row(json!("zoo")), row(Value::Null), row(json!("park"))], &Columns::default())
        .unwrap()
}

/// Writes the output of `replies`, which belong to the first rows.
fn write(output: &Path, replies: &[&str], keep: Keep) -> Summary {
    let data = data();
    let prompter = Prompter::new(PromptSettings::default(), Vec::new(), Compare::Choice);
    let session = Session::new(&data, &prompter, &[], None).unwrap();
    let mut journal = Journal::open(output, &json!({}), "p", Start::Anew).unwrap();
    for (row, text) in replies.iter().enumerate().rev() {
        let reply = Reply { text: (*text).to_owned(), finish_reason: None, usage: Usage::default() };
        journal.keep(row, "d".into(), reply).unwrap();
    }
    let reader = ReplyReader::new("Answer:", Compare::Choice);
    write_output(output, &session, &journal, &reader, &OutputColumns::default(), keep).unwrap()
}

fn lines(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

const REPLIES: [&str; 4] = [
    "Trees grow in a park.\nAnswer: (a)",
    "Trees grow in a park.\nAnswer: park",
    "Lions live in a zoo.\nAnswer: park",
    "Nothing.",
];

#[test]
fn all_rows_are_kept_by_default() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let summary = write(&output, &REPLIES, Keep::All);
    assert_eq!((summary.parsed, summary.unparsed, summary.written), (3, 1, 3));
    assert_eq!((summary.with_gold, summary.agreeing, summary.agreement()), (2, 1, Some(0.5)));
    assert_eq!(summary.contradicting, 1, "the zoo speaks against the park");
    let rows = lines(&output);
    let expected = json!({
        "question": "Where?", "choices": ["park", "zoo"], "answer": "park", "n": 1,
        "rationale": "Trees grow in a park.", "teacher_answer": "park",
    });
    assert_eq!((rows.len(), &rows[0]), (3, &expected));
    assert!(side_file(&output, "unparsed").exists() && !side_file(&output, "wrong").exists());
}

#[test]
fn wrong_rows_go_to_a_side_file() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let summary = write(&output, &REPLIES, Keep::Correct);
    assert_eq!((summary.written, summary.agreeing), (2, 1));
    assert_eq!(lines(&output).len(), 2, "the right one, and the one without a gold answer");
    let wrong = lines(&folder.path().join("out.wrong.jsonl"));
    assert_eq!(
        (wrong.len(), &wrong[0]["answer"], &wrong[0]["teacher_answer"]),
        (1, &"zoo".into(), &"park".into())
    );
    assert_eq!(wrong[0].as_object().unwrap().len(), 6, "the same columns as in the output");
}

#[test]
fn side_files_from_before_go() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    write(&output, &REPLIES, Keep::Correct);
    let summary = write(&output, &[REPLIES[0]; 4], Keep::All);
    assert_eq!((summary.unparsed, summary.written), (0, 4));
    assert!(!side_file(&output, "unparsed").exists() && !side_file(&output, "wrong").exists());
    let left: Vec<_> =
        std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the output and the replies: {left:?}");
}

#[test]
fn columns_that_are_taken_are_refused() {
    let columns =
        |rationale: &str, answer: &str| OutputColumns { rationale: rationale.into(), answer: answer.into() };
    let rows = data().rows;
    assert!(OutputColumns::default().check(&rows).is_ok());
    let error = columns("rationale", "answer").check(&rows).unwrap_err();
    assert_eq!(error.to_string(), "the rows have a column `answer` already");
    let error = columns("why", "why").check(&rows).unwrap_err();
    assert_eq!(error.to_string(), "rationale and answer are both to be written to the column `why`");
}
