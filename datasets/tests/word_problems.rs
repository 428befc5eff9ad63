//! What the word problems promise: right answers and steps, and that no shortcut finds them.

use distill_datasets::{SEED, word_problems};
use distill_eval::answers::{Compare, contradicts, same_value, value};
use serde_json::Value;
use std::collections::HashSet;

#[derive(Debug)]
struct Row {
    question: String,
    rationale: String,
    answer: String,
    expression: String,
}

/// Rows of the three files.
fn splits(seed: u64) -> [Vec<Row>; 3] {
    let files = word_problems::generate(seed).files;
    ["train.jsonl", "validation.jsonl", "test.jsonl"].map(|name| {
        let (_, bytes) = files.iter().find(|(file, _)| *file == name).unwrap();
        std::str::from_utf8(bytes).unwrap().lines().map(read).collect()
    })
}

fn read(line: &str) -> Row {
    let row: Value = serde_json::from_str(line).unwrap();
    let keys: Vec<&String> = row.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["question", "rationale", "answer", "expression"]);
    let text = |key: &str| row[key].as_str().unwrap().to_owned();
    Row {
        question: text("question"),
        rationale: text("rationale"),
        answer: text("answer"),
        expression: text("expression"),
    }
}

/// The sums of a rationale, as written.
fn sums(rationale: &str) -> Vec<&str> {
    rationale.split(['.', ':']).map(str::trim).filter(|sentence| sentence.contains('=')).collect()
}

#[test]
fn every_step_and_every_answer_is_right() {
    for row in splits(SEED).iter().flatten() {
        let answer: f64 = row.answer.parse().unwrap();
        assert!((2.0..=99.0).contains(&answer) && answer.fract() == 0.0, "{row:?}");
        assert!(value(&row.expression).is_some_and(|found| same_value(found, answer)), "{row:?}");
        assert_eq!(
            contradicts(&row.rationale, &row.answer, Compare::Expression, &[]),
            Some(false),
            "{row:?}"
        );
        let sums = sums(&row.rationale);
        assert!((2..=4).contains(&sums.len()), "{row:?}");
        for sum in &sums {
            let (left, right) = sum.split_once('=').unwrap();
            assert!(
                value(left).zip(value(right)).is_some_and(|(one, other)| same_value(one, other)),
                "{row:?}"
            );
        }
        assert!(sums.last().unwrap().ends_with(&format!("= {}", row.answer)), "{row:?}");
    }
}

/// Every number that a solution starts from is in the question, or is a half, third or quarter of it.
#[test]
fn the_question_holds_what_the_solution_needs() {
    let number_words = [("twice", "2"), ("half", "2"), ("third", "3"), ("quarter", "4")];
    for row in splits(SEED).iter().flatten() {
        let words: HashSet<&str> = row.question.split(|c: char| !c.is_alphanumeric()).collect();
        let numbers = row.expression.split(|c: char| !c.is_ascii_digit()).filter(|number| !number.is_empty());
        for number in numbers {
            let by_word = number_words.iter().any(|(word, known)| *known == number && words.contains(word));
            assert!(words.contains(number) || by_word, "{number} in {row:?}");
        }
    }
}

#[test]
fn no_problem_appears_twice() {
    for seed in [SEED, 1] {
        let splits = splits(seed);
        assert_eq!(
            splits.each_ref().map(Vec::len),
            [word_problems::TRAIN_ROWS, word_problems::VALIDATION_ROWS, word_problems::TEST_ROWS]
        );
        let (mut questions, mut expressions) = (HashSet::new(), HashSet::new());
        for row in splits.iter().flatten() {
            assert!(questions.insert(&row.question), "{row:?}");
            assert!(expressions.insert(&row.expression), "{row:?}");
        }
    }
}

#[test]
fn lengths_and_signs_are_balanced_in_every_file() {
    for rows in splits(SEED) {
        let total = rows.iter().map(|row| sums(&row.rationale).len()).sum::<usize>() as f64;
        for sign in ['+', '-', '*', '/'] {
            let count: usize = rows.iter().map(|row| row.rationale.matches(sign).count()).sum();
            let share = count as f64 / total;
            assert!((0.2..0.3).contains(&share), "{sign}: {share}");
        }
        for length in 2..=4 {
            let count = rows.iter().filter(|row| sums(&row.rationale).len() == length).count();
            let share = count as f64 / rows.len() as f64;
            assert!((0.27..0.4).contains(&share), "{length} sums: {share}");
        }
    }
}

#[test]
fn some_questions_hold_a_number_that_is_not_needed() {
    for rows in splits(SEED) {
        let asides = ["years old.", "children in", "also has", "last week."];
        let with = rows.iter().filter(|row| asides.iter().any(|aside| row.question.contains(aside))).count();
        let share = with as f64 / rows.len() as f64;
        assert!((0.12..0.18).contains(&share), "{share}");
    }
}

#[test]
fn shortcuts_find_next_to_nothing() {
    for seed in [SEED, 1] {
        let shortcuts = word_problems::shortcuts(seed);
        assert_eq!(shortcuts.len(), 8);
        for shortcut in shortcuts {
            assert!((0.001..0.06).contains(&shortcut.accuracy), "{shortcut:?}");
        }
    }
}

#[test]
fn the_files_are_small() {
    let bytes: usize = word_problems::generate(SEED).files.iter().map(|(_, contents)| contents.len()).sum();
    assert!(bytes < 3_000_000, "{bytes}");
}
